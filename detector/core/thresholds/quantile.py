"""A quantile of the held-out scores."""

from __future__ import annotations

import math

import numpy as np

from detector.core.thresholds.calibration import Calibration, Demand
from detector.core.ticks import Float32
from detector.errors import ConfigError


def quantile(calibration: Calibration, demand: Demand) -> float:
    """of the held-out scores"""
    return empirical_quantile(calibration.scores, demand.rate)


def empirical_quantile(scores: Float32, rate: float) -> float:
    """The smallest score with at most rate * (n + 1) - 1 scores above it.

    With n exchangeable normal scores the next one exceeds it with probability at most rate
    (split conformal prediction, Vovk et al. 2005). Raises ConfigError if n is too small for
    that promise.
    """
    n = len(scores)
    above = math.floor(rate * (n + 1)) - 1
    if above < 0:
        raise ConfigError(
            f"threshold: a rate of {rate:g} by method quantile needs at least "
            f"{math.ceil(1 / rate) - 1} calibration windows, there are {n}: "
            "use method pot, a larger rate or more training data"
        )
    return float(np.partition(scores, n - 1 - above)[n - 1 - above])
