"""Peaks over threshold: the fitted tail for rates the sample is too small to show, the sample
itself above that."""

from __future__ import annotations

from detector.core.thresholds.calibration import Calibration, Demand
from detector.core.thresholds.quantile import empirical_quantile


def pot(calibration: Calibration, demand: Demand) -> float:
    """generalised Pareto tail, for rates beyond the sample"""
    tail = calibration.tail
    if demand.rate >= tail.excesses / tail.windows:
        return empirical_quantile(calibration.scores, demand.rate)
    return tail.quantile(demand.rate)
