"""Accepted ticks as one model reads them: rows of its features.

Stateless: what a feature compares a tick with is the newest tick of its series, which the stream
remembers. A tick whose values the model cannot use (the logarithm of a negative price) gives no
row, and the one after it begins a new run: its predecessor says nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.features import FeatureSet
from detector.core.intake import Accepted
from detector.core.ticks import Bool, Float32, Float64, Int64, rows_of_numbers


@dataclass(frozen=True, slots=True)
class Reading:
    """The ticks of a batch, before any is accepted.

    operands: (n, operands) what the features are made of
    usable: (n,) whether they suffice for this model: all finite
    """

    operands: Float64
    usable: Bool

    def part(self, rows: slice) -> Reading:
        return Reading(self.operands[rows], self.usable[rows])


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """The m accepted ticks that the model can use, grouped by slot.

    row, slot, restart, time_ns: (m,) as in Accepted
    features: (m, features) float32; NaN in a run's first tick if a feature looks back
    """

    row: Int64
    slot: Int64
    restart: Bool
    features: Float32
    time_ns: Int64


def read(features: FeatureSet, values: Float64) -> Reading:
    """values: (n, fields)."""
    operands = features.operands(values)
    return Reading(operands, rows_of_numbers(operands))


def feature_rows(features: FeatureSet, accepted: Accepted, reading: Reading) -> FeatureRows:
    """The rows of a batch's accepted ticks."""
    operands, usable = reading.operands[accepted.row], reading.usable[accepted.row]
    before = features.operands(accepted.values_before)
    all_usable, restart = bool(usable.all()), accepted.restart
    readable = rows_of_numbers(before)
    if not (all_usable and readable.all()):
        was_usable = np.concatenate([usable[:1], usable[:-1]])
        was_usable[accepted.first] = readable
        restart = restart | (accepted.known & ~was_usable)
    previous = operands
    if features.needs_previous:
        previous = np.concatenate([operands[:1], operands[:-1]])
        # Of unseen series there are zeros: restart masks them.
        previous[accepted.first] = before
    rows = features.compute(operands, previous, accepted.time_ns, accepted.previous_ns, ~restart)
    if all_usable:  # always so for the model that decided what is accepted
        return FeatureRows(accepted.row, accepted.slot, restart, rows, accepted.time_ns)
    return FeatureRows(
        accepted.row[usable],
        accepted.slot[usable],
        restart[usable],
        rows[usable],
        accepted.time_ns[usable],
    )
