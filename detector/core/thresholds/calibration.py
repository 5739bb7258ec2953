"""What calibration knows of normal scores, and what is asked of a threshold."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from detector.core.ticks import Float32

if TYPE_CHECKING:  # the tails it knows are built on this
    from detector.core.rehearsal import Rehearsal


@dataclass(frozen=True, slots=True)
class Tail:
    """A generalised Pareto tail above `start`: shape xi, scale sigma, fitted to `excesses` of
    `windows` scores, which came in `clusters` (Pickands 1975; Siffer et al. 2017, "Anomaly
    Detection in Streams with Extreme Value Theory", eq. 1)."""

    start: float
    shape: float
    scale: float
    excesses: int
    clusters: int
    windows: int

    def quantile(self, rate: float) -> float:
        """The score that a normal window exceeds with probability rate. Needs rate at most
        excesses / windows: above that the sample itself tells."""
        ratio = rate * self.windows / self.excesses
        if abs(self.shape) < 1e-9:
            return self.start - self.scale * math.log(ratio)
        return self.start + self.scale / self.shape * (math.pow(ratio, -self.shape) - 1)

    def to_json(self) -> dict[str, float]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, float]) -> Tail:
        return cls(
            data["start"],
            data["shape"],
            data["scale"],
            int(data["excesses"]),
            int(data["clusters"]),
            int(data["windows"]),
        )


@dataclass(frozen=True, slots=True)
class Calibration:
    """scores: (n,) of held-out normal windows, ascending; tail: fitted to the highest of them;
    rehearsal: them in order, None of models trained before there were any."""

    scores: Float32
    tail: Tail
    rehearsal: Rehearsal | None = None


@dataclass(frozen=True, slots=True)
class Demand:
    """rate: the expected share of normal windows whose score exceeds the threshold; value: of the
    threshold itself, for methods that take it as it is."""

    rate: float
    value: float | None = None
