"""Window statistics: five numbers of the last ticks (deviation, range, largest, smallest, mean,
over ticks and features together), and how far they are from the nearest of normal windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.scaling import Scaling
from detector.core.ticks import Float32, Float64
from detector.evaluate.baselines.nearest import Memory
from detector.evaluate.baselines.windows import by_windows, require_ticks, scaling_of

_LENGTH, _MOST = 64, 4000


@dataclass(frozen=True, slots=True)
class Statistics:
    """mean, deviation: (5,) of the statistics of normal windows."""

    scaling: Scaling
    mean: Float64
    deviation: Float64
    memory: Memory

    def score(self, rows: Float32) -> Float64:
        found = np.full(len(rows), np.nan)
        if len(rows) < _LENGTH:
            return found
        points = (statistics(self.scaling.apply(rows)) - self.mean) / self.deviation
        near = by_windows(
            points.astype(np.float32), 1, self.memory.distances, beside=len(self.memory)
        )
        found[_LENGTH - 1 :] = near
        return found


def fit_statistics(rows: Float32) -> Statistics:
    require_ticks(rows, 2 * _LENGTH)
    scaling = scaling_of(rows)
    points = statistics(scaling.apply(rows))
    mean, deviation = points.mean(axis=0), points.std(axis=0)
    deviation = np.where(deviation > 0, deviation, 1.0)
    kept = np.unique(np.linspace(0, len(points) - 1, _MOST).astype(np.int64))
    memory = Memory(((points[kept] - mean) / deviation).astype(np.float32))
    return Statistics(scaling, mean, deviation, memory)


def statistics(scaled: Float32) -> Float64:
    """(m, features) -> (m - length + 1, 5), of the window that ends at each row."""
    rows = scaled.astype(np.float64)
    view = np.lib.stride_tricks.sliding_window_view
    high = view(rows.max(axis=1), _LENGTH).max(axis=1)
    low = view(rows.min(axis=1), _LENGTH).min(axis=1)
    mean = view(rows.mean(axis=1), _LENGTH).mean(axis=1)
    square = view(np.square(rows).mean(axis=1), _LENGTH).mean(axis=1)
    deviation = np.sqrt(np.maximum(square - np.square(mean), 0.0))
    return np.stack([deviation, high - low, high, low, mean], axis=1)
