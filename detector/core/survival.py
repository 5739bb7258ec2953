"""How rare a number is among normal ones: its evidence, -log10 of their share that is as large.

Within the sample it is the share itself: of n numbers the largest has evidence log10(n + 1). Beyond
it is an extrapolation of the tail, exponential or heavier: a statement about numbers that were
never seen, good for ranking, and as good a promise as there are independent numbers behind it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.core.knots import Knots
from detector.core.thresholds.calibration import Tail
from detector.core.ticks import Float64, Int64

#: Evidence ends here: a share below 1e-300 is no number a computer knows.
MOST_EVIDENCE = 300.0
#: Points of the sample that are kept; denser towards the rare ones.
_KNOTS = 256
_DECADE = math.log(10)


@dataclass(frozen=True, slots=True)
class Survival:
    """knots: (k,) ascending numbers; values: (k,) their evidence, ascending. Above the last knot it
    begins with `beyond` and follows a generalised Pareto tail of that shape and scale (in units of
    the numbers): where many normal numbers are the very same, those above are rarer at once."""

    knots: Float64
    values: Float64
    beyond: float
    shape: float
    scale: float

    @classmethod
    def of(cls, sample: Float64, tail: Tail | None = None) -> Survival:
        """Of n >= 1 finite normal numbers. tail: fitted to the highest of them; without one it is
        exponential through the mean excess over the highest fiftieth, twenty numbers at least (a
        quarter of fewer than eighty)."""
        ascending = np.sort(sample.astype(np.float64))
        n = len(ascending)
        if tail is None:
            excesses = max(n // 50, min(20, n // 4))
            start = float(ascending[n - excesses - 1])
            above = ascending[n - excesses :] - start
            least = 1e-3 * max(abs(start), 1e-6)  # a sample that stands still
            shape, scale = 0.0, max(float(above.mean()) if excesses else 0.0, least)
        else:
            start, shape, scale = tail.start, tail.shape, tail.scale
        # Ranks from the rarest on in equal steps of evidence, so that the body is thin, the tail
        # whole.
        ranks = np.unique(np.geomspace(1, n, _KNOTS).astype(np.int64))
        knots = np.unique(np.append(ascending[n - ranks], start))
        knots = knots[knots <= start]
        as_large = n - np.searchsorted(ascending, knots, side="left")
        values = -np.log10((as_large + 1) / (n + 1))
        values = np.maximum(values, 0.0)
        beyond = -np.log10((np.count_nonzero(ascending > start) + 1) / (n + 1))
        return cls(knots, values, max(float(beyond), float(values[-1])), shape, scale)

    def evidence(self, numbers: Float64) -> Float64:
        """(...) -> the same shape, from 0 to MOST_EVIDENCE; what is not finite is as rare as can
        be."""
        return Survivals((self,)).evidence(numbers.reshape(1, -1)).reshape(numbers.shape)

    def to_json(self) -> dict[str, Any]:
        return {
            "knots": self.knots.tolist(),
            "values": self.values.tolist(),
            "beyond": self.beyond,
            "shape": self.shape,
            "scale": self.scale,
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Survival:
        """Raises KeyError, TypeError, ValueError."""
        knots, values = (np.asarray(data[name], np.float64) for name in ("knots", "values"))
        beyond, shape, scale = (float(data[name]) for name in ("beyond", "shape", "scale"))
        sound = len(knots) == len(values) > 0 and (np.diff(knots) > 0).all() and scale > 0
        sound = sound and (np.diff(values) >= 0).all() and beyond >= values[-1] and shape >= 0
        if not (sound and np.isfinite([*knots, *values, beyond, shape, scale]).all()):
            raise ValueError("survival")
        return cls(knots, values, beyond, shape, scale)


class Survivals:
    """Several asked at once, by what stands in columns of all of them."""

    def __init__(self, several: Sequence[Survival]) -> None:
        # A cell lies left of every knot, and one right of the last: where it begins, the evidence
        # there, how fast it rises, and what it may not exceed.
        with np.errstate(over="ignore"):  # knots that hardly differ
            slopes = [np.diff(one.values) / np.diff(one.knots) for one in several]
        self._knots = Knots([one.knots for one in several])
        self._from = np.concatenate([k for one in several for k in (one.knots[:1], one.knots)])
        self._value = np.concatenate([k for one in several for k in (one.values[:1], one.values)])
        self._slope = np.concatenate([k for own in slopes for k in ([0.0], own, [0.0])])
        self._upper = np.concatenate([k for one in several for k in (one.values, one.values[-1:])])
        self._steep = not np.isfinite(self._slope).all()
        self._first = np.array([[one.knots[0]] for one in several])
        self._last = np.array([[one.knots[-1]] for one in several])
        self._beyond = np.array([one.beyond for one in several])
        self._shape = np.array([one.shape for one in several])
        self._scale = np.array([one.scale for one in several])

    def evidence(self, numbers: Float64) -> Float64:
        """(v, w) -> (v, w), from 0 to MOST_EVIDENCE; what is not finite is as rare as can be."""
        inside = np.minimum(np.maximum(numbers, self._first), self._last)
        cell = self._knots.below(inside)
        begin, value = self._from[cell], self._value[cell]
        found: Float64 = inside - begin
        found *= self._slope[cell]
        found += value
        if self._steep:
            found = np.where(inside == begin, value, found)
        # Rounded, a line may end above the knot it leads to.
        np.minimum(found, self._upper[cell], out=found)
        far = np.flatnonzero(numbers > self._last)
        if len(far):
            found.reshape(-1)[far] = self._tail(numbers.reshape(-1)[far], far // numbers.shape[1])
        finite = np.isfinite(numbers)
        if not finite.all():
            found[~finite] = MOST_EVIDENCE
        result: Float64 = found.clip(0.0, MOST_EVIDENCE)
        return result

    def _tail(self, numbers: Float64, which: Int64) -> Float64:
        """(k,) numbers above the last knot of a survival each."""
        shape = self._shape[which]
        heavy = shape > 0
        with np.errstate(all="ignore"):
            beyond = (numbers - self._last[which, 0]) / self._scale[which]
            far = np.where(heavy, np.log1p(shape * beyond) / np.where(heavy, shape, 1.0), beyond)
            result: Float64 = self._beyond[which] + far / _DECADE
        return result
