"""Figures over all series, each with its interval, and what they say in a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.ticks import Float64
from detector.evaluate.bootstrap import Interval, interval, mean_interval, ratio
from detector.evaluate.budgets import PooledBudget, pooled
from detector.evaluate.drift_totals import PooledDrift, pooled_drifts
from detector.evaluate.judging import DAY_HOURS
from detector.evaluate.results import WHOLE, Kind, SeriesResult


@dataclass(frozen=True, slots=True)
class Mean:
    """Over so many series; None where there is none to take it of, interval also for one."""

    series: int
    value: float | None
    interval: Interval | None


@dataclass(frozen=True, slots=True)
class ScorerMeans:
    """A scorer, or a published method (kind published, VUS-PR alone), over the series it has a
    figure of. ahead: of its VUS-PR over the detector's on the same series."""

    name: str
    kind: Kind | str
    vus_pr: Mean
    auc_pr: Mean
    ahead: Mean


@dataclass(frozen=True, slots=True)
class Totals:
    """Over a group of series. Precision and recall are of all alerts and events together; the
    delay is that of the events found; budget: the share of normal windows that may be above, asked:
    what the configuration asked for, both over the normal windows of all series, each of which has
    thresholds of its own; fell_back: series whose history carries no budget as small as asked;
    budgets: what others would have come to; drifts: injected ones, none where none was asked
    for."""

    group: str
    series: int
    scorers: list[ScorerMeans]
    events: int
    detected: int
    alerts: int
    false_alarms: int
    hours: float
    precision: Mean
    recall: Mean
    f1: Mean
    alerts_per_hour: Mean
    alerts_per_day: Mean
    false_alarms_per_hour: Mean
    false_alarms_per_series: Mean
    share_above: Mean
    budget: float
    asked: float | None
    fell_back: int
    delay_ticks: Mean
    delay_s: Mean
    median_delay_ticks: float | None
    median_delay_s: float | None
    nab: Mean
    nab_every_tick: Mean
    budgets: list[PooledBudget]
    drifts: list[PooledDrift]


PUBLISHED = "published"
ALL = "all"


def groups(results: Sequence[SeriesResult]) -> list[Totals]:
    """Of each dataset where there are several, and of all."""
    datasets = sorted({one.dataset for one in results if one.dataset})
    found = [
        totals(name, [one for one in results if one.dataset == name])
        for name in datasets
        if len(datasets) > 1
    ]
    return [*found, totals(ALL, results)]


def totals(group: str, results: Sequence[SeriesResult]) -> Totals:
    found = [one.at_threshold for one in results]
    sums = np.array(
        [
            (
                one.alerts,
                one.alerts - one.false_alarms,
                one.events,
                one.detected,
                one.false_alarms,
                one.hours,
                one.normal_windows,
                one.normal_above,
                sum(one.delays_ticks),
                sum(one.delays_s),
                one.nab_windows,
                one.nab,
                one.nab_every_tick,
                1,
            )
            for one in found
        ],
        np.float64,
    ).reshape(len(found), 14)
    whole = sums.sum(axis=0)
    ticks = [delay for one in found for delay in one.delays_ticks]
    seconds = [delay for one in found for delay in one.delays_s]

    def of(figure: Callable[[Float64], Float64]) -> Mean:
        value = float(figure(whole[None])[0])
        known = bool(np.isfinite(value))
        return Mean(
            len(results), value if known else None, interval(sums, figure) if known else None
        )

    return Totals(
        group=group,
        series=len(results),
        scorers=scorer_means(results),
        events=int(whole[2]),
        detected=int(whole[3]),
        alerts=int(whole[0]),
        false_alarms=int(whole[4]),
        hours=float(whole[5]),
        precision=of(ratio(1, 0)),
        recall=of(ratio(3, 2)),
        f1=of(_f1),
        alerts_per_hour=of(ratio(0, 5)),
        alerts_per_day=of(lambda sums: DAY_HOURS * ratio(0, 5)(sums)),
        false_alarms_per_hour=of(ratio(4, 5)),
        false_alarms_per_series=of(ratio(4, 13)),
        share_above=of(ratio(7, 6)),
        budget=_over_windows(results, [one.budget for one in results]) or 0.0,
        asked=_over_windows(results, [one.asked for one in results]),
        fell_back=sum(one.fell_back for one in results),
        delay_ticks=of(ratio(8, 3)),
        delay_s=of(ratio(9, 3)),
        median_delay_ticks=float(np.median(ticks)) if ticks else None,
        median_delay_s=float(np.median(seconds)) if seconds else None,
        nab=of(_nab(11)),
        nab_every_tick=of(_nab(12)),
        budgets=pooled(results),
        drifts=pooled_drifts(results),
    )


def _over_windows(results: Sequence[SeriesResult], shares: Sequence[float | None]) -> float | None:
    """The share of all normal windows that these shares of each series' come to."""
    known = [share for share in shares if share is not None]
    if not known or len(known) < len(shares):
        return None
    windows = [one.at_threshold.normal_windows for one in results]
    return float(np.average(known, weights=windows if any(windows) else None))


