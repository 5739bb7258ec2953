"""Memories: normal windows themselves, and the distance to the nearest of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from detector.core.runs import spread_evenly
from detector.core.ticks import Float32
from detector.model.graph import Graph
from detector.model.views.view import (
    Normal,
    Seen,
    View,
    flat,
    last_ticks,
    over,
    row_means,
    squared,
    without_company,
)

#: Windows that are remembered, evenly spread over the history, and numbers they may hold in all.
_REMEMBERED = 512
_MOST_NUMBERS = 4_000_000
_MEMORY_TICKS = 16


def fit(normal: Normal) -> list[View]:
    return [Memory(*_remember(normal, _MEMORY_TICKS)), Tick(*_remember(normal, 1))]


@dataclass(frozen=True, slots=True)
class Remembered:
    """rows: (r, width) as they were; centre: (width,), taken off for the sake of small sums."""

    rows: Float32
    centre: Float32

    @classmethod
    def of(cls, rows: Float32) -> Remembered:
        most = max(16, min(_REMEMBERED, _MOST_NUMBERS // rows.shape[1]))
        kept = rows[spread_evenly(len(rows), most)]
        return cls(kept, rows.mean(axis=0).astype(np.float32))

    def add(self, graph: Graph, source: str, name: str) -> str:
        """(n + 1, width) -> NAME, and the nearest row (n + 1, width)."""
        near = (self.rows - self.centre).astype(np.float32)
        graph.constant(f"{name}.centre", self.centre)
        graph.constant(f"{name}.rows", self.rows)
        graph.constant(f"{name}.across", np.ascontiguousarray(-2 * near.T))
        graph.constant(f"{name}.squares", np.square(near).sum(axis=1))
        graph.add("Sub", [source, f"{name}.centre"], f"{name}.centred")
        graph.add("MatMul", [f"{name}.centred", f"{name}.across"], f"{name}.products")
        graph.add("Add", [f"{name}.products", f"{name}.squares"], f"{name}.partial")
        axis = graph.constant("views.axis_1", [1])
        graph.add("ReduceMin", [f"{name}.partial", axis], f"{name}.smallest", keepdims=1)
        graph.add("Mul", [f"{name}.centred"] * 2, f"{name}.own_squares")
        width = self.rows.shape[1]
        row_means(graph, f"{name}.own_squares", f"{name}.own_mean", width)
        graph.constant(f"{name}.width", np.asarray(width, np.float32))
        graph.add("Mul", [f"{name}.own_mean", f"{name}.width"], f"{name}.own")
        graph.add("Add", [f"{name}.smallest", f"{name}.own"], f"{name}.square")
        graph.add("Relu", [f"{name}.square"], f"{name}.positive")  # sums round
        graph.add("Sqrt", [f"{name}.positive"], f"{name}.distance")
        without_company(graph, f"{name}.distance", name)
        graph.add("ArgMin", [f"{name}.partial"], f"{name}.which", axis=1, keepdims=0)
        return graph.add("Gather", [f"{name}.rows", f"{name}.which"], f"{name}.found", axis=0)


@dataclass(frozen=True, slots=True)
class Memory:
    """Distance of the last ticks of the window, scaled, to the nearest ones that were normal."""

    NAME: ClassVar[str] = "memory"
    remembered: Remembered
    ticks: int

    def add(self, graph: Graph, seen: Seen) -> None:
        _add_memory(graph, seen, self.NAME, self.remembered, self.ticks)


@dataclass(frozen=True, slots=True)
class Tick:
    """The same of the last tick alone: whether its values ever stood together like this."""

    NAME: ClassVar[str] = "tick"
    remembered: Remembered
    ticks: int

    def add(self, graph: Graph, seen: Seen) -> None:
        _add_memory(graph, seen, self.NAME, self.remembered, self.ticks)


def _remember(normal: Normal, ticks: int) -> tuple[Remembered, int]:
    ticks = min(ticks, normal.windows.shape[1])
    rows = np.ascontiguousarray(normal.windows[:, -ticks:]).reshape(len(normal.windows), -1)
    return Remembered.of(rows), ticks


def _add_memory(graph: Graph, seen: Seen, name: str, remembered: Remembered, ticks: int) -> None:
    rows = flat(graph, last_ticks(graph, seen, name, ticks), name, ticks * seen.features)
    found = remembered.add(graph, rows, name)
    apart = squared(graph, rows, found, f"{name}.apart")
    shape = graph.constant(f"{name}.shape", [-1, ticks, seen.features])
    graph.add("Reshape", [apart, shape], f"{name}.apart.by_tick")
    sums = over(graph, "ReduceSum", f"{name}.apart.by_tick", f"{name}.apart.sums")
    without_company(graph, sums, f"{name}.features")
    graph.add("Reshape", [found, shape], f"{name}.found.by_tick")
    without_company(graph, f"{name}.found.by_tick", f"{name}.nearest")
