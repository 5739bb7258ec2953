"""Which feature how much."""

from __future__ import annotations

import numpy as np

from detector.core.ticks import Float32, Float64


def contributions(errors: Float32 | Float64) -> Float64:
    """(n, features) -> share of each feature; each row sums to 1. Where errors are not finite, they
    share it alone."""
    part = errors.astype(np.float64)
    endless = ~np.isfinite(part)
    part = np.where(endless.any(axis=1, keepdims=True), endless, part)
    total = part.sum(axis=1, keepdims=True)
    even = np.full_like(part, 1 / part.shape[1])
    shares: Float64 = np.divide(part, total, out=even, where=total > 0)
    return shares
