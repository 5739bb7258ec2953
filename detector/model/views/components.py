"""The window's principal components: what it holds beyond the directions normal windows have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.linalg import eigh

from detector.core.runs import spread_evenly
from detector.core.ticks import Float32, Float64
from detector.model.graph import Graph
from detector.model.views.view import (
    Normal,
    Seen,
    View,
    divided,
    flat,
    over,
    row_means,
    spread_of_errors,
    squared,
    without_company,
)

_COMPONENTS = 16
#: Windows a basis is found from: more turn it by nothing that shows.
_WINDOWS = 2048
_LAST_TICKS = 4


def fit(normal: Normal) -> list[View]:
    basis = _Basis.of(normal)
    left = basis.left(normal.windows)
    found: list[View] = [Components(basis, spread_of_errors(left.mean(axis=1)))]
    if normal.windows.shape[1] > _LAST_TICKS:
        last = left[:, -_LAST_TICKS:].mean(axis=1)
        found.append(LastComponents(spread_of_errors(last), _LAST_TICKS))
    return found


@dataclass(frozen=True, slots=True)
class _Basis:
    """mean: (width,); directions: (width, components), orthonormal."""

    mean: Float32
    directions: Float32

    @classmethod
    def of(cls, normal: Normal) -> _Basis:
        rows = normal.windows.reshape(len(normal.windows), -1)
        mean = rows.mean(axis=0)
        some = (rows[spread_evenly(len(rows), _WINDOWS)] - mean).astype(np.float64)
        wide = some.shape[0] <= some.shape[1]
        product = some @ some.T if wide else some.T @ some  # the smaller of the two
        size = len(product)
        # Of symmetric matrices scipy finds the few that are wanted.
        values, vectors = eigh(product, subset_by_index=[max(0, size - _COMPONENTS), size - 1])
        known = values > 1e-12 * max(values[-1], 1e-12)
        directions = vectors[:, known]
        if wide:
            directions = some.T @ directions / np.sqrt(values[known])
        return cls(mean.astype(np.float32), np.ascontiguousarray(directions, np.float32))

    def left(self, windows: Float32) -> Float32:
        """What the directions do not hold of windows, squared, in their shape."""
        rows = windows.reshape(len(windows), -1) - self.mean
        rest = rows - (rows @ self.directions) @ self.directions.T
        return np.square(rest).reshape(windows.shape)

    def add(self, graph: Graph, seen: Seen) -> str:
        """The same in the graph, (n + 1, length, features); both views share it."""
        name = Components.NAME
        rows = flat(graph, seen.windows, name, seen.length * seen.features)
        graph.constant(f"{name}.mean", self.mean)
        graph.constant(f"{name}.directions", self.directions)
        graph.constant(f"{name}.back", np.ascontiguousarray(self.directions.T))
        graph.add("Sub", [rows, f"{name}.mean"], f"{name}.centred")
        graph.add("MatMul", [f"{name}.centred", f"{name}.directions"], f"{name}.held")
        graph.add("MatMul", [f"{name}.held", f"{name}.back"], f"{name}.again")
        left = squared(graph, f"{name}.centred", f"{name}.again", name)
        shape = graph.constant(f"{name}.shape", [-1, seen.length, seen.features])
        return graph.add("Reshape", [left, shape], f"{name}.left")


@dataclass(frozen=True, slots=True)
class Components:
    """Mean over the features of their normalised error, over the whole window."""

    NAME: ClassVar[str] = "components"
    basis: _Basis
    scale: Float64

    def add(self, graph: Graph, seen: Seen) -> None:
        _one_number(graph, self.basis.add(graph, seen), self.NAME, self.scale)


@dataclass(frozen=True, slots=True)
class LastComponents:
    """The same basis, its error over the last four ticks."""

    NAME: ClassVar[str] = "last_components"
    scale: Float64
    ticks: int

    def add(self, graph: Graph, seen: Seen) -> None:
        first = graph.constant(f"{self.NAME}.first", [seen.length - self.ticks])
        end, axis = (
            graph.constant("views.length", [seen.length]),
            graph.constant("views.axis_1", [1]),
        )
        left = [f"{Components.NAME}.left", first, end, axis]
        ticks = graph.add("Slice", left, f"{self.NAME}.ticks")
        _one_number(graph, ticks, self.NAME, self.scale)


def _one_number(graph: Graph, left: str, name: str, scale: Float64) -> None:
    """(n + 1, ticks, features) -> the outputs of a view."""
    errors = over(graph, "ReduceMean", left, f"{name}.mean_squared")
    divided(graph, errors, scale, f"{name}.errors")
    without_company(graph, f"{name}.errors", f"{name}.features")
    means = row_means(graph, f"{name}.errors", f"{name}.means", len(scale))
    without_company(graph, means, name)
