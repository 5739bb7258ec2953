"""Isolation forest over scaled windows (Liu et al. 2008); needs scikit-learn."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.core.scaling import Scaling
from detector.core.ticks import Float32, Float64
from detector.errors import DataError
from detector.evaluate.baselines.windows import (
    by_windows,
    require_ticks,
    sampled_windows,
    scaling_of,
)

_LENGTH, _MOST, _SEED = 8, 5000, 7


@dataclass(frozen=True, slots=True)
class Isolation:
    scaling: Scaling
    forest: Any

    def score(self, rows: Float32) -> Float64:
        return by_windows(self.scaling.apply(rows), _LENGTH, self._of_windows)

    def _of_windows(self, windows: Float32) -> Float64:
        return -np.asarray(self.forest.score_samples(windows), np.float64)


def fit_isolation(rows: Float32) -> Isolation:
    try:
        from sklearn.ensemble import IsolationForest
    except ModuleNotFoundError:
        raise DataError("needs scikit-learn: pip install 'detector[evaluate]'") from None
    require_ticks(rows, 2 * _LENGTH)
    scaling = scaling_of(rows)
    forest = IsolationForest(random_state=_SEED, n_jobs=1)
    return Isolation(scaling, forest.fit(sampled_windows(scaling.apply(rows), _LENGTH, _MOST)))
