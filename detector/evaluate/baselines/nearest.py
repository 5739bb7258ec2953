"""Distance to what was seen."""

from __future__ import annotations

import numpy as np

from detector.core.ticks import Float32, Float64

_NEAREST = 3


class Memory:
    """Points of normal data; knows how far another is from them."""

    def __init__(self, points: Float32) -> None:
        """points: (p, numbers)."""
        self._points = points
        self._squares = np.einsum("pn,pn->p", points, points)

    def __len__(self) -> int:
        return len(self._points)

    def distances(self, others: Float32) -> Float64:
        """(m, numbers) -> (m,) mean distance to the three nearest points, over the root of the
        count of numbers."""
        own = np.einsum("mn,mn->m", others, others)
        squared = own[:, None] + self._squares - 2 * (others @ self._points.T)  # (m, p)
        nearest = min(_NEAREST, len(self._points))
        least = np.partition(squared, nearest - 1, axis=1)[:, :nearest]
        distances = np.sqrt(np.maximum(least, 0.0) / others.shape[1]).mean(axis=1)
        return np.asarray(distances, np.float64)
