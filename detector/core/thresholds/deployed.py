"""The threshold that is deployed: what was asked for, and what the held-out windows can carry."""

from __future__ import annotations

from dataclasses import dataclass

from detector.core.thresholds.calibration import Calibration

#: An exponential tail through k independent clusters is known to one part in the root of k: so far
#: beyond its start, in decades, that it may be two decades off.
_DECADES = 2.0


@dataclass(frozen=True, slots=True)
class Deployed:
    """asked, rate: shares of normal windows, the one that was asked for and the one the threshold
    stands at, larger where the held-out windows carry no smaller one; None of a threshold that was
    given by hand. a_day: alerts a day and series, where they were what was asked for."""

    threshold: float
    asked: float | None
    rate: float | None
    a_day: float | None = None

    @property
    def fell_back(self) -> bool:
        return self.asked is not None and self.rate is not None and self.rate > self.asked

    def words(self, calibration: Calibration) -> str:
        """One line, where it could not be had; empty where it could."""
        if not self.fell_back:
            return ""
        tail = calibration.tail
        stretches = "one stretch" if tail.clusters == 1 else f"{tail.clusters} separate stretches"
        asked = f"a budget of {self.asked:.2g}"
        if self.a_day is not None:
            asked = f"{self.a_day:g} alerts a day and series, or {asked},"
        return (
            f"{asked} is beyond what {tail.windows} held-out windows can "
            f"carry, their highest in {stretches} of time: the threshold stands at "
            f"{self.rate:.2g}; more training ticks help, threshold.fall_back: false extrapolates"
        )


def supported(calibration: Calibration) -> float:
    """The smallest share of normal windows that the held-out ones can say a threshold for."""
    tail = calibration.tail
    return float(tail.excesses / tail.windows * 10.0 ** -(_DECADES * tail.clusters**0.5))
