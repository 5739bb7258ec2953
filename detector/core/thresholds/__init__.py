"""From calibration to the score above which a window is anomalous. A new method is a file here
and a line in METHODS."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Literal

from detector.core.thresholds.calibration import Calibration, Demand
from detector.core.thresholds.fixed import fixed
from detector.core.thresholds.pot import pot
from detector.core.thresholds.quantile import quantile

#: By name in the configuration, whose reference tells their docstrings.
METHODS: dict[str, Callable[[Calibration, Demand], float]] = {
    "pot": pot,
    "quantile": quantile,
    "fixed": fixed,
}

if TYPE_CHECKING:
    Method = str
else:  # the configuration takes these and no other
    Method = Literal[tuple(METHODS)]


def choose_threshold(method: Method, calibration: Calibration, demand: Demand) -> float:
    """Raises ConfigError where the method cannot meet the demand."""
    return METHODS[method](calibration, demand)
