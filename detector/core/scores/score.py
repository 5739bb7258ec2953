"""What a score is: windows to one number each, higher the stranger, and why."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detector.core.graphs import Engine
from detector.core.slots import SlotColumns
from detector.core.ticks import Bool, Float32, Float64, Int64
from detector.core.windows import Windows

#: No finite score is above it. A window whose error is not finite (a network with relu knows no
#: bounds) is as strange as can be: its score is this, above every threshold.
LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True, slots=True)
class Habits:
    """What is known of a series after every so many windows.

    row: (b,) of those windows among the w
    drift: (b,) how rare, by the calibration, a usual window of the series is: its evidence
    lasting: (b,) for how long an incident has been learned from; 0: there is none, 1: from now on
    """

    row: Int64
    drift: Float64
    lasting: Float64


@dataclass(frozen=True, slots=True)
class Scored:
    """score: (w,); errors: (w, features) normalised; evidence, weight: (w, views) what each view
    says and its part in the score, no columns where there are no views; static, adaptive: (w,) the
    score as calibrated and in the light of the tail of each series: the score is one of them, and
    both are the score where it follows no tail; cold: (w,) of a series that is not known yet;
    habits: None where none are followed."""

    score: Float64
    errors: Float32
    evidence: Float64
    weight: Float64
    static: Float64
    adaptive: Float64
    cold: Bool
    habits: Habits | None = None


@dataclass(frozen=True, slots=True)
class Why:
    """shares: of the features, they sum to 1; views: evidence by name, empty where there are none;
    expected: (k, features) of the window's last k ticks, in the features' own units."""

    shares: Float64
    views: Mapping[str, float]
    expected: Float32


@dataclass(frozen=True, slots=True)
class Acquaintance:
    """How well k series are known. cold: those that cannot alert yet; borrowed: those judged by
    the tail of the calibration more than by their own; drift: (k,) as in Habits."""

    cold: int
    borrowed: int
    drift: Float64


class Score(Protocol):
    """One instance a track. states: of every series, by what each is about."""

    @property
    def engine(self) -> Engine:
        """What its windows are looked at with."""

    @property
    def states(self) -> Mapping[str, SlotColumns]: ...

    def acquaintance(self, slots: Int64) -> Acquaintance:
        """With these series."""

    def of(self, slot: Int64, windows: Windows) -> Scored:
        """Of w windows grouped by slot, in order within each."""

    def explain(self, scored: Scored, at: Int64, observed: Float32) -> list[Why]:
        """Of the windows at these positions among the w. observed: (k, length, features)"""


def finite_or_largest(score: Float64) -> Float64:
    finite = np.isfinite(score)
    return score if finite.all() else np.where(finite, score, LARGEST)
