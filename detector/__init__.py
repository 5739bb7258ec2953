"""Streaming anomaly detection for high-frequency time series with an LSTM autoencoder.

The library: `load`, `resume`, `train`, and what they give. Importing this costs nothing: each name
is imported when it is first used, and no host's settings are touched.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from detector.api import Detector, Model, Restored, Result, load, resume, train
    from detector.core.alerts import Alert, LikelyFault, Severity, State
    from detector.core.ticks import Outcome
    from detector.errors import (
        ArtifactError,
        ConfigError,
        DataError,
        DetectorError,
        StateError,
    )

__version__ = "0.1.0"
__all__ = [
    "Alert",
    "ArtifactError",
    "ConfigError",
    "DataError",
    "Detector",
    "DetectorError",
    "LikelyFault",
    "Model",
    "Outcome",
    "Restored",
    "Result",
    "Severity",
    "State",
    "StateError",
    "__version__",
    "load",
    "resume",
    "train",
]

_HOMES = {
    "detector.api": ("Detector", "Model", "Restored", "Result", "load", "resume", "train"),
    "detector.core.alerts": ("Alert", "LikelyFault", "Severity", "State"),
    "detector.core.ticks": ("Outcome",),
    "detector.errors": (
        "ArtifactError",
        "ConfigError",
        "DataError",
        "DetectorError",
        "StateError",
    ),
}


if not TYPE_CHECKING:  # a checker knows the names, and that there are no others

    def __getattr__(name: str) -> Any:
        for home, names in _HOMES.items():
            if name in names:
                found = getattr(importlib.import_module(home), name)
                globals()[name] = found
                return found
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
