"""What a view is: one way to look at a window, that says how strange it is.

It is fitted to normal windows, and then a part of the graph `scorer`. Each adds to the graph, under
its own name, one number a window that is larger the stranger the window is, and how much each
feature has to do with it; a memory also what it remembers that is nearest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np

from detector.core.ticks import Float32, Float64
from detector.model.graph import Graph

#: What a feature's error is divided by is at least this share of the median feature's: one that was
#: quiet in training must not shout down all others later.
_LEAST_SHARE = 0.1
_LEAST = 1e-4


@dataclass(frozen=True, slots=True)
class Normal:
    """Normal windows to fit views to. windows: (n, length, features) scaled, in order of time;
    last: (n, features) mean squared errors of the network on their last ticks, None where those of
    the window are the same."""

    windows: Float32
    last: Float32 | None

    def part(self, which: Any) -> Normal:
        last = None if self.last is None else self.last[which]
        return Normal(self.windows[which], last)


@dataclass(frozen=True, slots=True)
class Seen:
    """Names in the graph. windows: (n + 1, length, features) scaled, the last of them company (the
    engine takes other kernels for a single row, whose sums differ in the last bits); errors:
    (n, features) normalised; last: (n, features) mean squared errors of the last ticks."""

    windows: str
    errors: str
    last: str
    length: int
    features: int


class View(Protocol):
    """Adds to the graph: NAME (n, 1); NAME.features (n, features), never negative; a memory also
    NAME.nearest (n, ticks, features), scaled."""

    NAME: ClassVar[str]

    def add(self, graph: Graph, seen: Seen) -> None: ...


def spread_of_errors(errors: Float32) -> Float64:
    """What a feature's errors (n, features) are divided by: their 99 % quantile over the whole
    history, with a floor. -> (features,)"""
    high = np.quantile(errors.astype(np.float64), 0.99, axis=0)
    middle = float(np.median(high[high > 0])) if (high > 0).any() else 0.0
    return np.maximum(high, max(_LEAST_SHARE * middle, _LEAST))


def last_ticks(graph: Graph, seen: Seen, name: str, ticks: int) -> str:
    """(n + 1, ticks, features)"""
    if ticks == seen.length:
        return seen.windows
    first = graph.constant(f"{name}.first", [seen.length - ticks])
    end, axis = graph.constant(f"{name}.end", [seen.length]), graph.constant("views.axis_1", [1])
    return graph.add("Slice", [seen.windows, first, end, axis], f"{name}.ticks")


def flat(graph: Graph, source: str, name: str, width: int) -> str:
    """(n + 1, ...) -> (n + 1, width)"""
    shape = graph.constant(f"{name}.flat_shape", [-1, width])
    return graph.add("Reshape", [source, shape], f"{name}.flat")


def over(graph: Graph, operator: str, source: str, output: str, axis: int = 1) -> str:
    """Reduce an axis away: ReduceMean, ReduceMax, ReduceSum ..."""
    name = graph.constant(f"views.axis_{axis}", [axis])
    return graph.add(operator, [source, name], output, keepdims=0)


def row_means(graph: Graph, source: str, name: str, width: int) -> str:
    """(n + 1, width) -> (n + 1, 1). As a matrix product: the engine's own sums along a row depend,
    in the last bits, on where in memory the row begins, and so on the windows before it."""
    shares = graph.constant(f"{name}.shares", np.full((width, 16), 1 / width, np.float32))
    graph.add("MatMul", [source, shares], f"{name}.sixteen_times")
    first, one = graph.constant("views.first", [0]), graph.constant("views.one", [1])
    axis = graph.constant("views.axis_1", [1])
    return graph.add("Slice", [f"{name}.sixteen_times", first, one, axis], name)


def as_column(graph: Graph, source: str, output: str) -> str:
    """(n,) -> (n, 1)"""
    return graph.add("Unsqueeze", [source, graph.constant("views.axis_1", [1])], output)


def divided(graph: Graph, source: str, by: Float64, output: str) -> str:
    factor = graph.constant(f"{output}.factor", (1 / by).astype(np.float32))
    return graph.add("Mul", [source, factor], output)


def without_company(graph: Graph, source: str, output: str) -> str:
    return graph.all_but_last(source, output, axis=0)


def squared(graph: Graph, one: str, other: str, name: str) -> str:
    difference = graph.add("Sub", [one, other], f"{name}.difference")
    return graph.add("Mul", [difference, difference], f"{name}.squared")
