"""Crash anywhere, start again: what was published is that of an uninterrupted run."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.core.state import StateCodec, decode_watermark
from detector.core.ticks import Outcome
from tests.core.reference import Tick
from tests.core.streams import MAX_FUTURE_S, START_NS, streams
from tests.processes import by_label, total
from tests.service.driving import Stage, make_policy, messages_of
from tests.service.scripted import Lasting, Trouble

_SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_WHERE = st.sampled_from(["poll", "before", "after"])
_DEATHS = st.lists(st.builds(Trouble, _WHERE, st.integers(1, 12)), max_size=5)
_FAILURE = st.builds(
    Trouble, st.sampled_from(["before", "after"]), st.integers(1, 12), st.just(False)
)
_GOING = st.builds(
    Trouble, st.sampled_from(["release", "lose"]), st.integers(1, 20), st.just(False)
)
_SIZES = st.lists(st.sampled_from([1, 2, 3, 7, 50]), min_size=1, max_size=4)
_PAUSES_S = st.lists(st.sampled_from([0.0, 0.01, 0.3, 2.0]), min_size=1, max_size=4).filter(any)
_INTERVALS_S = st.sampled_from([0.0, 0.5, 2.0, 30.0])
_LASTING = st.lists(
    st.builds(Lasting, st.sampled_from([0, 0, 1, 2, 5, 30]), st.booleans()), min_size=1, max_size=4
)
_COMMIT_INTERVALS_S = st.sampled_from([0.0, 0.1, 1.0])


def assert_golden(stage: Stage) -> None:
    """Published exactly what an uninterrupted run publishes, and stands where it stands; whatever
    was processed, however often, came to the same."""
    golden = stage.golden()
    alerts, letters = stage.published()
    assert alerts == golden.alerts
    assert sorted(letters, key=repr) == golden.letters
    fates = {(offset, index): rest for offset, index, *rest in golden.pipeline.seen}
    for witness in stage.witnesses:
        for offset, index, *rest in witness.seen:
            assert rest == fates[offset, index], "another outcome or another score"
    table = stage.tables()
    mark = decode_watermark(table[b"watermark"], "state/0")
    assert mark.committed == golden.records
    assert mark.needed_from == golden.records
    watched = stage.policy.silence_s is not None or stage.policy.forget_after_s is not None
    if watched:
        assert mark.event_ns == golden.pipeline.event_ns(0)
    saved = StateCodec(golden.pipeline).decode(0, table, "state/0")
    names = [name for _, name in saved.same.series]
    slots = golden.pipeline.stream.series.slots(0, names)
    assert sorted(slots.tolist()) == sorted(golden.pipeline.stream.series.of_partition(0).tolist())
    expected = golden.pipeline.snapshot(slots)
    for name, column in saved.same.columns.items():
        if not watched and name.startswith("silence."):
            continue  # event time means nothing to anybody here
        np.testing.assert_array_equal(column, expected.columns[name], err_msg=name)


def play(
    stage: Stage,
    ticks: Sequence[Tick],
    deaths: Sequence[Trouble],
    failures: Sequence[Trouble],
    sizes: list[int],
    pauses_s: list[float],
    lasting: list[Lasting],
) -> None:
    stage.publish(messages_of(ticks))
    for death in deaths:
        stage.run(death, *failures, sizes=sizes, pauses_s=pauses_s, lasting=lasting)
    stage.run(sizes=sizes, pauses_s=pauses_s, lasting=lasting)
    assert_golden(stage)


@given(
    ticks=streams(),
    deaths=_DEATHS,
    failures=st.lists(_FAILURE | _GOING, max_size=3),
    sizes=_SIZES,
    pauses_s=_PAUSES_S,
    lasting=_LASTING,
    interval_s=_INTERVALS_S,
    commit_interval_s=_COMMIT_INTERVALS_S,
    max_series=st.sampled_from([100, 100, 3]),
    exactly_once=st.booleans(),
)
@settings(_SETTINGS, max_examples=80)
def test_any_crashes_and_any_batches_give_the_alerts_and_scores_of_an_uninterrupted_run(
    ticks: list[Tick],
    deaths: list[Trouble],
    failures: list[Trouble],
    sizes: list[int],
    pauses_s: list[float],
    lasting: list[Lasting],
    interval_s: float,
    commit_interval_s: float,
    max_series: int,
    exactly_once: bool,
) -> None:
    with TemporaryDirectory() as directory:
        stage = Stage(
            Path(directory),
            policy=make_policy(max_future_s=MAX_FUTURE_S, max_series=max_series),
            interval_s=interval_s,
            commit_interval_s=commit_interval_s,
            exactly_once=exactly_once,
        )
        play(stage, ticks, deaths, failures, sizes, pauses_s, lasting)


@given(
    ticks=streams(),
    deaths=_DEATHS,
    sizes=_SIZES,
    pauses_s=_PAUSES_S,
    lasting=_LASTING,
    interval_s=_INTERVALS_S,
    silence_s=st.sampled_from([0.75, 5.0]),
)
@settings(_SETTINGS, max_examples=60)
def test_any_crashes_and_any_batches_give_the_silences_of_an_uninterrupted_run(
    ticks: list[Tick],
    deaths: list[Trouble],
    sizes: list[int],
    pauses_s: list[float],
    lasting: list[Lasting],
    interval_s: float,
    silence_s: float,
) -> None:
    with TemporaryDirectory() as directory:
        policy = make_policy(silence_s=silence_s, max_future_s=MAX_FUTURE_S)
        stage = Stage(Path(directory), policy=policy, interval_s=interval_s)
        play(stage, ticks, deaths, [], sizes, pauses_s, lasting)


@given(
    ticks=streams(),
    deaths=_DEATHS,
    failures=st.lists(_FAILURE | _GOING, max_size=3),
    sizes=_SIZES,
    pauses_s=_PAUSES_S,
    lasting=_LASTING,
    interval_s=_INTERVALS_S,
    forget_after_s=st.sampled_from([2.0, 6.0, 64.0]),
    silence_s=st.sampled_from([None, 5.0]),
    max_series=st.sampled_from([100, 3]),
    exactly_once=st.booleans(),
)
@settings(_SETTINGS, max_examples=120)
def test_any_crashes_and_any_batches_forget_the_series_an_uninterrupted_run_forgets(
    ticks: list[Tick],
    deaths: list[Trouble],
    failures: list[Trouble],
    sizes: list[int],
    pauses_s: list[float],
    lasting: list[Lasting],
    interval_s: float,
    forget_after_s: float,
    silence_s: float | None,
    max_series: int,
    exactly_once: bool,
) -> None:
    with TemporaryDirectory() as directory:
        policy = make_policy(
            silence_s=silence_s, forget_after_s=forget_after_s, max_series=max_series
        )
        stage = Stage(
            Path(directory), policy=policy, interval_s=interval_s, exactly_once=exactly_once
        )
        play(stage, ticks, deaths, failures, sizes, pauses_s, lasting)


def steady(name: str, seconds: Iterable[float], *, value: float = 1.0) -> list[Tick]:
    values = (value, value + 1)
    return [Tick(name, START_NS + round(s * 1e9), values, i) for i, s in enumerate(seconds)]


@pytest.mark.parametrize("number", [4, 9, 11])
@pytest.mark.parametrize("follower", ["refused", "new"])
def test_a_replay_gives_no_place_away_that_was_taken_when_its_ticks_came(
    tmp_path: Path, follower: str, number: int
) -> None:
    """There is room for two. One is refused, another is forgotten, its place is taken: a replay
    that begins with the refused one must not find the place free."""
    base = START_NS - START_NS % 10**9  # on the grid of forgetting

    def tick(name: str, second: float) -> Tick:
        return Tick(name, base + round(second * 1e9), (1.0 + second % 3, 2.0 + second % 2), 0)

    rules = make_policy(forget_after_s=64.0, max_series=2)
    stage = Stage(tmp_path, policy=rules, interval_s=1e5)
    stage.publish(messages_of([tick("leaves", 0.2)]))
    stage.run()
    stage.publish(messages_of([tick("stays", 1), tick("refused", 64.1), tick("stays", 66.5)]))
    stage.publish(messages_of([tick(follower, 67), tick(follower, 68)]))
    stage.run(Trouble("poll", number), sizes=[1], pauses_s=[0.2])
    stage.publish(messages_of([tick(follower, 69), tick(follower, 70), tick(follower, 71)]))
    stage.run(sizes=[1])
    assert_golden(stage)


@pytest.mark.parametrize("interval_s", [0.0, 1.0])
def test_a_silence_that_was_reported_is_not_reported_again_after_a_restart(
    tmp_path: Path, interval_s: float
) -> None:
    """The silent series had no tick of its own when its state changed."""
    stage = Stage(tmp_path, policy=make_policy(silence_s=5.0), interval_s=interval_s)
    stage.publish(messages_of(steady("quiet", [0])))
    stage.run()
    stage.publish(messages_of(steady("other", range(10))))
    stage.run()
    assert len(stage.published()[0]) == 1
    stage.publish(messages_of(steady("other", range(10, 13))))
    stage.run()
    stage.publish(messages_of(steady("quiet", [20])))
    stage.run()
    assert_golden(stage)


def test_a_silence_ends_with_the_next_tick_even_if_nobody_watches_any_more(tmp_path: Path) -> None:
    stage = Stage(tmp_path, policy=make_policy(silence_s=5.0))
    stage.publish(messages_of([*steady("quiet", [0]), *steady("other", range(10))]))
    stage.run()
    assert len(stage.published()[0]) == 1
    stage.policy = make_policy()
    stage.publish(messages_of(steady("quiet", [20])))
    stage.run()
    (opened, resolved) = (json.loads(alert)["data"] for alert in stage.published()[0])
    assert (opened["state"], resolved["state"]) == ("opened", "resolved")
    assert resolved["alert_id"] == opened["alert_id"]
    assert stage.witnesses[-1].open_alerts() == 0


def test_the_event_time_of_a_replay_is_that_of_the_first_time(tmp_path: Path) -> None:
    """Ticks that the saved state of their series holds already have moved it, too."""
    stage = Stage(tmp_path, policy=make_policy(silence_s=5.0), interval_s=10.0)
    stage.clock.now_s = 0.0
    # By the golden ratio series 0 is written at the start of an interval, series 1 in its middle.
    lead, follow = steady("lead", [0, 100, 200]), steady("follow", [0, 1, 2])
    both = [t for pair in zip(lead, follow, strict=True) for t in pair]
    stage.publish(messages_of(both))
    for number in range(2, 16):
        stage.run(Trouble("poll", number), sizes=[1], pauses_s=[1.7])
    stage.publish(messages_of(steady("follow", [150, 203, 204, 205, 206])))
    stage.run()
    assert_golden(stage)


def test_the_streams_of_these_tests_alert_and_replay(tmp_path: Path) -> None:
    """Or the properties above would hold of nothing."""
    ticks = []
    for i in range(200):
        name, value = "ab"[i % 2], 500.0 if i % 40 in (20, 21) else 1.0
        ticks.append(Tick(name, START_NS + i * 10**8, (value, value + 1), i))
    stage = Stage(tmp_path, interval_s=5.0)
    stage.publish(messages_of(ticks))
    stage.run(Trouble("poll", 30), sizes=[3])
    metrics = stage.run()
    assert_golden(stage)
    assert len(stage.golden().alerts) > 5
    assert total(metrics, "detector_replayed_ticks_total") > 3
    assert by_label(metrics, "detector_restored_series_total", "outcome") == {"resumed": 2}
    again = stage.run()
    assert total(again, "detector_replayed_ticks_total") == 0, "a stop writes everything"
    scored = sum(o == Outcome.SCORED for _, _, o, _ in stage.golden().pipeline.seen)
    assert scored > 100
