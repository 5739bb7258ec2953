"""Drifts injected into a series, one at a time, through the production pipeline: how often it fires
before, at first and later, and how long until it has learned what is normal now.

The ticks up to the drift are run once; from the state they leave, every drift starts as a series of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from msgspec.structs import replace

from detector.build import budget_of, columns, make_pipeline
from detector.config import Config
from detector.core.pipeline import Pipeline, PipelineState
from detector.core.ticks import Bool, Float64, Int64, TickBatch
from detector.data.chunks import read_chunks
from detector.data.sources import Source
from detector.evaluate.budgets import matched
from detector.evaluate.drift import Drift, Usual, drifted, usual
from detector.evaluate.events import OpenedAlert
from detector.evaluate.judging import Truth, events_of, normal_windows
from detector.evaluate.labelled import opened_alerts
from detector.evaluate.results import AfterDrift
from detector.model.directory import Artifact

#: Windows that the share above is taken over while it falls, and how many budgets it may be.
WITHIN, TIMES = 500, 3.0
_TICKS_AT_ONCE = 2048


@dataclass(frozen=True, slots=True)
class RawSeries:
    """n ticks of a series: time_ns (n,), values (n, fields) as they were read."""

    time_ns: Int64
    values: Float64


def read_series(config: Config, artifact: Artifact, file: Source) -> dict[str, RawSeries]:
    """Of a file, all ticks. Raises DataError where it cannot be read."""
    parts: dict[str, list[RawSeries]] = {}
    for chunk in read_chunks(file, columns(config), artifact.features.fields):
        names = np.array(chunk.series)
        for name in np.unique(names).tolist():
            own = names == name
            parts.setdefault(name, []).append(RawSeries(chunk.time_ns[own], chunk.values[own]))
    return {
        name: RawSeries(
            np.concatenate([p.time_ns for p in own]), np.concatenate([p.values for p in own])
        )
        for name, own in parts.items()
    }


def place_of_drift(truth: Truth, score: Float64) -> int | None:
    """The tick in the middle of the normal windows after the prefix; None where fewer than WITHIN
    follow."""
    normal = np.flatnonzero(normal_windows(truth, score))
    middle = len(normal) // 2
    return int(normal[middle]) if len(normal) - middle >= WITHIN else None


def after_drifts(
    config: Config,
    artifact: Artifact,
    series: RawSeries,
    truth: Truth,
    drifts: Sequence[Drift],
    *,
    begin: int,
) -> list[AfterDrift]:
    """Of each drift, into all fields from tick `begin` on. Labelled ticks stay where they are, and
    neither their windows nor alerts in them count."""
    room = replace(config.limits, max_series=max(config.limits.max_series, len(drifts) + 1))
    pipeline = make_pipeline(replace(config, limits=room), artifact)
    before = np.concatenate(
        [
            pipeline.process(
                _batch(series, series.values[start:end], slice(start, end), "before", 0)
            ).score
            for start, end in _parts(0, begin)
        ]
    )
    _start_each(pipeline, [drift.name for drift in drifts], as_of=begin)
    known = _usual(config, artifact, series, truth, begin=begin)
    ticks = len(series.time_ns)
    score = np.full((len(drifts), ticks), np.nan)
    score[:, :begin] = before
    rejected = np.zeros(len(drifts), np.int64)
    opened: list[OpenedAlert] = []
    for start, end in _parts(begin, ticks):
        rows, batches = slice(start, end), []
        for number, drift in enumerate(drifts):
            values = drifted(
                series.values[rows],
                drift,
                known,
                since=start - begin,
                rest=ticks - begin,
                length=truth.length,
            )
            batches.append(_batch(series, values, rows, drift.name, number + 1))
        result = pipeline.process(
            TickBatch.concatenate(batches, fields=len(artifact.features.fields))
        )
        score[:, rows] = result.score.reshape(len(drifts), end - start)
        opened += opened_alerts(result)
        for one in result.rejects:
            rejected[one.partition - 1] += 1
    threshold, budget = pipeline.primary.policy.threshold, budget_of(config, artifact)
    return [
        judged(
            truth,
            drift,
            score[number],
            threshold,
            np.array([a.time_ns for a in opened if a.series == drift.name], np.int64),
            begin=begin,
            budget=budget,
            rejected=int(rejected[number]),
            fields=int(np.count_nonzero(known.spread)) if drift.kind != "none" else 0,
        )
        for number, drift in enumerate(drifts)
    ]


def judged(
    truth: Truth,
    drift: Drift,
    score: Float64,
    threshold: float,
    alerts_ns: Int64,
    *,
    begin: int,
    budget: float,
    rejected: int = 0,
    fields: int = 0,
) -> AfterDrift:
    """score: (n,) of the series with the drift; alerts_ns: when alerts opened since its begin."""
    normal = normal_windows(truth, score)
    above = score > threshold
    at = np.flatnonzero(normal)
    since = at[at >= begin]
    parts = (at[at < begin], since[:WITHIN], since[WITHIN:])
    counts = [(len(part), int(np.count_nonzero(above[part]))) for part in parts]
    ramp = drift.ramp_ticks(len(score) - begin)
    _, alerts = matched(np.sort(alerts_ns), events_of(truth))
    return AfterDrift(
        drift=drift.name,
        tick=begin,
        ramp_ticks=ramp,
        fields=fields,
        before=counts[0][0],
        before_above=counts[0][1],
        first=counts[1][0],
        first_above=counts[1][1],
        later=counts[2][0],
        later_above=counts[2][1],
        alerts=alerts,
        rejected=rejected,
        back_ticks=back_after(at, above[at], begin=begin, ramp=ramp, most=TIMES * budget),
        watched_ticks=len(score) - begin,
    )


def back_after(tick: Int64, above: Bool, *, begin: int, ramp: int, most: float) -> int | None:
    """Ticks from a drift to the first window at which, the drift being complete, no more than the
    share `most` of the last WITHIN windows are above; 0 where there never were more, None where
    there always are. tick: (w,) where each normal window ends; above: (w,)."""
    count = np.concatenate([[0], np.cumsum(above)])
    end = np.arange(1, len(tick) + 1)
    share = (count[end] - count[np.maximum(end - WITHIN, 0)]) / np.minimum(end, WITHIN)
    since = tick >= begin
    over = since & (share > most)
    if not over.any():
        return 0
    back = (tick >= tick[over.argmax()]) & (tick >= begin + ramp) & ~over & since
    return int(tick[back.argmax()]) - begin if back.any() else None


def _start_each(pipeline: Pipeline, names: Sequence[str], *, as_of: int) -> None:
    """Each name becomes a series in a partition of its own, in the state of the one that is
    there."""
    slots = np.array([pipeline.stream.series.find(0, "before")], np.int64)
    saved = pipeline.snapshot(slots)
    series = tuple((number + 1, name) for number, name in enumerate(names))
    each = {name: np.repeat(column, len(names), axis=0) for name, column in saved.columns.items()}
    pipeline.restore(PipelineState(series, each), np.full(len(names), as_of))
    event_ns = pipeline.event_ns(0)
    assert event_ns is not None  # a series with a score was heard
    for partition, _ in series:
        pipeline.set_event_ns(partition, event_ns)


def _usual(
    config: Config, artifact: Artifact, series: RawSeries, truth: Truth, *, begin: int
) -> Usual:
    """Of the normal ticks before the drift, the prefix too. A field that is the time stays so."""
    found = usual(series.values[:begin][~truth.labels[:begin]])
    movable = np.array([f != config.input.timestamp_field for f in artifact.features.fields])
    return Usual(found.centre, np.where(movable, found.spread, 0.0))


def _batch(series: RawSeries, values: Float64, rows: slice, name: str, partition: int) -> TickBatch:
    time_ns = series.time_ns[rows]
    n = len(time_ns)
    return TickBatch(
        series=[name] * n,
        time_ns=time_ns,
        values=values,
        partition=np.full(n, partition, np.int32),
        offset=np.arange(rows.start, rows.start + n),
        index=np.zeros(n, np.int32),
        received_ms=time_ns // 10**6,
    )


def _parts(begin: int, end: int) -> list[tuple[int, int]]:
    starts = range(begin, end, _TICKS_AT_ONCE)
    return [(start, min(start + _TICKS_AT_ONCE, end)) for start in starts]