def _f1(sums: Float64) -> Float64:
    """Harmonic mean of pooled precision and recall: 0 where no alert is right."""
    precision = np.nan_to_num(ratio(1, 0)(sums))
    recall = ratio(3, 2)(sums)
    both = precision + recall
    return np.where(both > 0, 2 * precision * recall / np.where(both > 0, both, 1.0), recall)


def _nab(column: int) -> Callable[[Float64], Float64]:
    def figure(sums: Float64) -> Float64:
        windows = sums[:, 10]
        some = np.where(windows > 0, windows, np.nan)
        return np.asarray(100 * (sums[:, column] + windows) / (2 * some))

    return figure


def scorer_means(results: Sequence[SeriesResult]) -> list[ScorerMeans]:
    """The detector first, then its views, then baselines, then what is published."""
    kinds: dict[str, Kind] = {}
    for one in results:
        for ranking in one.rankings:
            kinds.setdefault(ranking.name, ranking.kind)
    order = ("detector", "view", "baseline")
    found = []
    for name, kind in sorted(kinds.items(), key=lambda item: order.index(item[1])):
        vus, auc, ahead = [], [], []
        for one in results:
            own, whole = one.ranking(name), one.ranking(WHOLE)
            if own and own.vus_pr is not None and own.auc_pr is not None:
                vus.append(own.vus_pr)
                auc.append(own.auc_pr)
                if name != WHOLE and whole and whole.vus_pr is not None:
                    ahead.append(own.vus_pr - whole.vus_pr)
        found.append(ScorerMeans(name, kind, _mean(vus), _mean(auc), _mean(ahead)))
    for name in dict.fromkeys(name for one in results for name in one.published):
        vus, ahead = [], []
        for one in results:
            whole = one.ranking(WHOLE)
            if name in one.published and whole and whole.vus_pr is not None:
                vus.append(one.published[name])
                ahead.append(one.published[name] - whole.vus_pr)
        found.append(ScorerMeans(name, PUBLISHED, _mean(vus), _mean([]), _mean(ahead)))
    return found


def _mean(values: Sequence[float]) -> Mean:
    if not values:
        return Mean(0, None, None)
    array = np.array(values, np.float64)
    return Mean(len(values), float(array.mean()), mean_interval(array))


def sentences(found: Totals) -> list[str]:
    """What a reader must not overlook: who alone ranks better than the whole, and whether the
    threshold keeps its budget."""
    said = []
    whole = next((one for one in found.scorers if one.name == WHOLE), None)
    if whole and whole.vus_pr.value is not None:
        over = f"over {_count(whole.vus_pr.series, 'series', 'series')}"
        if whole.vus_pr.interval:
            over += f", 95 % interval {_range(whole.vus_pr.interval)}"
        said.append(f"The detector ranks ticks with a VUS-PR of {whole.vus_pr.value:.3f} ({over}).")
        own = [one for one in found.scorers if one.kind in ("view", "baseline")]
        better = [one for one in own if one.ahead.value is not None and one.ahead.value > 0]
        said += map(_ahead, sorted(better, key=lambda one: -(one.ahead.value or 0.0)))
        if own and not better:
            said.append("No view and no baseline alone ranks better than the whole.")
        if not own:
            said.append("No baseline was run: name normal ticks with --train or --prefix.")
    share, budget = found.share_above.value, found.budget
    if share is not None:
        times = share / budget if budget else math.inf
        verdict = "within the budget" if share <= budget else f"{times:,.3g} times the budget"
        said.append(
            f"{share:.3%} of normal windows are above the threshold, {budget:.3%} were allowed: "
            f"{verdict}."
        )
    if found.fell_back and found.asked is not None:
        said.append(
            f"{found.fell_back} of {_count(found.series, 'series has', 'series have')} a history "
            f"that carries no budget of {found.asked:.3%}: there the threshold stands at a larger "
            "one."
        )
    if found.events:
        said.append(
            f"At the threshold {found.detected} of "
            f"{_count(found.events, 'event is', 'events are')} found, with "
            f"{_count(found.false_alarms, 'false alarm', 'false alarms')} in "
            f"{found.hours:,.1f} hours."
        )
    return said


def _ahead(one: ScorerMeans) -> str:
    assert one.vus_pr.value is not None
    assert one.ahead.value is not None
    text = (
        f"The {one.kind} {one.name} alone beats the whole: VUS-PR {one.vus_pr.value:.3f}, "
        f"{one.ahead.value:.3f} more"
    )
    if one.ahead.series < 2 or one.ahead.interval is None:
        return f"{text} on the one series both have."
    low, _ = one.ahead.interval
    sure = "the interval excludes 0" if low > 0 else "the interval includes 0: it may be chance"
    return (
        f"{text} on the same {one.ahead.series} series "
        f"(95 % interval {_range(one.ahead.interval)}; {sure})."
    )


def _range(found: Interval) -> str:
    return f"{found[0]:.3f} to {found[1]:.3f}"


def _count(number: int, one: str, more: str) -> str:
    return f"{number:,} {one if number == 1 else more}"
