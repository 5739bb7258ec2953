"""The life cycle of alerts against one that takes a score at a time."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.alerts import Severity, State, event_id
from detector.core.episodes import AlertPolicy, Episodes, Lifecycle
from tests.core.reference import LifecycleReference

THRESHOLD = 1.0
#: (window, state, severity, peak)
Changes = list[tuple[int, str, str, float]]


def changes(
    policy: AlertPolicy, scores: Sequence[float], *, batches: Sequence[int] = ()
) -> Changes:
    """The changes of one series, its windows numbered through, in batches that end at ..."""
    lifecycle, episodes = Lifecycle(policy), Episodes()
    borders = [0, *sorted(min(b, len(scores)) for b in batches), len(scores)]
    found = []
    for start, end in itertools.pairwise(borders):
        slot = np.zeros(end - start, np.int64)
        score, time_ns = np.array(scores[start:end], np.float64), np.arange(start, end)
        part = lifecycle.update(slot, score, time_ns, THRESHOLD, episodes)
        found += [(start + c.window, c.state.name, c.severity.name, c.peak) for c in part]
    return found


def states(policy: AlertPolicy, scores: Sequence[float]) -> list[tuple[int, str]]:
    return [(window, state) for window, state, _, _ in changes(policy, scores)]


def test_m_of_the_last_n_windows_open_an_alert() -> None:
    policy = AlertPolicy(open_after=2, of_last=3, resolve_after=10)
    assert states(policy, [2, 0, 0, 2, 0, 0, 2]) == []
    assert states(policy, [2, 0, 2]) == [(2, "OPENED")]
    assert states(policy, [2, 2]) == [(1, "OPENED")]


def test_windows_of_a_quiet_batch_push_out_those_that_exceeded() -> None:
    policy = AlertPolicy(open_after=2, of_last=3, resolve_after=10)
    assert changes(policy, [2, 0, 0, 2], batches=[1, 3]) == []
    assert changes(policy, [2, 0, 2], batches=[1, 2]) == [(2, "OPENED", "WARNING", 2)]


def test_only_a_window_that_exceeds_opens() -> None:
    policy = AlertPolicy(open_after=1, of_last=3, resolve_after=1)
    assert states(policy, [2, 0, 0, 0]) == [(0, "OPENED"), (1, "RESOLVED")]


def test_k_windows_in_a_row_resolve() -> None:
    policy = AlertPolicy(open_after=1, of_last=1, resolve_after=3)
    assert states(policy, [2, 0, 0, 2, 0, 0, 0]) == [(0, "OPENED"), (6, "RESOLVED")]


def test_a_burst_within_the_quiet_time_belongs_to_the_same_alert() -> None:
    """Windows a nanosecond apart."""
    policy = AlertPolicy(open_after=1, of_last=1, resolve_after=2, quiet_ns=5)
    once = [2, 0, 0, 0, 2, 0, 0, 0, 0, 0]
    assert states(policy, once) == [(0, "OPENED"), (9, "RESOLVED")]
    assert changes(policy, once, batches=[2, 3, 6, 8]) == changes(policy, once)
    twice = [2, 0, 0, 0, 0, 0, 2]
    assert states(policy, twice) == [(0, "OPENED"), (5, "RESOLVED"), (6, "OPENED")]


def test_the_quiet_time_of_an_alert_that_another_model_opened_begins_with_what_is_seen() -> None:
    policy = AlertPolicy(open_after=1, of_last=1, resolve_after=1, quiet_ns=5)
    episodes, slot = Episodes(), np.zeros(1, np.int64)
    Lifecycle(policy).update(slot, np.array([2.0]), np.array([100]), THRESHOLD, episodes)
    fresh = Lifecycle(policy)
    for time_ns in range(101, 106):
        now = np.array([time_ns])
        assert fresh.update(slot, np.array([0.0]), now, THRESHOLD, episodes) == []
    (change,) = fresh.update(slot, np.array([0.0]), np.array([106]), THRESHOLD, episodes)
    assert change.state is State.RESOLVED


def test_between_the_resolve_level_and_the_threshold_an_alert_stays_open() -> None:
    policy = AlertPolicy(open_after=1, of_last=1, resolve_after=2, resolve_ratio=0.5)
    assert states(policy, [2, 0.9, 0.9, 0.9, 0.5, 0.5]) == [(0, "OPENED"), (5, "RESOLVED")]
    assert states(policy, [2, 0.5, 0.9, 0.5, 0.9]) == [(0, "OPENED")]


def test_an_alert_escalates_once() -> None:
    policy = AlertPolicy(open_after=1, of_last=1, resolve_after=2, critical_ratio=3)
    assert changes(policy, [2, 4, 5, 2, 6, 0, 0]) == [
        (0, "OPENED", "WARNING", 2),
        (1, "ESCALATED", "CRITICAL", 4),
        (6, "RESOLVED", "CRITICAL", 6),
    ]


def test_an_alert_that_opens_critical_never_escalates() -> None:
    policy = AlertPolicy(open_after=1, of_last=1, resolve_after=1, critical_ratio=3)
    assert changes(policy, [4, 5, 0, 2, 0]) == [
        (0, "OPENED", "CRITICAL", 4),
        (2, "RESOLVED", "CRITICAL", 5),
        (3, "OPENED", "WARNING", 2),
        (4, "RESOLVED", "WARNING", 2),
    ]


def test_the_peak_is_that_of_the_episode_alone() -> None:
    policy = AlertPolicy(open_after=2, of_last=2, resolve_after=1)
    assert changes(policy, [9, 2, 0, 8, 1.5, 0]) == [
        (1, "OPENED", "WARNING", 2),
        (2, "RESOLVED", "WARNING", 2),
        (4, "OPENED", "WARNING", 1.5),
        (5, "RESOLVED", "WARNING", 1.5),
    ]


@pytest.mark.parametrize(("score", "opens"), [(1.0, False), (math.nextafter(1.0, 2), True)])
def test_a_score_at_the_threshold_does_not_exceed_it(score: float, opens: bool) -> None:
    assert bool(states(AlertPolicy(open_after=1, of_last=1), [score])) == opens


def test_windows_long_before_an_alert_do_not_help_to_resolve_it() -> None:
    policy = AlertPolicy(open_after=1, of_last=1, resolve_after=3)
    assert changes(policy, [0] * 50 + [2, 0, 0, 0], batches=[10, 50, 51]) == [
        (50, "OPENED", "WARNING", 2),
        (53, "RESOLVED", "WARNING", 2),
    ]


def test_no_windows_are_no_change() -> None:
    lifecycle, nothing = Lifecycle(AlertPolicy()), np.empty(0, np.int64)
    assert lifecycle.update(nothing, np.empty(0), nothing, THRESHOLD, Episodes()) == []


@st.composite
def alert_policies(draw: st.DrawFn) -> AlertPolicy:
    of_last = draw(st.integers(1, 5))
    return AlertPolicy(
        open_after=draw(st.integers(1, of_last)),
        of_last=of_last,
        resolve_after=draw(st.integers(1, 4)),
        resolve_ratio=draw(st.sampled_from([1.0, 0.5, 0.01])),
        critical_ratio=draw(st.sampled_from([1.0, 2.0, 3.0])),
        quiet_ns=draw(st.sampled_from([0, 3, 12])),
    )


_SCORES = st.sampled_from([0.0, 0.25, 0.5, 0.5, 0.75, 0.75, 1.0, 1.0, 1.0, 1.5, 2.0, 2.5, 4.0])


@given(
    policy=alert_policies(),
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 4), _SCORES, st.integers(0, 9)), max_size=40), max_size=6
    ),
)
@settings(deadline=None, max_examples=500)
def test_series_change_as_if_each_score_came_alone(
    policy: AlertPolicy, batches: list[list[tuple[int, float, int]]]
) -> None:
    lifecycle, episodes = Lifecycle(policy), Episodes()
    references: dict[int, LifecycleReference] = {}
    now_ns = 0
    for batch in batches:
        batch = sorted(batch, key=lambda window: window[0])
        slot = np.array([s * 40 for s, _, _ in batch], np.int64)  # beyond the first allocation too
        time_ns = now_ns + np.cumsum([later for _, _, later in batch], dtype=np.int64)
        now_ns = int(time_ns[-1]) if len(batch) else now_ns
        scores = np.array([score for _, score, _ in batch])
        found = lifecycle.update(slot, scores, time_ns, THRESHOLD, episodes)
        expected = []
        for i, (series, score, _) in enumerate(batch):
            one = references.setdefault(series, LifecycleReference(policy, THRESHOLD))
            change = one.feed(score, int(time_ns[i]))
            if change is not None:
                expected.append((i, *change))
        assert [(c.window, c.state.name, c.severity.name, c.peak) for c in found] == expected


@given(
    policy=alert_policies(),
    scores=st.lists(_SCORES, max_size=60),
    batches=st.lists(st.integers(0, 60), max_size=8),
)
@settings(deadline=None, max_examples=300)
def test_any_split_into_batches_gives_the_same_changes(
    policy: AlertPolicy, scores: list[float], batches: list[int]
) -> None:
    assert changes(policy, scores, batches=batches) == changes(policy, scores)


@given(policy=alert_policies(), scores=st.lists(_SCORES, max_size=80))
@settings(deadline=None, max_examples=200)
def test_every_episode_is_opened_perhaps_escalated_and_then_resolved(
    policy: AlertPolicy, scores: list[float]
) -> None:
    severity = None
    for _, state, now, _ in changes(policy, scores):
        if state == "OPENED":
            assert severity is None
            severity = now
        elif state == "ESCALATED":
            assert (severity, now) == ("WARNING", "CRITICAL")
            severity = now
        else:
            assert (state, now) == ("RESOLVED", severity)
            severity = None


def test_severities_and_states_keep_their_numbers() -> None:
    """They are stored in snapshots."""
    assert {s.name: s.value for s in Severity} == {"WARNING": 1, "CRITICAL": 2}
    assert {s.name: s.value for s in State} == {
        "OPENED": 0,
        "ESCALATED": 1,
        "RESOLVED": 2,
        "UPDATED": 3,
    }


def test_an_event_id_is_the_same_for_ever() -> None:
    """Subscribers drop repeats by this id: a change of it would double every alert."""
    found = event_id("ticks", 3, 1234567, 2, "EURUSD", "reconstruction_error").hex()
    assert found == "ef4511eac648ecb9d7c315c702e04000"


@pytest.mark.parametrize(
    "other",
    [
        ("tick", 3, 17, 2, "a", "kind"),
        ("ticks", 31, 7, 2, "a", "kind"),
        ("ticks", 3, 172, 0, "a", "kind"),
        ("ticks", 3, 17, 1, "a", "kind"),
        ("ticks", 3, 17, 2, "ä", "kind"),
        ("ticks", 3, 17, 2, "a", "kind2"),
    ],
)
def test_every_part_of_the_input_is_in_the_id(other: tuple[str, int, int, int, str, str]) -> None:
    assert event_id("ticks", 3, 17, 2, "a", "kind") != event_id(*other)
