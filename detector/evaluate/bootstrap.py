"""How sure a figure over series is: the percentile bootstrap (Efron 1979).

Series are drawn with replacement, as many as there are, and the figure is taken of the draw; the
interval holds the middle 95 % of such figures. The draws come from a fixed seed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from detector.core.ticks import Float64

Interval = tuple[float, float]
#: Sums of the columns of each draw, (draws, k), to its figure, (draws,); NaN where it has none.
Figure = Callable[[Float64], Float64]

LEVEL = 0.95
DRAWS = 5000
_SEED = 7
_ROWS_AT_ONCE = 2_000_000


def interval(rows: Float64, figure: Figure) -> Interval | None:
    """Of a figure that is made of sums over series. rows: (series, k). None for a single series,
    and where no draw has the figure."""
    series = len(rows)
    if series < 2:
        return None
    random = np.random.default_rng(_SEED)
    step = max(1, _ROWS_AT_ONCE // series)
    sums = [
        rows[random.integers(0, series, (min(step, DRAWS - begin), series))].sum(axis=1)
        for begin in range(0, DRAWS, step)
    ]
    found = figure(np.concatenate(sums))
    found = found[np.isfinite(found)]
    if not len(found):
        return None
    low, high = np.quantile(found, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    return low, high


def mean_interval(values: Float64) -> Interval | None:
    """Of the mean over series. values: (series,)."""
    return interval(np.stack([values, np.ones_like(values)], axis=1), ratio(0, 1))


def ratio(above: int, below: int) -> Figure:
    """One column's sum over another's."""

    def figure(sums: Float64) -> Float64:
        under = sums[:, below]
        found: Float64 = np.divide(
            sums[:, above], under, out=np.full(len(sums), np.nan), where=under > 0
        )
        return found

    return figure
