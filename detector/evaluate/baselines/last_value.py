"""Last value: the size of the step from the tick before, in scales."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.scaling import Scaling
from detector.core.ticks import Float32, Float64
from detector.evaluate.baselines.windows import require_ticks, scaling_of


@dataclass(frozen=True, slots=True)
class LastValue:
    scaling: Scaling

    def score(self, rows: Float32) -> Float64:
        found = np.full(len(rows), np.nan)
        steps = np.abs(np.diff(self.scaling.apply(rows).astype(np.float64), axis=0))
        found[1:] = steps.mean(axis=1)
        return found


def fit_last_value(rows: Float32) -> LastValue:
    require_ticks(rows, 2)
    return LastValue(scaling_of(rows))
