"""Nearest neighbours: how far a scaled window is from the nearest of normal ones (kNN distance,
Ramaswamy et al. 2000; with windows of time series Yeh et al. 2023, discord by a memory)."""

from __future__ import annotations

from dataclasses import dataclass

from detector.core.scaling import Scaling
from detector.core.ticks import Float32, Float64
from detector.evaluate.baselines.nearest import Memory
from detector.evaluate.baselines.windows import (
    by_windows,
    require_ticks,
    sampled_windows,
    scaling_of,
)

_LENGTH, _MOST = 32, 2000


@dataclass(frozen=True, slots=True)
class Neighbours:
    scaling: Scaling
    memory: Memory

    def score(self, rows: Float32) -> Float64:
        scaled = self.scaling.apply(rows)
        return by_windows(scaled, _LENGTH, self.memory.distances, beside=len(self.memory))


def fit_neighbours(rows: Float32) -> Neighbours:
    require_ticks(rows, 2 * _LENGTH)
    scaling = scaling_of(rows)
    return Neighbours(scaling, Memory(sampled_windows(scaling.apply(rows), _LENGTH, _MOST)))
