"""One series with its labels: how well each scorer ranks its ticks, and what the detector did at
its threshold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.ticks import Bool, Float64, Int64
from detector.evaluate.events import OpenedAlert, score_events
from detector.evaluate.labelled import Event, label_events
from detector.evaluate.measures import auc_pr, labelled_stretches, precision_recall, vus_pr
from detector.evaluate.nab import nab_score
from detector.evaluate.results import RECALLS, WHOLE, AtThreshold, Ranking, Scorer, Sketch

_BINS = 600
_HOUR_S = 3600.0
DAY_HOURS = 24.0


@dataclass(frozen=True, slots=True)
class Truth:
    """n ticks of a series in order: time_ns, labels (n,). prefix: ticks at the beginning that
    were learned from; length: of a window, in ticks."""

    series: str
    time_ns: Int64
    labels: Bool
    prefix: int
    length: int


def rank(truth: Truth, scorer: Scorer, *, width: int) -> Ranking:
    """Over the whole series, its prefix too: as published figures are."""
    area = vus_pr(scorer.score, truth.labels, width=width)
    return Ranking(scorer.name, scorer.kind, area, auc_pr(scorer.score, truth.labels))


def at_threshold(
    truth: Truth, score: Float64, threshold: float, opened: Sequence[OpenedAlert]
) -> AtThreshold:
    """opened: the alerts of this series alone. Ticks of the prefix count for nothing, but for the
    NAB score, which has a beginning of its own."""
    places = alert_places(truth, opened)
    counted = [a for a, place in zip(opened, places, strict=True) if place >= truth.prefix]
    events = events_of(truth)
    found = score_events(events, counted, aftermath_ns=0)
    delays = [
        (event.start_ns, min(times))
        for event in events
        if (times := [a.time_ns for a in counted if event.start_ns <= a.time_ns <= event.end_ns])
    ]
    ticks = np.searchsorted(truth.time_ns, np.array(delays, np.int64).reshape(-1, 2))
    hours = hours_of(truth)
    normal = normal_windows(truth, score)
    above = int((score[normal] > threshold).sum())
    windows = [(start, end - 1) for start, end in stretches(truth.labels)]
    spoken = np.zeros(len(score), np.bool_)
    spoken[places] = True
    return AtThreshold(
        threshold=threshold if math.isfinite(threshold) else None,
        events=found.injected,
        detected=found.detected,
        alerts=found.alerts,
        false_alarms=found.false_alarms,
        precision=found.precision,
        recall=found.recall,
        f1=found.f1 if events else None,
        delays_ticks=(ticks[:, 1] - ticks[:, 0]).tolist(),
        delays_s=[(alert - start) / 1e9 for start, alert in delays],
        hours=hours,
        alerts_per_hour=found.alerts / hours if hours > 0 else None,
        alerts_per_day=found.alerts * DAY_HOURS / hours if hours > 0 else None,
        false_alarms_per_hour=found.false_alarms / hours if hours > 0 else None,
        normal_windows=int(normal.sum()),
        normal_above=above,
        share_above=above / int(normal.sum()) if normal.any() else None,
        nab_windows=len(windows),
        nab=nab_score(spoken, windows).score,
        nab_every_tick=nab_score(score > threshold, windows).score,
    )


def after_prefix(truth: Truth) -> Bool:
    return np.asarray(np.arange(len(truth.labels)) >= truth.prefix)


def events_of(truth: Truth) -> list[Event]:
    """Labelled stretches after the prefix."""
    labels = truth.labels & after_prefix(truth)
    return label_events(truth.series, truth.time_ns, labels, truth.length)


def normal_windows(truth: Truth, score: Float64) -> Bool:
    """Which ticks after the prefix close a window that neither holds a labelled tick nor follows
    right after one. score: (n,) NaN where a tick closes none."""
    # One more: a feature may compare the first tick of a window with the one before it.
    return after_prefix(truth) & np.isfinite(score) & ~in_window(truth.labels, truth.length + 1)


def hours_of(truth: Truth) -> float:
    """Of event time after the prefix."""
    if truth.prefix >= len(truth.time_ns):
        return 0.0
    return (int(truth.time_ns[-1]) - int(truth.time_ns[truth.prefix])) / 1e9 / _HOUR_S


def sketch(
    truth: Truth, scorers: Sequence[Scorer], threshold: float, opened: Sequence[OpenedAlert]
) -> Sketch:
    """Small enough for a page."""
    score = next(one.score for one in scorers if one.name == WHOLE)
    edges = np.unique(np.linspace(0, len(score), min(_BINS, len(score)) + 1).astype(np.int64))
    low = np.where(np.isfinite(score), score, -np.inf)
    highest = np.maximum.reduceat(low, edges[:-1])
    return Sketch(
        ticks=len(score),
        score=np.where(np.isfinite(highest), highest, np.nan),
        threshold=threshold,
        prefix=truth.prefix,
        labelled=stretches(truth.labels),
        alerts=alert_places(truth, opened).tolist(),
        curves={
            one.name: curve
            for one in scorers
            if (curve := curve_of(one.score, truth.labels)) is not None
        },
    )


def curve_of(score: Float64, labels: Bool) -> Float64 | None:
    """The best precision at each of RECALLS or a higher recall."""
    found = precision_recall(score, labels)
    if found is None:
        return None
    precision, recall = found
    best = np.maximum.accumulate(precision[::-1])[::-1]
    return np.asarray(best[np.minimum(np.searchsorted(recall, RECALLS - 1e-9), len(best) - 1)])


def alert_places(truth: Truth, opened: Sequence[OpenedAlert]) -> Int64:
    """Where each alert opened, among the ticks of the series."""
    times = np.array([alert.time_ns for alert in opened], np.int64)
    return np.minimum(np.searchsorted(truth.time_ns, times), len(truth.time_ns) - 1)


def stretches(labels: Bool) -> list[tuple[int, int]]:
    """First tick of each labelled stretch, and the one after its last."""
    starts, ends = labelled_stretches(labels)
    return list(zip(starts.tolist(), ends.tolist(), strict=True))


def in_window(labels: Bool, length: int) -> Bool:
    """Whether one of the last ticks, so many with each tick itself, is labelled."""
    count = np.concatenate([[0], np.cumsum(labels)])
    ends = np.arange(1, len(labels) + 1)
    return np.asarray(count[ends] > count[np.maximum(ends - length, 0)])
