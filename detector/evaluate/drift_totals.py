"""Injected drifts over series."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.evaluate.results import AfterDrift, SeriesResult


@dataclass(frozen=True, slots=True)
class PooledDrift:
    """One drift over series. share_before, share_first, share_later: of all their normal windows;
    alerts: opened since the drift; disturbed: series in which too many were above at any time since
    then; back: those of them in which few enough are above again; median_back_ticks: of these;
    median_watched_ticks: of all series."""

    drift: str
    series: int
    share_before: float | None
    share_first: float | None
    share_later: float | None
    alerts: int
    rejected: int
    disturbed: int
    back: int
    median_back_ticks: float | None
    median_watched_ticks: float


def pooled_drifts(results: Sequence[SeriesResult]) -> list[PooledDrift]:
    met: dict[str, list[AfterDrift]] = {}
    for one in results:
        for found in one.drifts:
            met.setdefault(found.drift, []).append(found)
    return [_pooled(name, found) for name, found in met.items()]


def _pooled(name: str, found: Sequence[AfterDrift]) -> PooledDrift:
    disturbed = [one.back_ticks for one in found if one.back_ticks != 0]
    back = [ticks for ticks in disturbed if ticks is not None]
    return PooledDrift(
        drift=name,
        series=len(found),
        share_before=_share([(one.before_above, one.before) for one in found]),
        share_first=_share([(one.first_above, one.first) for one in found]),
        share_later=_share([(one.later_above, one.later) for one in found]),
        alerts=sum(one.alerts for one in found),
        rejected=sum(one.rejected for one in found),
        disturbed=len(disturbed),
        back=len(back),
        median_back_ticks=float(np.median(back)) if back else None,
        median_watched_ticks=float(np.median([one.watched_ticks for one in found])),
    )


def _share(counts: Sequence[tuple[int, int]]) -> float | None:
    windows = sum(of for _, of in counts)
    return sum(above for above, _ in counts) / windows if windows else None
