"""Statistics of the window, and the distance to the nearest of those of normal windows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from detector.core.ticks import Float64
from detector.model.graph import Graph
from detector.model.views.memory import Remembered
from detector.model.views.view import (
    Normal,
    Seen,
    View,
    flat,
    over,
    row_means,
    squared,
    without_company,
)

#: Of a statistic that stands still.
_LEAST_SPREAD = 1e-3


def fit(normal: Normal) -> list[View]:
    w = normal.windows.astype(np.float64)
    one_by_one = [w.std(axis=1), w.max(axis=1), w.min(axis=1), w.mean(axis=1)]
    w = w.reshape(len(w), -1)
    high, low = w.max(axis=1), w.min(axis=1)
    together = [w.std(axis=1), high - low, high, low, w.mean(axis=1)]
    return [
        Statistics(*_remember(np.stack(together, axis=1))),
        FeatureStatistics(*_remember(np.concatenate(one_by_one, axis=1))),
    ]


@dataclass(frozen=True, slots=True)
class Statistics:
    """Deviation, range, largest, smallest and mean of all numbers of the window together: level
    and amplitude. Distance to the nearest of normal windows, in their standard deviations."""

    NAME: ClassVar[str] = "statistics"
    remembered: Remembered
    centre: Float64
    spread: Float64

    def add(self, graph: Graph, seen: Seen) -> None:
        name = self.NAME
        rows = flat(graph, seen.windows, name, seen.length * seen.features)
        axis = graph.constant("views.axis_1", [1])
        graph.add("ReduceMax", [rows, axis], f"{name}.high", keepdims=1)
        graph.add("ReduceMin", [rows, axis], f"{name}.low", keepdims=1)
        row_means(graph, rows, f"{name}.mean", seen.length * seen.features)
        around = squared(graph, rows, f"{name}.mean", f"{name}.around")
        row_means(graph, around, f"{name}.variance", seen.length * seen.features)
        graph.add("Sqrt", [f"{name}.variance"], f"{name}.deviation")
        graph.add("Sub", [f"{name}.high", f"{name}.low"], f"{name}.range")
        parts = [f"{name}.{part}" for part in ("deviation", "range", "high", "low", "mean")]
        graph.add("Concat", parts, f"{name}.raw", axis=1)
        rows = _standardised(graph, f"{name}.raw", name, self.centre, self.spread)
        self.remembered.add(graph, rows, name)
        # Whose numbers are largest has most to do with level and amplitude of all.
        graph.add("Mul", [seen.windows] * 2, f"{name}.window_squares")
        sizes = over(graph, "ReduceMean", f"{name}.window_squares", f"{name}.sizes")
        without_company(graph, sizes, f"{name}.features")


@dataclass(frozen=True, slots=True)
class FeatureStatistics:
    """Deviation, largest, smallest and mean of each feature over the window."""

    NAME: ClassVar[str] = "feature_statistics"
    remembered: Remembered
    centre: Float64
    spread: Float64

    def add(self, graph: Graph, seen: Seen) -> None:
        name = self.NAME
        axis = graph.constant("views.axis_1", [1])
        graph.add("ReduceMean", [seen.windows, axis], f"{name}.mean", keepdims=1)
        graph.add("ReduceMax", [seen.windows, axis], f"{name}.high", keepdims=1)
        graph.add("ReduceMin", [seen.windows, axis], f"{name}.low", keepdims=1)
        around = squared(graph, seen.windows, f"{name}.mean", f"{name}.around")
        graph.add("ReduceMean", [around, axis], f"{name}.variance", keepdims=1)
        graph.add("Sqrt", [f"{name}.variance"], f"{name}.deviation")
        parts = [f"{name}.{part}" for part in ("deviation", "high", "low", "mean")]
        graph.add("Concat", parts, f"{name}.stacked", axis=1)
        raw = flat(graph, f"{name}.stacked", name, 4 * seen.features)
        rows = _standardised(graph, raw, name, self.centre, self.spread)
        found = self.remembered.add(graph, rows, name)
        apart = squared(graph, rows, found, f"{name}.apart")
        shape = graph.constant(f"{name}.shape", [-1, 4, seen.features])
        graph.add("Reshape", [apart, shape], f"{name}.apart.by_kind")
        sums = over(graph, "ReduceSum", f"{name}.apart.by_kind", f"{name}.apart.sums")
        without_company(graph, sums, f"{name}.features")


def _standardised(graph: Graph, source: str, name: str, centre: Float64, spread: Float64) -> str:
    graph.constant(f"{name}.raw_centre", centre.astype(np.float32))
    graph.constant(f"{name}.raw_inverse", (1 / spread).astype(np.float32))
    graph.add("Sub", [source, f"{name}.raw_centre"], f"{name}.raw_centred")
    return graph.add("Mul", [f"{name}.raw_centred", f"{name}.raw_inverse"], f"{name}.standardised")


def _remember(rows: Float64) -> tuple[Remembered, Float64, Float64]:
    centre, spread = rows.mean(axis=0), rows.std(axis=0)
    spread = np.where(spread > _LEAST_SPREAD, spread, 1.0)
    return Remembered.of(((rows - centre) / spread).astype(np.float32)), centre, spread
