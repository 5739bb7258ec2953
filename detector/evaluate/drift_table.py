"""Injected drifts and what came of them, for people."""

from __future__ import annotations

from collections.abc import Sequence

from detector.evaluate.drift_totals import PooledDrift
from detector.evaluate.drifting import TIMES, WITHIN
from detector.evaluate.table import Table, percent

_HEADS = (
    "injected",
    "series disturbed",
    "above before",
    f"first {WITHIN} windows",
    "later",
    "alerts",
    f"ticks until {WITHIN} windows hold {TIMES:g} budgets",
)


def drift_table(found: Sequence[PooledDrift]) -> Table:
    rows = [
        (
            one.drift,
            f"{one.disturbed} of {one.series}",
            percent(one.share_before),
            percent(one.share_first),
            percent(one.share_later),
            str(one.alerts),
            _back(one),
        )
        for one in found
    ]
    return Table("after an injected drift, all series", _HEADS, rows)


def _back(one: PooledDrift) -> str:
    """Of the series it disturbed."""
    if not one.disturbed:
        return "-"
    never = f"not within {one.median_watched_ticks:,.0f}"
    if one.median_back_ticks is None:
        return never
    ticks = f"{one.median_back_ticks:,.0f}"
    if one.disturbed == 1:
        return ticks
    missing = one.disturbed - one.back
    return f"median {ticks}" + (f"; {missing} of {one.disturbed} {never}" if missing else "")
