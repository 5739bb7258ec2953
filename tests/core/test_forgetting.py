"""Series that leave: when, with what last word, and who has their place."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.alerts import FORGOTTEN, SILENCE, State
from detector.core.clock import PartitionClock
from detector.core.features import FeatureSet
from detector.core.forgetting import LINES, Forgetting
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.ticks import Float32, Outcome
from tests.core.agreeing import make_policy
from tests.core.making import PlainScorer, Rules, pipeline_of
from tests.core.reference import Tick, batch_of
from tests.core.streams import START_NS

FEATURES = FeatureSet.parse({"x": "value(bid)"})
FORGET_S = 64.0
#: series, second, level
Spoken = tuple[str, float, float]


class _Level(PlainScorer):
    """The error of a window is its newest tick."""

    def errors(self, windows: Float32) -> Float32:
        return windows[:, -1]

    def reconstruct(self, windows: Float32) -> Float32:
        return windows


def make(**changes: Any) -> Pipeline:
    rules: Rules = make_policy(forget_after_s=FORGET_S, max_gap_s=None, **changes)
    return pipeline_of(rules, FEATURES, _Level())


def ticks_at(*ticks: Spoken, partition: int = 0, first: int = 0) -> list[Tick]:
    return [
        Tick(name, START_NS + round(at_s * 1e9), (level,), first + i, partition, received_ms=-1)
        for i, (name, at_s, level) in enumerate(ticks)
    ]


def feed(pipeline: Pipeline, *ticks: Spoken, **place: int) -> BatchResult:
    return pipeline.process(batch_of(pipeline, ticks_at(*ticks, **place)))


def names(result: BatchResult) -> list[str]:
    return [one.name for one in result.forgotten]


def steady(name: str, seconds: Sequence[float], level: float = 1.0) -> list[Spoken]:
    return [(name, at_s, level) for at_s in seconds]


def test_a_series_goes_when_the_clock_of_its_partition_has_moved_on() -> None:
    pipeline = make()
    feed(pipeline, *steady("quiet", range(4)), *steady("busy", range(60)))
    assert pipeline.active_series() == 2
    result = feed(pipeline, *steady("busy", [67, 67.5]), first=100)
    assert names(result) == [], "not yet"
    result = feed(pipeline, *steady("busy", [69]), first=200)
    assert names(result) == ["quiet"]
    assert (pipeline.active_series(), pipeline.warming_series()) == (1, 0)
    assert result.changed.tolist() == [1], "what is gone has no state to write"


def test_another_partition_has_another_clock() -> None:
    pipeline = make()
    feed(pipeline, ("quiet", 0, 1.0), partition=1)
    result = feed(pipeline, ("busy", 0, 1.0), ("busy", 1000, 1.0))
    assert (names(result), pipeline.active_series()) == ([], 2)


def test_a_series_that_comes_back_itself_was_not_forgotten() -> None:
    """The tick that moves the clock on is its own."""
    pipeline = make()
    feed(pipeline, *steady("only", range(3)))
    result = feed(pipeline, ("only", 1000, 1.0), first=10)
    assert (names(result), result.outcome.tolist()) == ([], [Outcome.SCORED])


def test_a_series_that_comes_back_later_begins_anew() -> None:
    pipeline = make()
    feed(pipeline, *steady("back", range(3)), ("other", 1000, 1.0))
    result = feed(pipeline, ("back", 5, 1.0), *steady("back", [1001, 1002, 1003]), first=10)
    assert [Outcome(o).name for o in result.outcome] == ["WARMING"] * 2 + ["SCORED"] * 2


def test_an_open_alert_is_resolved_for_that_reason() -> None:
    pipeline = make()
    (opened,) = feed(pipeline, *steady("bad", range(3), 50.0)).alerts
    (last,) = feed(pipeline, ("other", 500, 1.0), first=10).alerts
    assert (last.state, last.reason, last.series) == (State.RESOLVED, FORGOTTEN, "bad")
    assert (last.alert_id, last.opened_ns) == (opened.id, opened.time_ns)
    assert (last.score, last.peak_score, last.severity) == (None, 50.0, opened.severity)
    assert (last.offset, last.time_ns) == (10, START_NS + 500 * 10**9)
    assert len(last.observed) == len(last.expected) == len(last.contributions) == 0
    assert pipeline.open_alerts() == 0


def test_a_silence_that_opens_with_the_very_tick_ends_with_it_and_both_have_ids() -> None:
    pipeline = make(silence_s=5.0)
    feed(pipeline, ("quiet", 0, 1.0), ("busy", 1, 1.0))
    opened, resolved = feed(pipeline, ("busy", 500, 1.0), first=10).alerts
    assert {a.kind for a in (opened, resolved)} == {SILENCE}
    assert (opened.state, resolved.state) == (State.OPENED, State.RESOLVED)
    assert resolved.alert_id == opened.id != resolved.id
    assert (opened.reason, resolved.reason) == (None, FORGOTTEN)
    assert (opened.score, resolved.score) == (500.0, 500.0)


def test_names_that_churn_make_room_although_none_of_them_is_accepted() -> None:
    """Else a table full of the dead would stay so."""
    pipeline = make(max_series=2)
    feed(pipeline, ("a", 0, 1.0), ("b", 0, 1.0))
    strangers = [(f"pod-{i}", 10.0 * i, 1.0) for i in range(10)]
    result = feed(pipeline, *strangers, first=10)
    assert [r.reason for r in result.rejects] == ["series_limit"] * 8
    assert names(result) == ["a", "b"]
    assert [Outcome(o).name for o in result.outcome[-2:]] == ["WARMING", "WARMING"]
    assert pipeline.active_series() == 2


def test_a_tick_that_is_rejected_does_not_move_the_clock() -> None:
    pipeline = make(max_future_s=30.0)
    feed(pipeline, ("quiet", 0, 1.0))
    far = Tick("x", START_NS + 10**12, (1.0,), 5, received_ms=START_NS // 10**6)
    bad = Tick("x", START_NS + 10**12, (float("nan"),), 6)
    result = pipeline.process(batch_of(pipeline, [far, bad]))
    assert [r.reason for r in result.rejects] == ["far_future", "not_finite"]
    assert (names(result), pipeline.event_ns(0)) == ([], START_NS)


def test_many_that_go_at_once_go_by_name() -> None:
    pipeline = make()
    several = [f"s{i}" for i in range(40)]
    feed(pipeline, *((name, 0, 1.0) for name in reversed(several)))
    result = feed(pipeline, ("other", 100, 1.0), first=50)
    assert names(result) == sorted(several)


def test_never_means_never() -> None:
    pipeline = pipeline_of(make_policy(), FEATURES, _Level())
    result = feed(pipeline, ("a", 0, 1.0), ("b", 7e9, 1.0))
    assert (names(result), pipeline.active_series()) == ([], 2)


@given(
    steps=st.lists(st.sampled_from([-3, 0, 1, 1, 2, 5, 40, 200]), min_size=1, max_size=40),
    before=st.none() | st.integers(0, 50),
    oldest=st.integers(0, 60),
)
@settings(deadline=None, max_examples=300)
def test_a_border_is_where_a_line_is_passed_and_somebody_may_be_due(
    steps: list[int], before: int | None, oldest: int
) -> None:
    limit = LINES  # a line a nanosecond, and limits in nanoseconds too
    forgetting = Forgetting(forget_after_s=limit / 1e9)
    times = np.cumsum(steps) + 10
    clock = PartitionClock(before, oldest_ns=oldest)
    found = forgetting.borders(clock, times).tolist()
    now, expected = int(times[0]) if before is None else before, []
    for i, time_ns in enumerate(times.tolist()):
        moved = max(now, time_ns)
        if moved > now and moved - oldest > limit:
            expected.append(i)
        now = moved
    assert found == expected
    assert clock.event_ns == before, "the clock moves when the ticks are accepted"


@pytest.mark.parametrize("end", [2**63 - 1, -(2**63)])
def test_times_at_the_ends_of_64_bits_do_not_wrap(end: int) -> None:
    forgetting = Forgetting(forget_after_s=4e9)
    clock = PartitionClock(end)
    assert forgetting.borders(clock, np.array([end], np.int64)).tolist() == []
    assert forgetting.due(clock, np.array([end], np.int64)).tolist() == []
