"""Rows as windows, in chunks: memory does not grow with the series."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detector.core.scaling import Scaling
from detector.core.ticks import Float32, Float64
from detector.errors import DataError
from detector.model.scaling import fit_scaling

#: As `model.squash` has it by default.
_SQUASH = 4.0
#: Numbers of one chunk of windows, and of distances: 16 MB.
_CHUNK_NUMBERS = 4_000_000


def scaling_of(rows: Float32) -> Scaling:
    """Median and quartiles of normal ticks, as the product scales."""
    return fit_scaling(rows, squash=_SQUASH)[0]


def require_ticks(rows: Float32, ticks: int) -> None:
    """Raises DataError where there are fewer."""
    if len(rows) < ticks:
        raise DataError(f"needs {ticks} normal ticks to learn from, has {len(rows)}")


def by_windows(
    rows: Float32, length: int, score: Callable[[Float32], Float64], *, beside: int = 0
) -> Float64:
    """The score of the window that ends at each row, NaN before the first full one. rows:
    (m, features); score: (w, length * features) -> (w,); beside: numbers it needs a window."""
    found = np.full(len(rows), np.nan)
    size = length * rows.shape[1]
    step = max(1, _CHUNK_NUMBERS // max(size, beside))
    for begin in range(0, len(rows) - length + 1, step):
        end = min(begin + step, len(rows) - length + 1)
        found[begin + length - 1 : end + length - 1] = score(windows_of(rows, begin, end, length))
    return found


def windows_of(rows: Float32, begin: int, end: int, length: int) -> Float32:
    """Windows that begin at rows begin ... end - 1, flat: (end - begin, length * features)."""
    view = np.lib.stride_tricks.sliding_window_view(rows[begin : end + length - 1], length, axis=0)
    return view.transpose(0, 2, 1).reshape(end - begin, -1)  # (n, features, length) before


def sampled_windows(rows: Float32, length: int, most: int) -> Float32:
    """At most so many windows of the rows, evenly spread."""
    count = len(rows) - length + 1
    starts = np.unique(np.linspace(0, count - 1, min(most, count)).astype(np.int64))
    picked = rows[starts[:, None] + np.arange(length)]
    flat: Float32 = picked.reshape(len(starts), -1)
    return flat
