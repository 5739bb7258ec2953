"""Alerts on what a series has been like for long, and series that are not known yet."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.alerts import (
    FORGOTTEN,
    MODEL_DRIFT,
    NEW_NORMAL,
    RECONSTRUCTION,
    Alert,
    Severity,
    State,
)
from detector.core.blocks import BLOCK
from detector.core.cloudevents import decode_alert, encode_alert
from detector.core.episodes import AlertPolicy
from detector.core.pipeline import Pipeline
from detector.core.scorer import GraphScorer
from detector.core.state import StateCodec, series_key
from detector.core.ticks import Float64
from tests.artifacts import make_artifact
from tests.core.making import Rules, one_a_second, pipeline_of
from tests.core.test_evidence_score import EXPRESSIONS, FEATURES, LENGTH, artifact_of, normal, whole

NAME = "dense"
#: Blocks; levels of so short windows follow an incident of the usual patience.
PATIENCE = 1
RULES = Rules(
    topic="ticks",
    length=LENGTH,
    stride=1,
    max_gap_s=None,
    max_series=10,
    threshold=4.0,
    alerts=AlertPolicy(open_after=2, of_last=3, resolve_after=10),
    model_version="v1",
    drift=2.5,
)


def make_pipeline(*, rules: Rules = RULES, cold_windows: int = 0) -> Pipeline:
    score = artifact_of(NAME).open_score(
        threads=1, cold_windows=cold_windows, incident_windows=PATIENCE * BLOCK
    )
    return pipeline_of(rules, FEATURES, score)  # type: ignore[arg-type]  # it is of evidence


def make_artifact_of_mean() -> GraphScorer:
    with TemporaryDirectory() as directory:
        plain = make_artifact(Path(directory) / "m", EXPRESSIONS, length=LENGTH)
        return plain.open_scorer(threads=1)


def drifting(ticks: int, *, begin: int, end: int, factor: float = 4.0) -> Float64:
    """Normal ticks whose moves are larger for a while."""
    values = normal(5, ticks)
    values[begin:end] *= factor
    return values


def of_kind(alerts: list[Alert], kind: str) -> list[tuple[State, int]]:
    return [(a.state, a.time_ns // 10**9) for a in alerts if a.kind == kind]


def test_a_series_that_left_the_world_of_its_model_is_said_once_and_taken_back() -> None:
    values = drifting(9000, begin=1000, end=5000)
    alerts = make_pipeline().process(one_a_second(values)).alerts
    (opened, at), (resolved, back) = of_kind(alerts, MODEL_DRIFT)
    assert (opened, resolved) == (State.OPENED, State.RESOLVED)
    assert 1000 < at < 3000
    assert 5000 < back < 9000
    first, last = (a for a in alerts if a.kind == MODEL_DRIFT)
    assert first.score is not None
    assert last.score is not None
    assert first.score > 2.5 > 1.25 >= last.score
    assert first.alert_id == last.alert_id == first.id != last.id
    assert first.observed.shape == (LENGTH, 2)
    assert not of_kind(make_pipeline(rules=replace(RULES, drift=None)).process(
        one_a_second(values)).alerts, MODEL_DRIFT)  # fmt: skip


def test_normal_ticks_never_drift() -> None:
    alerts = make_pipeline().process(one_a_second(normal(3, 20_000), series=2)).alerts
    assert not of_kind(alerts, MODEL_DRIFT)
    assert not of_kind(alerts, NEW_NORMAL)


def test_an_incident_that_lasts_is_said_to_be_learned_from() -> None:
    """At the end of the first block beyond the patience."""
    values = drifting(4000, begin=1000, end=3000, factor=60.0)
    result = make_pipeline().process(one_a_second(values))
    changes = of_kind(result.alerts, NEW_NORMAL)
    assert [state for state, _ in changes][:2] == [State.OPENED, State.RESOLVED]
    at = changes[0][1]
    assert 1000 + PATIENCE * BLOCK < at <= 1000 + (PATIENCE + 2) * BLOCK
    assert result.new_normals == sum(state is State.OPENED for state, _ in changes)
    short = drifting(4000, begin=1000, end=1000 + BLOCK, factor=60.0)
    assert not of_kind(make_pipeline().process(one_a_second(short)).alerts, NEW_NORMAL)


@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 1500), max_size=4).map(sorted),
    again=st.integers(0, 4),
    factor=st.sampled_from([9.0, 60.0]),
)
@settings(deadline=None, max_examples=15)
def test_they_are_the_same_however_the_stream_is_cut_and_wherever_it_starts_again(
    seed: int, cuts: list[int], again: int, factor: float
) -> None:
    values = normal(seed, 1500)
    values[200:1200] *= factor
    together = make_pipeline(cold_windows=40).process(one_a_second(values))
    assert {a.kind for a in together.alerts} & {MODEL_DRIFT, NEW_NORMAL}
    pipeline, found = make_pipeline(cold_windows=40), []
    for number, (begin, end) in enumerate(pairwise([0, *cuts, 1500])):
        if number == again and begin:
            codec, slots = StateCodec(pipeline), np.arange(1)
            record = codec.encode(pipeline.snapshot(slots), np.full(1, begin))[0]
            event_ns = pipeline.event_ns(0)
            assert event_ns is not None
            pipeline = make_pipeline(cold_windows=40)
            saved = StateCodec(pipeline).decode(0, {series_key("s0"): record}, "state/0")
            pipeline.restore(saved.same, saved.same_as_of)
            pipeline.set_event_ns(0, event_ns)
        found.append(pipeline.process(one_a_second(values[begin:end], first=begin)))
    assert whole(found) == whole([together])


def test_another_model_ends_what_the_last_one_has_opened() -> None:
    """The series warms up under it, and is not strange to it."""
    values = drifting(2000, begin=500, end=2000)
    old = make_pipeline()
    alerts = old.process(one_a_second(values)).alerts
    (opened,) = [a for a in alerts if a.kind == MODEL_DRIFT]
    record = StateCodec(old).encode(old.snapshot(np.arange(1)), np.full(1, 2000))[0]
    new = make_pipeline(rules=replace(RULES, model_version="v2"))
    saved = StateCodec(new).decode(0, {series_key("s0"): record}, "state/0")
    assert len(saved.foreign.series) == 1
    new.restore(saved.foreign, saved.foreign_as_of)
    assert new.open_by_kind()[MODEL_DRIFT] == 1
    after = new.process(one_a_second(normal(1, 600), first=2000)).alerts
    (resolved,) = [a for a in after if a.kind == MODEL_DRIFT]
    assert resolved.state is State.RESOLVED
    assert resolved.alert_id == opened.alert_id
    assert resolved.model_version == "v2"


def test_a_series_that_is_forgotten_leaves_nothing_open() -> None:
    rules = replace(RULES, forget_after_s=1000.0)
    pipeline = make_pipeline(rules=rules)
    pipeline.process(one_a_second(drifting(1500, begin=300, end=1500)))
    assert pipeline.open_by_kind()[MODEL_DRIFT] == 1
    other = replace(one_a_second(normal(1, 1200), first=1500), series=["other"] * 1200)
    alerts = pipeline.process(other).alerts
    (resolved,) = [a for a in alerts if a.kind == MODEL_DRIFT]
    assert (resolved.state, resolved.reason, resolved.score) == (State.RESOLVED, FORGOTTEN, None)
    assert pipeline.open_by_kind() == {RECONSTRUCTION: 0, MODEL_DRIFT: 0, NEW_NORMAL: 0}


@pytest.mark.parametrize("cold_windows", [0, 50])
def test_a_series_never_seen_does_not_alert_at_once(cold_windows: int) -> None:
    values = normal(2, 300)
    values[20:24, 0] += 60
    values[200:204, 0] += 60
    pipeline = make_pipeline(cold_windows=cold_windows)
    batch = one_a_second(values)
    early = pipeline.process(batch.part(slice(0, 40)))
    known = pipeline.acquaintance()
    assert (known.cold, known.borrowed) == ((1, 0) if cold_windows else (0, 1))
    late = pipeline.process(batch.part(slice(40, 300)))
    opened = [t for s, t in of_kind(early.alerts + late.alerts, RECONSTRUCTION)
              if s is State.OPENED]  # fmt: skip
    assert any(20 <= t < 40 for t in opened) is not bool(cold_windows)
    assert any(t >= 200 for t in opened)
    assert np.nanmax(early.score) > RULES.threshold, "the score is given all the same"
    known = pipeline.acquaintance()
    assert (known.cold, known.borrowed, len(known.drift)) == (0, 1, 1)


def test_a_record_of_the_first_version_gives_what_was_open_then() -> None:
    """Its head is shorter."""
    pipeline = make_pipeline()
    pipeline.process(one_a_second(drifting(2000, begin=500, end=2000)))
    codec = StateCodec(pipeline)
    record = codec.encode(pipeline.snapshot(np.arange(1)), np.full(1, 2000))[0]
    first = b"\x01" + bytes(8) + record[9 : codec._first] + bytes(500)
    fresh = make_pipeline()
    saved = StateCodec(fresh).decode(0, {series_key("s0"): first}, "state/0")
    assert len(saved.foreign.series) == 1
    fresh.restore(saved.foreign, saved.foreign_as_of)
    assert fresh.open_by_kind()[MODEL_DRIFT] == 0
    for name in ("severity", "peak", "opened_ns"):
        ours, theirs = (p.stream.opened.windows.state[name][0] for p in (fresh, pipeline))
        assert ours == theirs


def test_evidence_of_normal_windows_is_exponential() -> None:
    """One in ten is above 1, one in a hundred above 2, one in a thousand above 3: static, and in
    the light of each series' own tail."""
    pipeline = make_pipeline()
    static, adaptive = [], []
    for part in range(3):  # another stretch of the same world, never seen
        result = pipeline.process(one_a_second(normal(60 + part, 20_000), first=20_000 * part))
        static.append(result.windows[0].scored.static)
        adaptive.append(result.windows[0].scored.adaptive)
    for score in (np.concatenate(static), np.concatenate(adaptive)):
        for decades, factor in ((1, 1.5), (2, 2.0), (3, 3.0)):
            share = float((score > decades).mean())
            assert 10.0**-decades / factor < share < 10.0**-decades * factor, (decades, share)


