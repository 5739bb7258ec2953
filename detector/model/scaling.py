"""Centre and scale of each feature, robust to heavy tails, constants and outliers."""

from __future__ import annotations

import numpy as np

from detector.core.scaling import Scaling
from detector.core.ticks import Bool, Float32, Float64

#: The interquartile range of a normal distribution, in standard deviations.
IQR_OF_NORMAL = 1.349


def fit_scaling(rows: Float32, *, squash: float) -> tuple[Scaling, list[int]]:
    """Scaling from training rows (n, features), and the indexes of constant features.

    Centre: the median. Scale: the interquartile range over 1.349, but at least a twentieth of
    the spread between the 0.1 % and 99.9 % quantiles (features that mostly stand still), else
    the standard deviation. A constant feature keeps unit scale (or a tenth of its value).
    """
    center, scale, constant = center_and_scale(rows.astype(np.float64))
    return Scaling(center, scale, squash), np.flatnonzero(constant).tolist()


def center_and_scale(columns: Float64) -> tuple[Float64, Float64, Bool]:
    """(n, features) -> of each feature centre, scale, and whether it is constant."""
    center = np.median(columns, axis=0)
    low, lower, upper, high = np.quantile(columns, [0.001, 0.25, 0.75, 0.999], axis=0)
    scale = np.maximum((upper - lower) / IQR_OF_NORMAL, (high - low) / 20)
    scale = np.where(scale > 0, scale, columns.std(axis=0))
    constant = columns.min(axis=0) == columns.max(axis=0)
    still = np.where(center == 0, 1.0, np.abs(center) / 10)
    scale = np.where(constant | (scale <= 0), still, scale)
    return center, scale, constant
