"""The pipeline against the rules written as plain Python, and against itself."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.pipeline import Pipeline
from detector.core.ticks import Float32, Outcome
from tests.artifacts import make_artifact
from tests.core.agreeing import (
    LENGTH,
    MODELS,
    Log,
    assert_agree,
    make_pipeline,
    make_policy,
    policies,
    run,
    scorer,
)
from tests.core.making import PlainScorer, Rules, pipeline_of
from tests.core.reference import (
    LEVELS,
    LOOKING_BACK,
    DetectorReference,
    Tick,
    batch_of,
)
from tests.core.streams import MAX_FUTURE_S, START_NS, cut, cuts, streams

_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("model", MODELS)
@given(policy=policies(), ticks=streams(), at=cuts)
@settings(_SETTINGS, max_examples=150)
def test_every_tick_fares_as_in_the_reference(
    model: str, policy: Rules, ticks: list[Tick], at: list[int]
) -> None:
    assert_agree(policy, model, cut(ticks, at))


@pytest.mark.parametrize("model", MODELS)
def test_a_long_stream_with_every_outcome_and_state_fares_as_in_the_reference(model: str) -> None:
    ticks = long_stream(6000, seed=1)
    policy = make_policy(
        stride=2,
        max_series=50,
        max_future_s=MAX_FUTURE_S,
        silence_s=20.0,
        threshold=8.0,
        alerts=AlertPolicy(open_after=2, of_last=3, resolve_after=2, critical_ratio=8.0),
    )
    verdicts = assert_agree(policy, model, cut(ticks, range(0, 6000, 501)))
    assert {v.outcome for v in verdicts} == set(Outcome)
    events = [event for v in verdicts for event in v.events]
    assert {(e.kind, e.state) for e in events} == {
        ("reconstruction_error", "OPENED"),
        ("reconstruction_error", "ESCALATED"),
        ("reconstruction_error", "RESOLVED"),
        ("silence", "OPENED"),
        ("silence", "RESOLVED"),
    }
    assert {e.severity for e in events} == {"WARNING", "CRITICAL"}
    assert {v.reason for v in verdicts} == {None, "not_finite", "series_limit", "far_future"}


def long_stream(count: int, *, seed: int) -> list[Tick]:
    """Some 80 series of very different rates, with every irregularity, over three partitions."""
    generator = np.random.default_rng(seed)
    newest: dict[int, int] = {}
    last: dict[int, tuple[float, float]] = {}
    ticks = []
    for offset in range(count):
        series = int(min(generator.geometric(0.1), 80))
        time_ns = newest.get(series, START_NS)
        step = generator.choice([0.5, 0.1, 0.0, -0.5, 7.0], p=[0.8, 0.1, 0.05, 0.03, 0.02])
        time_ns += round(float(step) * 1e9)
        wild = (series + offset // 400) % 5 == 0
        bid = float(generator.lognormal(0.0, 3.0 if wild else 0.1))
        values = (bid, bid + float(generator.uniform(0, 40.0 if wild else 0.5)))
        if generator.random() < 0.01:
            values = (math.nan, values[1])
        if generator.random() < 0.03:
            values = last.get(series, values)
        received_ms = time_ns // 10**6
        if generator.random() < 0.01:
            time_ns += 10**12
        else:
            newest[series], last[series] = max(time_ns, newest.get(series, time_ns)), values
        ticks.append(Tick(f"s{series}", time_ns, values, offset, series % 3, 0, received_ms))
    return ticks


@pytest.mark.parametrize("model", MODELS)
@given(policy=policies(), ticks=streams(), at=cuts)
@settings(_SETTINGS, max_examples=100)
def test_any_split_into_batches_gives_the_same_to_the_last_bit(
    model: str, policy: Rules, ticks: list[Tick], at: list[int]
) -> None:
    whole = run(make_pipeline(policy, model), [ticks])
    assert run(make_pipeline(policy, model), cut(ticks, at)) == whole


@pytest.mark.parametrize("size", [1, 7, 256, 1000])
@pytest.mark.parametrize("model", MODELS)
def test_a_long_stream_gives_the_same_to_the_last_bit_at_every_batch_size(
    model: str, size: int
) -> None:
    ticks = long_stream(3000, seed=2)
    policy = make_policy(max_future_s=MAX_FUTURE_S, silence_s=20.0)
    whole = run(make_pipeline(policy, model), [ticks])
    assert len(whole.events) > 20
    assert sum(b'"silence"' in event for event in whole.events) > 5
    assert run(make_pipeline(policy, model), cut(ticks, range(0, 3000, size))) == whole


@given(ticks=streams(), at=cuts)
@settings(_SETTINGS, max_examples=30)
def test_partitions_may_be_interleaved_in_any_way(ticks: list[Tick], at: list[int]) -> None:
    policy = make_policy(silence_s=5.0)
    mixed = run(make_pipeline(policy, "levels"), cut(ticks, at))
    by_partition = sorted(ticks, key=lambda t: t.partition)
    apart = run(make_pipeline(policy, "levels"), [by_partition])
    assert apart.events_by_series == mixed.events_by_series
    assert Counter(apart.outcome) == Counter(mixed.outcome)


@pytest.mark.parametrize("model", MODELS)
@given(policy=policies(), ticks=streams(), at=st.integers(0, 120), then=cuts)
@settings(_SETTINGS, max_examples=100)
def test_a_restored_pipeline_goes_on_as_if_nothing_had_happened(
    model: str, policy: Rules, ticks: list[Tick], at: int, then: list[int]
) -> None:
    before, after = ticks[:at], ticks[at:]
    first = make_pipeline(policy, model)
    log = run(first, [before])
    slots = np.concatenate(
        [
            np.empty(0, np.int64),
            *(first.stream.series.of_partition(p) for p in first.stream.series.partitions()),
        ]
    )
    saved = first.snapshot(slots)
    untouched = {name: column.copy() for name, column in saved.columns.items()}
    event_times = event_times_of(first)
    unbroken = run(first, cut(after, then), log=Log())
    for name, column in saved.columns.items():
        np.testing.assert_array_equal(column, untouched[name], err_msg="a snapshot is a copy")

    second = make_pipeline(policy, model)
    second.restore(saved, np.zeros(len(slots), np.int64))
    for partition, event_ns in event_times.items():
        second.set_event_ns(partition, event_ns)
    assert second.active_series() == len(slots)
    assert run(second, cut(after, then), log=Log()) == unbroken
    assert run(make_pipeline(policy, model), [ticks]).outcome == log.outcome + unbroken.outcome


def event_times_of(pipeline: Pipeline) -> dict[int, int]:
    found = {p: pipeline.event_ns(p) for p in range(3)}
    return {partition: ns for partition, ns in found.items() if ns is not None}


@pytest.mark.parametrize("model", MODELS)
@given(ticks=streams(), at=st.integers(0, 120), moved=st.sampled_from([0, 1]))
@settings(_SETTINGS, max_examples=60)
def test_a_partition_can_move_to_a_pipeline_that_works_on_others(
    model: str, ticks: list[Tick], at: int, moved: int
) -> None:
    policy = make_policy(silence_s=5.0)
    unbroken = run(make_pipeline(policy, model), [ticks])
    ours, theirs = make_pipeline(policy, model), make_pipeline(policy, model)
    log = Log()
    stays = [t for t in ticks if t.partition != moved]
    goes = [t for t in ticks[:at] if t.partition == moved]
    follows = [t for t in ticks[at:] if t.partition == moved]
    run(ours, [goes], log)
    run(theirs, [[t for t in stays if t in ticks[:at]]], log)
    saved = ours.snapshot(ours.stream.series.of_partition(moved))
    theirs.restore(saved, np.zeros(len(saved.series), np.int64))
    for partition, event_ns in event_times_of(ours).items():
        theirs.set_event_ns(partition, event_ns)
    ours.forget(moved)
    assert ours.active_series() == 0
    run(theirs, [follows, [t for t in stays if t not in ticks[:at]]], log)
    assert log.events_by_series == unbroken.events_by_series
    assert Counter(log.outcome) == Counter(unbroken.outcome)


@pytest.mark.parametrize("model", MODELS)
@given(earlier=streams(), ticks=streams())
@settings(_SETTINGS, max_examples=60)
def test_nothing_of_a_forgotten_series_is_left_in_its_slot(
    model: str, earlier: list[Tick], ticks: list[Tick]
) -> None:
    policy = make_policy(silence_s=5.0)
    fresh = run(make_pipeline(policy, model), [ticks])
    used = make_pipeline(policy, model)
    run(used, [earlier])
    used.forget_all()
    assert (used.active_series(), used.open_alerts(), used.warming_series()) == (0, 0, 0)
    assert run(used, [ticks]) == fresh


@given(earlier=streams(), ticks=streams(), partition=st.sampled_from([0, 1]))
@settings(_SETTINGS, max_examples=40)
def test_forgetting_one_partition_leaves_the_others_alone(
    earlier: list[Tick], ticks: list[Tick], partition: int
) -> None:
    policy = make_policy(silence_s=5.0)
    apart = make_pipeline(policy, "levels")
    run(apart, [[t for t in earlier if t.partition != partition]])
    used = make_pipeline(policy, "levels")
    run(used, [earlier])
    used.forget(partition)
    later = [Tick(t.series, t.time_ns + 10**11, *_rest(t)) for t in ticks]
    assert run(used, [later]) == run(apart, [later])
    assert used.open_alerts() == apart.open_alerts()


def _rest(tick: Tick) -> tuple[tuple[float, ...], int, int, int, int]:
    return tick.values, tick.offset + 1000, tick.partition, tick.index, tick.received_ms


@given(policy=policies(), ticks=streams())
@settings(_SETTINGS, max_examples=50)
def test_what_people_watch_agrees_with_the_alerts_and_outcomes(
    policy: Rules, ticks: list[Tick]
) -> None:
    pipeline = make_pipeline(policy, "levels")
    reference = DetectorReference(policy, LEVELS, scorer("levels").errors)
    run(pipeline, [ticks])
    for tick in ticks:
        reference.feed(tick)
    known = reference.series.values()
    assert pipeline.active_series() == len(known)
    assert pipeline.warming_series() == sum(len(s.run) < LENGTH for s in known)
    scores = sum(s.lifecycle.severity is not None for s in known)
    assert pipeline.open_alerts() == scores + sum(s.silence_id is not None for s in known)
    assert event_times_of(pipeline) == reference.event_ns


@given(ticks=streams())
@settings(_SETTINGS, max_examples=60)
def test_the_contributions_of_an_alert_add_up_to_one(ticks: list[Tick]) -> None:
    pipeline = make_pipeline(make_policy(threshold=0.5), "looking back")
    for alert in pipeline.process(batch_of(pipeline, ticks)).alerts:
        assert list(alert.contributions) == list(LOOKING_BACK.expressions)
        assert sum(alert.contributions.values()) == pytest.approx(1)
        assert min(alert.contributions.values()) >= 0


@given(ticks=streams())
@settings(_SETTINGS, max_examples=40)
def test_no_two_events_share_an_id_and_episodes_have_the_id_of_their_opening(
    ticks: list[Tick],
) -> None:
    pipeline = make_pipeline(make_policy(threshold=0.5), "levels")
    alerts = pipeline.process(batch_of(pipeline, ticks)).alerts
    assert len({a.id for a in alerts}) == len(alerts)
    opened = {a.id for a in alerts if a.state.name == "OPENED"}
    assert {a.alert_id for a in alerts} == opened


@given(policy=policies(), ticks=streams(), at=cuts)
@settings(_SETTINGS, max_examples=50)
def test_late_ticks_are_among_the_rejects_where_the_policy_asks_for_it_and_only_there(
    policy: Rules, ticks: list[Tick], at: list[int]
) -> None:
    plain = run(make_pipeline(policy, "levels"), cut(ticks, at))
    kept = run(make_pipeline(replace(policy, late_is_rejected=True), "levels"), cut(ticks, at))
    late = [
        (t.partition, t.offset, t.index, "late")
        for t, outcome in zip(ticks, plain.outcome, strict=True)
        if outcome == Outcome.LATE
    ]
    assert [r for r in kept.rejects if r[3] == "late"] == late
    assert [r for r in kept.rejects if r[3] != "late"] == plain.rejects
    assert (kept.outcome, kept.score, kept.events) == (plain.outcome, plain.score, plain.events)


@given(ticks=streams(), order=st.randoms(use_true_random=False), at=cuts)
@settings(_SETTINGS, max_examples=60)
def test_a_shuffled_stream_fares_as_in_the_reference(
    ticks: list[Tick], order: random.Random, at: list[int]
) -> None:
    """The log decides the order, whatever the times say."""
    contents = list(ticks)
    order.shuffle(contents)
    last: Counter[int] = Counter()
    shuffled = []
    for tick in contents:
        last[tick.partition] += 1
        shuffled.append(replace(tick, offset=last[tick.partition], index=0))
    policy = make_policy(silence_s=5.0, max_future_s=MAX_FUTURE_S)
    assert_agree(policy, "looking back", cut(shuffled, at))


def test_an_id_depends_on_the_input_alone() -> None:
    ticks = [
        Tick("a", START_NS + i * 10**9, (1e6 if i > 4 else 1.0, 1.0), i + 7) for i in range(12)
    ]
    one = make_pipeline(make_policy(), "levels")
    other = pipeline_of(
        make_policy(alerts=AlertPolicy(1, 2, 2, critical_ratio=50.0), threshold=2.9),
        FeatureSet.parse(LEVELS.expressions),
        scorer("levels"),
    )
    run(other, [[Tick("before", 0, (1.0, 1.0), 0, 3)]])  # takes the first slot
    ids = [one.process(batch_of(one, ticks)).alerts[0].id for _ in range(1)]
    assert ids == [other.process(batch_of(other, ticks)).alerts[0].id]


def test_an_empty_batch_comes_to_nothing() -> None:
    pipeline = make_pipeline(make_policy(), "levels")
    result = pipeline.process(batch_of(pipeline, []))
    assert (len(result.outcome), len(result.score), result.alerts, result.rejects) == (0, 0, [], [])
    assert set(result.counts().values()) == {0}


@pytest.mark.parametrize("scale", [1.0, 1e-5])
@pytest.mark.parametrize("value", [1e30, 1e37, 3.4028234663852886e38, -1.7e308])
@pytest.mark.parametrize("position", range(LENGTH))
def test_the_grossest_value_alerts_with_finite_numbers(
    tmp_path: Path, scale: float, value: float, position: int
) -> None:
    """Sentinels such as the largest float are what broken sensors send."""
    artifact = make_artifact(tmp_path / "model", {"x": "x", "y": "y"}, length=LENGTH, scale=scale)
    pipeline = pipeline_of(make_policy(), artifact.features, artifact.open_scorer(threads=1))
    ticks = [Tick("a", START_NS + i, (0.0, 0.0), i) for i in range(LENGTH)]
    ticks[position] = Tick("a", START_NS + position, (value, 0.0), position)
    result = pipeline.process(batch_of(pipeline, ticks))
    assert np.isfinite(result.score[-1])
    assert result.score[-1] > 3.0
    (alert,) = result.alerts
    assert np.isfinite(alert.expected).all()
    assert sum(alert.contributions.values()) == pytest.approx(1)


def test_a_gap_of_centuries_is_a_gap() -> None:
    """Times span 1677 to 2262: their difference does not fit 64 bits of nanoseconds."""
    policy = make_policy()
    first, last = -(2**63) + 1, 2**63 - 1
    ticks = [Tick("a", first + i, (1.0, 2.0), i) for i in range(LENGTH)]
    ticks += [Tick("a", last - LENGTH + i, (1.0, 2.0), 10 + i) for i in range(LENGTH)]
    assert_agree(policy, "levels", [ticks])


def test_restoring_more_series_than_the_limit_harms_none_of_them() -> None:
    large = make_pipeline(make_policy(max_series=100), "levels")
    run(large, [[Tick(f"s{i}", START_NS + i, (float(i), 2.0), i) for i in range(65)]])
    saved = large.snapshot(large.stream.series.of_partition(0))
    small = make_pipeline(make_policy(max_series=64), "levels")
    small.restore(saved, np.zeros(65, np.int64))
    assert small.active_series() == 64
    again = small.snapshot(small.stream.series.of_partition(0))
    for name, column in again.columns.items():
        np.testing.assert_array_equal(column, saved.columns[name][:64], err_msg=name)


def test_a_snapshot_of_no_series_restores_to_no_series() -> None:
    pipeline = make_pipeline(make_policy(), "levels")
    saved = pipeline.snapshot(np.empty(0, np.int64))
    other = make_pipeline(make_policy(), "levels")
    other.restore(saved, np.empty(0, np.int64))
    assert (saved.series, other.active_series()) == ((), 0)


class _Constant(PlainScorer):
    """A scorer that finds the same in every window; for rules that need exact scores."""

    def errors(self, windows: Float32) -> Float32:
        return np.full((len(windows), windows.shape[2]), 3.0, np.float32)

    def reconstruct(self, windows: Float32) -> Float32:
        return windows


@pytest.mark.parametrize(("threshold", "alerts"), [(3.0, 0), (math.nextafter(3.0, 0), 1)])
def test_a_score_at_the_threshold_does_not_alert(threshold: float, alerts: int) -> None:
    features = FeatureSet.parse(LEVELS.expressions)
    pipeline = pipeline_of(make_policy(threshold=threshold), features, _Constant())
    ticks = [Tick("a", START_NS + i, (1.0, 2.0), i) for i in range(LENGTH + 3)]
    result = pipeline.process(batch_of(pipeline, ticks))
    assert len(result.alerts) == alerts
    assert result.score[LENGTH - 1 :].tolist() == [3.0] * 4
