"""Stretches of consecutive rows as a view of one matrix: what every window is cut from."""

from __future__ import annotations

import numpy as np

from detector.core.ticks import Float32, Int64


def stretches(rows: Float32, length: int) -> Float32:
    """Every stretch of `length` rows as one flat row (n - length + 1, length * features): a view,
    no copy. rows: (n, features), contiguous."""
    features = rows.shape[1]
    # Asked for like this, NumPy looks whether it lies inside of the buffer.
    return np.ndarray(
        (len(rows) - length + 1, length * features),
        rows.dtype,
        rows,
        strides=(features * rows.itemsize, rows.itemsize),
    )


def cut(rows: Float32, start: Int64, length: int) -> Float32:
    """Windows by their first rows: (len(start), length, features), a copy."""
    return stretches(rows, length)[start].reshape(-1, length, rows.shape[1])
