"""Features to scaled features and back: linear near the centre, logarithmic far from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.core.ticks import Float32, Float64


@dataclass(frozen=True, slots=True)
class Scaling:
    """x -> squash * asinh((x - center) / scale / squash); center, scale: (features,).

    A heavy tail stays in range and still counts (inverse hyperbolic sine, Burbidge et al. 1988)."""

    center: Float64
    scale: Float64
    squash: float

    def apply(self, rows: Float32) -> Float32:
        """What the graph of a model does to its input. (..., features) -> the same shape."""
        z: Float64 = (rows - self.center) / (self.scale * self.squash)
        return (self.squash * np.arcsinh(z)).astype(np.float32)

    def undo(self, scaled: Float32) -> Float32:
        """(..., features) -> the same in the features' own units. A relu network knows no bounds:
        clipped, its guess stays a number."""
        z = np.clip(scaled.astype(np.float64) / self.squash, -700, 700)
        limit = float(np.finfo(np.float32).max)
        rows = self.center + self.scale * self.squash * np.sinh(z)
        result: Float32 = np.clip(rows, -limit, limit).astype(np.float32)
        return result

    def to_json(self) -> dict[str, Any]:
        """The section `scaling` of a manifest."""
        return {
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
            "squash": self.squash,
        }

    @classmethod
    def from_json(cls, section: Mapping[str, Any]) -> Scaling:
        return cls(
            np.asarray(section["center"], np.float64),
            np.asarray(section["scale"], np.float64),
            float(section["squash"]),
        )
