"""Moving z-score: how many deviations a tick is from the mean of the ticks just before it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.scaling import Scaling
from detector.core.ticks import Float32, Float64
from detector.evaluate.baselines.windows import require_ticks, scaling_of

_LENGTH = 64
#: A deviation below this part of a scale is taken for it: else the first tick after a still
#: stretch would be infinitely far.
_FLOOR = 0.1
_CHUNK_NUMBERS = 2_000_000


@dataclass(frozen=True, slots=True)
class Moving:
    scaling: Scaling

    def score(self, rows: Float32) -> Float64:
        found = np.full(len(rows), np.nan)
        if len(rows) <= _LENGTH:
            return found
        scaled = self.scaling.apply(rows).astype(np.float64)
        step = max(1, _CHUNK_NUMBERS // (_LENGTH * scaled.shape[1]))
        for begin in range(_LENGTH, len(rows), step):
            own = scaled[begin - _LENGTH : begin + step]
            before = np.lib.stride_tricks.sliding_window_view(own[:-1], _LENGTH, axis=0)
            deviation = np.maximum(before.std(axis=-1), _FLOOR)
            z = np.abs(own[_LENGTH:] - before.mean(axis=-1)) / deviation
            found[begin : begin + step] = z.mean(axis=1)
        return found


def fit_moving(rows: Float32) -> Moving:
    require_ticks(rows, 2 * _LENGTH)
    return Moving(scaling_of(rows))