def test_what_adapts_takes_64_bytes_a_series() -> None:
    """Of the thresholds and of habits; the level of each view belongs to the score."""
    track = make_pipeline().primary
    kept = [track._score.states["tails"], *track.habits.states.values()]
    bytes_a_series = sum(
        state[name].dtype.itemsize * int(np.prod(state[name].shape[1:]))
        for state in kept
        for name in state.names
    )
    assert bytes_a_series == 62


def test_who_was_not_told_of_an_incident_does_not_hear_that_it_is_learned_from() -> None:
    values = drifting(4000, begin=1000, end=3000, factor=60.0)
    deaf = make_pipeline(rules=replace(RULES, threshold=100.0)).process(one_a_second(values))
    assert not of_kind(deaf.alerts, RECONSTRUCTION)
    assert not of_kind(deaf.alerts, NEW_NORMAL)
    assert deaf.new_normals == 1, "it is counted"
    assert of_kind(deaf.alerts, MODEL_DRIFT)


def test_what_is_open_ends_under_rules_that_know_nothing_of_it() -> None:
    """With drift_decades: null, and of a model whose score remembers nothing: told in numbers."""
    old = make_pipeline()
    old.process(one_a_second(drifting(1500, begin=300, end=1500)))
    assert old.open_by_kind()[MODEL_DRIFT] == 1
    saved, as_of = old.snapshot(np.arange(1)), np.full(1, 1500)
    plain = make_artifact_of_mean()
    later = [
        make_pipeline(rules=replace(RULES, drift=None)),
        pipeline_of(replace(RULES, threshold=1e9), FEATURES, plain),
    ]
    for new in later:
        new.restore(saved, as_of)
        new.set_event_ns(0, 1499 * 10**9)
        alerts = new.process(one_a_second(normal(1, 400), first=1500)).alerts
        (resolved,) = [a for a in alerts if a.kind == MODEL_DRIFT]
        assert resolved.state is State.RESOLVED
        told = decode_alert(encode_alert(resolved, source="/t", detected_ns=0)).alert
        assert np.isfinite(told.threshold)
        assert new.open_by_kind()[MODEL_DRIFT] == 0


@pytest.mark.parametrize(("cold_windows", "escalated"), [(0, True), (100, False)])
def test_a_series_that_is_not_known_yet_does_not_turn_critical(
    cold_windows: int, escalated: bool
) -> None:
    """Its alert was opened under another model, and it warms up."""
    values = normal(2, 300)
    values[200:, 0] *= 1e4
    old = make_pipeline()
    old.process(one_a_second(values[:203]))
    before = old.snapshot(np.arange(1))
    before.columns["lifecycle.severity"][:] = Severity.WARNING
    record = StateCodec(old).encode(before, np.full(1, 203))[0]
    rules = replace(RULES, model_version="v2", alerts=replace(RULES.alerts, critical_ratio=1.5))
    new = make_pipeline(rules=rules, cold_windows=cold_windows)
    saved = StateCodec(new).decode(0, {series_key("s0"): record}, "state/0")
    new.restore(saved.foreign, saved.foreign_as_of)
    new.set_event_ns(0, 202 * 10**9)
    alerts = new.process(one_a_second(values[203:260], first=203)).alerts
    assert any(a.state is State.ESCALATED for a in alerts) is escalated
