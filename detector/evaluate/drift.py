"""What the world may do to a series that is no anomaly: it moves to another level, strays more or
less, or begins to swing, at once or slowly. Knows values alone, no model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from detector.core.ticks import Float64

#: A slow drift is complete after so many ticks, or this part of the rest where that is less.
_RAMP_TICKS, _RAMP_PART = 2000, 4
#: A season: this many windows from one high to the next.
_PERIOD_WINDOWS = 10
_IQR_OF_NORMAL = 1.349


Kind = Literal["none", "level", "scale", "season"]


@dataclass(frozen=True, slots=True)
class Drift:
    """amount: of a level and a season in spreads of the field, of a scale the factor."""

    kind: Kind
    amount: float
    slow: bool

    @property
    def name(self) -> str:
        if self.kind == "none":
            return "nothing injected"
        what = {"level": "level +{:g}", "scale": "scale x{:g}", "season": "season of {:g}"}
        return f"{what[self.kind].format(self.amount)}, {'slow' if self.slow else 'sudden'}"

    def ramp_ticks(self, rest: int) -> int:
        """Until it is complete, of so many ticks that follow."""
        return min(_RAMP_TICKS, rest // _RAMP_PART) if self.slow else 0


_INJECTED: tuple[tuple[Kind, float], ...] = (
    ("level", 3.0),
    ("level", 10.0),
    ("scale", 2.0),
    ("scale", 0.5),
    ("season", 3.0),
)
#: The first is there to compare with: what the same ticks come to as they are.
DRIFTS = (
    Drift("none", 0.0, slow=False),
    *(Drift(kind, amount, slow) for kind, amount in _INJECTED for slow in (False, True)),
)


@dataclass(frozen=True, slots=True)
class Usual:
    """What fields are like: centre, spread (fields,). A field that never changes has no spread, and
    no drift moves it."""

    centre: Float64
    spread: Float64


def usual(values: Float64) -> Usual:
    """values: (n, fields), n >= 1, may hold NaN. Centre: the median; spread: the interquartile
    range over 1.349, where that is 0 the standard deviation; 0 of a field without a value."""
    centre, spread = np.zeros((2, values.shape[1]))
    for field, column in enumerate(values.T):
        known = column[np.isfinite(column)]
        if len(known):
            lower, centre[field], upper = np.quantile(known, [0.25, 0.5, 0.75])
            spread[field] = (upper - lower) / _IQR_OF_NORMAL or known.std()
            if known.min() == known.max():  # a deviation of equal numbers may be 1e-17
                spread[field] = 0.0
    return Usual(centre, spread)


def drifted(
    values: Float64, drift: Drift, usual: Usual, *, since: int, rest: int, length: int
) -> Float64:
    """values: (n, fields) of consecutive ticks -> the same shape. since: how many ticks after the
    beginning of the drift the first of them is; rest: ticks from there to the end of the series;
    length: of a window, in ticks."""
    if drift.kind == "none":
        return values
    tick = since + np.arange(len(values))[:, None]
    ramp = drift.ramp_ticks(rest)
    done = np.minimum((tick + 1) / ramp, 1.0) if ramp else np.ones_like(tick, np.float64)
    if drift.kind == "scale":
        factor = 1 + done * (drift.amount - 1)
        found = usual.centre + (values - usual.centre) * factor
    else:
        shift = done * drift.amount * usual.spread
        if drift.kind == "season":
            shift = shift * np.sin(2 * np.pi * tick / (_PERIOD_WINDOWS * length))
        found = values + shift
    return np.where(usual.spread > 0, found, values)
