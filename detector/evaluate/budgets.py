"""What each budget would have come to: the threshold it asks for, over scores that are there
already, for the score as calibrated and in the light of the tail of each series. Scores nothing."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.config import Config
from detector.core.alerts import State
from detector.core.episodes import AlertPolicy, Episodes, Lifecycle
from detector.core.thresholds import choose_threshold
from detector.core.thresholds.calibration import Calibration, Demand
from detector.core.ticks import Float64, Int64
from detector.errors import ConfigError
from detector.evaluate.judging import DAY_HOURS, Truth, events_of, hours_of, normal_windows
from detector.evaluate.labelled import Event
from detector.evaluate.results import SIDES, AtBudget, SeriesResult, Side

#: Shares of normal windows that may be above, half a decade from each to the next.
BUDGETS = (1e-1, 10**-1.5, 1e-2, 10**-2.5, 1e-3, 10**-3.5, 1e-4, 10**-4.5, 1e-5)
WHOLE_DECADES = (1e-2, 1e-3, 1e-4, 1e-5)


def thresholds(config: Config, calibration: Calibration) -> dict[float, float]:
    """Budget -> the threshold it would be given, as threshold.method says (pot where that is fixed:
    a fixed threshold knows no budget). Without those the method cannot meet."""
    method = "pot" if config.threshold.method == "fixed" else config.threshold.method
    found = {}
    for budget in BUDGETS:
        try:
            found[budget] = choose_threshold(method, calibration, Demand(budget))
        except ConfigError:
            continue
    return found


def at_budgets(
    truth: Truth,
    scores: Mapping[Side, Float64],
    thresholds: Mapping[float, float],
    policy: AlertPolicy,
    *,
    cold_windows: int = 0,
) -> list[AtBudget]:
    """scores: (n,) each, of the same ticks, NaN where a tick closes no window; thresholds: of each
    budget; policy, cold_windows: how alerts open. Ticks of the prefix move states and count for
    nothing."""
    events, hours = events_of(truth), hours_of(truth)
    found = []
    for side, score in scores.items():
        normal = score[normal_windows(truth, score)]
        for budget, threshold in thresholds.items():
            above = int(np.count_nonzero(normal > threshold))
            times_ns = truth.time_ns[onsets(truth.time_ns, score, threshold, policy, cold_windows)]
            # As an alert is placed: by the first tick of its time.
            times_ns = times_ns[np.searchsorted(truth.time_ns, times_ns) >= truth.prefix]
            detected, false = matched(times_ns, events)
            alerts = len(times_ns)
            precision, recall = _of(alerts - false, alerts), _of(detected, len(events))
            found.append(
                AtBudget(
                    budget=budget,
                    score=side,
                    threshold=threshold if math.isfinite(threshold) else None,
                    normal_above=above,
                    share_above=_of(above, len(normal)),
                    alerts=alerts,
                    false_alarms=false,
                    detected=detected,
                    alerts_per_hour=_of(alerts, hours),
                    alerts_per_day=_of(alerts * DAY_HOURS, hours),
                    false_alarms_per_hour=_of(false, hours),
                    false_alarms_per_day=_of(false * DAY_HOURS, hours),
                    precision=precision,
                    recall=recall,
                    f1=f1(precision, recall),
                )
            )
    return found


def onsets(
    time_ns: Int64, score: Float64, threshold: float, policy: AlertPolicy, cold_windows: int = 0
) -> Int64:
    """The ticks at which alerts of a series open, by the rules of the daemon. time_ns, score: (n,);
    NaN where a tick closes no window. (A series that is forgotten in between,
    limits.forget_after_s, begins anew in the daemon, and does not here.)"""
    at = np.flatnonzero(~np.isnan(score))
    changes = Lifecycle(policy).update(
        np.zeros(len(at), np.int64),
        score[at],
        time_ns[at],
        threshold,
        Episodes(),
        muted=np.arange(len(at)) < cold_windows,
    )
    opened = [change.window for change in changes if change.state is State.OPENED]
    return np.asarray(at[np.array(opened, np.int64)])


def matched(times_ns: Int64, events: Sequence[Event]) -> tuple[int, int]:
    """How many events of a series were met by an alert, and how many alerts met none, as
    score_events counts. times_ns: of the alerts, ascending; events: in order of time."""
    starts = np.array([event.start_ns for event in events], np.int64)
    ends = np.array([event.end_ns for event in events], np.int64)
    first = np.searchsorted(times_ns, starts, side="left")
    detected = int(np.count_nonzero(np.searchsorted(times_ns, ends, side="right") > first))
    begun = np.searchsorted(starts, times_ns, side="right")
    right = int(np.count_nonzero(begun > np.searchsorted(ends, times_ns, side="left")))
    return detected, len(times_ns) - right


@dataclass(frozen=True, slots=True)
class PooledBudget:
    """One score at one budget over series: counts are sums.

    median_share: of the series, each by itself; days: of event time of all series together, so
    that what is a day is a day of one series
    """

    budget: float
    score: Side
    series: int
    normal_windows: int
    normal_above: int
    share_above: float | None
    median_share: float | None
    events: int
    detected: int
    alerts: int
    false_alarms: int
    days: float
    alerts_per_day: float | None
    false_alarms_per_day: float | None
    alerts_per_hour: float | None
    false_alarms_per_hour: float | None
    precision: float | None
    recall: float | None
    f1: float | None


def pooled(results: Sequence[SeriesResult]) -> list[PooledBudget]:
    """Of every score and budget that any series has, over the series that have it."""
    met: dict[tuple[Side, float], list[tuple[SeriesResult, AtBudget]]] = {}
    for one in results:
        for at in one.budgets:
            met.setdefault((at.score, at.budget), []).append((one, at))
    order = sorted(met, key=lambda key: (SIDES.index(key[0]), -key[1]))
    return [_pooled(side, budget, met[side, budget]) for side, budget in order]


def _pooled(
    side: Side, budget: float, found: Sequence[tuple[SeriesResult, AtBudget]]
) -> PooledBudget:
    windows = sum(one.at_threshold.normal_windows for one, _ in found)
    events = sum(one.at_threshold.events for one, _ in found)
    hours = sum(one.at_threshold.hours for one, _ in found)
    above, alerts, false, detected = (
        sum(column)
        for column in zip(
            *((at.normal_above, at.alerts, at.false_alarms, at.detected) for _, at in found),
            strict=True,
        )
    )
    shares = [at.share_above for _, at in found if at.share_above is not None]
    precision, recall = _of(alerts - false, alerts), _of(detected, events)
    return PooledBudget(
        budget=budget,
        score=side,
        series=len(found),
        normal_windows=windows,
        normal_above=above,
        share_above=_of(above, windows),
        median_share=float(np.median(shares)) if shares else None,
        events=events,
        detected=detected,
        alerts=alerts,
        false_alarms=false,
        days=hours / DAY_HOURS,
        alerts_per_day=_of(alerts * DAY_HOURS, hours),
        false_alarms_per_day=_of(false * DAY_HOURS, hours),
        alerts_per_hour=_of(alerts, hours),
        false_alarms_per_hour=_of(false, hours),
        precision=precision,
        recall=recall,
        f1=f1(precision, recall),
    )


def f1(precision: float | None, recall: float | None) -> float | None:
    """The harmonic mean: 0 without any alert, None without events."""
    if recall is None:
        return None
    both = (precision or 0.0) + recall
    return 2 * (precision or 0.0) * recall / both if both else 0.0


def _of(part: float, whole: float) -> float | None:
    return part / whole if whole > 0 else None
