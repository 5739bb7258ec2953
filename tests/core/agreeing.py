"""A pipeline run beside the plain reference, and whether they agree."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import strategies as st

from detector.core.alerts import Alert
from detector.core.cloudevents import encode_alert
from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.scorer import GraphScorer
from detector.core.ticks import Outcome
from tests.artifacts import make_artifact
from tests.core.making import Rules, pipeline_of
from tests.core.reference import (
    LEVELS,
    LOOKING_BACK,
    DetectorReference,
    Event,
    Tick,
    Verdict,
    batch_of,
)
from tests.core.streams import MAX_FUTURE_S, MAX_GAP_S

LENGTH = 3


MODELS = {"levels": LEVELS, "looking back": LOOKING_BACK}


@cache
def scorer(model: str) -> GraphScorer:
    with TemporaryDirectory() as directory:
        expressions = MODELS[model].expressions
        artifact = make_artifact(Path(directory) / "model", expressions, length=LENGTH)
        return artifact.open_scorer(threads=1)


def make_policy(
    *,
    stride: int = 1,
    max_gap_s: float | None = MAX_GAP_S,
    max_series: int = 100,
    threshold: float = 3.0,
    alerts: AlertPolicy | None = None,
    max_future_s: float | None = None,
    silence_s: float | None = None,
    forget_after_s: float | None = None,
    late_is_rejected: bool = False,
) -> Rules:
    return Rules(
        topic="ticks",
        length=LENGTH,
        stride=stride,
        max_gap_s=max_gap_s,
        max_series=max_series,
        threshold=threshold,
        alerts=alerts or AlertPolicy(open_after=1, of_last=2, resolve_after=2, critical_ratio=2.0),
        model_version="v1",
        max_future_s=max_future_s,
        silence_s=silence_s,
        forget_after_s=forget_after_s,
        late_is_rejected=late_is_rejected,
    )


@st.composite
def policies(draw: st.DrawFn) -> Rules:
    of_last = draw(st.integers(1, 4))
    return make_policy(
        stride=draw(st.sampled_from([1, 1, 2, 3])),
        max_gap_s=draw(st.sampled_from([MAX_GAP_S, MAX_GAP_S, None])),
        max_series=draw(st.sampled_from([100, 100, 2])),
        threshold=draw(st.sampled_from([0.5, 3.0, 10.0])),
        alerts=AlertPolicy(
            open_after=draw(st.integers(1, of_last)),
            of_last=of_last,
            resolve_after=draw(st.integers(1, 3)),
            resolve_ratio=draw(st.sampled_from([1.0, 0.5])),
            critical_ratio=draw(st.sampled_from([1.0, 1.5, 4.0])),
            quiet_ns=draw(st.sampled_from([0, 0, 10**9])),
        ),
        max_future_s=draw(st.sampled_from([None, None, MAX_FUTURE_S])),
        silence_s=draw(st.sampled_from([None, 0.75, 5.0, 20.0])),
        forget_after_s=draw(st.sampled_from([None, None, 4.0, 64.0])),
    )


def make_pipeline(policy: Rules, model: str) -> Pipeline:
    return pipeline_of(policy, FeatureSet.parse(MODELS[model].expressions), scorer(model))


@dataclass
class Log:
    """Everything that leaves a pipeline, batch after batch."""

    outcome: list[int] = field(default_factory=list)
    score: list[bytes] = field(default_factory=list)
    rejects: list[tuple[int, int, int, str]] = field(default_factory=list)
    events: Counter[bytes] = field(default_factory=Counter)
    events_by_series: dict[tuple[int, str], list[bytes]] = field(default_factory=dict)

    def add(self, result: BatchResult) -> None:
        self.outcome += result.outcome.tolist()
        self.score += [score.tobytes() for score in result.score]
        self.rejects += [(r.partition, r.offset, r.index, r.reason) for r in result.rejects]
        for alert in result.alerts:
            event = encode_alert(alert, source="/test", detected_ns=0)
            self.events[event] += 1
            self.events_by_series.setdefault((alert.partition, alert.series), []).append(event)


def run(pipeline: Pipeline, batches: Sequence[Sequence[Tick]], log: Log | None = None) -> Log:
    log = log or Log()
    for ticks in batches:
        log.add(pipeline.process(batch_of(pipeline, ticks)))
    return log


def event_of(alert: Alert) -> Event:
    return Event(
        id=alert.id,
        alert_id=alert.alert_id,
        kind=alert.kind,
        state=alert.state.name,
        severity=alert.severity.name,
        series=alert.series,
        partition=alert.partition,
        offset=alert.offset,
        index=alert.index,
        time_ns=alert.time_ns,
        opened_ns=alert.opened_ns,
        received_ms=alert.received_ms,
        score=alert.score,
        peak=alert.peak_score,
        reason=alert.reason,
    )


def assert_agree(policy: Rules, model: str, batches: Sequence[Sequence[Tick]]) -> list[Verdict]:
    """The pipeline, fed in batches, says of every tick what the reference says."""
    pipeline = make_pipeline(policy, model)
    reference = DetectorReference(policy, MODELS[model], scorer(model).errors)
    verdicts = []
    for ticks in batches:
        result = pipeline.process(batch_of(pipeline, ticks))
        expected = [reference.feed(tick) for tick in ticks]
        verdicts += expected
        assert [Outcome(o) for o in result.outcome] == [v.outcome for v in expected]
        for got, verdict in zip(result.score.tolist(), expected, strict=True):
            if verdict.score is None:
                assert math.isnan(got)
            else:
                assert got == pytest.approx(verdict.score, rel=1e-5)
        events = [event for v in expected for event in v.events]
        assert len(result.alerts) == len(events)
        windows = [v.window for v in expected for _ in v.events]
        for alert, event, window in zip(result.alerts, events, windows, strict=True):
            found = event_of(alert)
            approximate = {}
            if event.score is not None:
                approximate["score"] = pytest.approx(event.score, rel=1e-5)
            approximate["peak"] = pytest.approx(event.peak, rel=1e-5)
            for name in Event.__slots__:
                assert getattr(found, name) == approximate.get(name, getattr(event, name)), name
            if event.kind == "silence" or event.reason is not None:
                assert (len(alert.observed), len(alert.expected)) == (0, 0)
                silent = event.kind == "silence"
                assert alert.threshold == (policy.silence_s if silent else policy.threshold)
                continue
            assert window is not None
            np.testing.assert_allclose(alert.observed, window, rtol=1e-6)
            assert alert.expected.shape == window.shape
            assert alert.threshold == policy.threshold
        rejects = {
            (t.partition, t.offset, t.index, v.reason)
            for t, v in zip(ticks, expected, strict=True)
            if v.reason is not None
        }
        assert {(r.partition, r.offset, r.index, r.reason) for r in result.rejects} == rejects
        counts = result.counts()
        assert sum(counts.values()) == len(ticks)
        assert counts == {o: [v.outcome for v in expected].count(o) for o in Outcome}
    return verdicts
