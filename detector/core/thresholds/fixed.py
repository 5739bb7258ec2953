"""A score given by hand."""

from __future__ import annotations

from detector.core.thresholds.calibration import Calibration, Demand
from detector.errors import ConfigError


def fixed(calibration: Calibration, demand: Demand) -> float:
    """value"""
    if demand.value is None:
        raise ConfigError("threshold.value: method fixed needs a value")
    return demand.value
