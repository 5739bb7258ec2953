"""From the scores of held-out normal windows to a threshold with a promised rate.

`rate` is always the expected share of normal windows whose score exceeds the threshold.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass

import numpy as np

from detector.core.ticks import Float32
from detector.errors import ConfigError


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


def choose_threshold(
    method: str, *, rate: float, value: float | None, scores: Float32, tail: Tail
) -> float:
    """The threshold by method: quantile, pot (the tail for rates the sample is too small to
    show, the sample above that) or fixed (value)."""
    if method == "fixed":
        if value is None:
            raise ConfigError("threshold.value: method fixed needs a value")
        return value
    if method == "quantile" or rate >= tail.excesses / tail.windows:
        return empirical_quantile(scores, rate)
    return tail.quantile(rate)
