"""Event-wise measures, counted by hand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.data.faults import Fault
from detector.evaluate.events import OpenedAlert, score_events


def fault(start: int, end: int, series: str = "a") -> Fault:
    return Fault(series, "spike", start, end)


def alert(time: int, series: str = "a") -> OpenedAlert:
    return OpenedAlert(series, time)


@pytest.mark.parametrize(
    ("time", "right"), [(9, False), (10, True), (20, True), (25, True), (26, False)]
)
def test_an_alert_is_right_from_the_start_of_a_fault_to_the_end_of_its_aftermath(
    time: int, right: bool
) -> None:
    score = score_events([fault(10, 20)], [alert(time)], aftermath_ns=5)
    assert (score.detected, score.false_alarms) == ((1, 0) if right else (0, 1))


def test_an_alert_of_another_series_is_a_false_alarm() -> None:
    score = score_events([fault(10, 20)], [alert(15, "b")], aftermath_ns=0)
    assert (score.detected, score.false_alarms, score.precision, score.recall) == (0, 1, 0.0, 0.0)


def test_two_alerts_in_one_fault_find_it_once_and_are_both_right() -> None:
    score = score_events([fault(10, 20), fault(50, 60)], [alert(11), alert(19)], aftermath_ns=0)
    assert (score.alerts, score.injected, score.detected) == (2, 2, 1)
    assert (score.precision, score.recall, score.found) == (1.0, 0.5, (True, False))
    assert score.f1 == pytest.approx(2 / 3)


def test_f1_is_the_harmonic_mean_and_nothing_without_a_hit() -> None:
    faults = [fault(10, 20), fault(50, 60)]
    score = score_events(faults, [alert(11), alert(30), alert(31), alert(32)], aftermath_ns=0)
    assert (score.precision, score.recall) == (0.25, 0.5)
    assert score.f1 == pytest.approx(1 / 3)
    assert score_events(faults, [alert(30)], aftermath_ns=0).f1 == 0
    assert score_events(faults, [], aftermath_ns=0).f1 == 0


def test_an_alert_in_two_faults_finds_both() -> None:
    score = score_events([fault(10, 20), fault(22, 30)], [alert(23)], aftermath_ns=5)
    assert score.found == (True, True)


def test_what_cannot_be_measured_is_none() -> None:
    nothing = score_events([], [], aftermath_ns=0)
    assert (nothing.precision, nothing.recall) == (None, None)
    assert score_events([fault(1, 2)], [], aftermath_ns=0).precision is None
    assert score_events([], [alert(1)], aftermath_ns=0).recall is None


_TIMES = st.integers(0, 60)
_SERIES = st.sampled_from("ab")


@given(
    st.lists(st.builds(lambda s, t, d: fault(t, t + d, s), _SERIES, _TIMES, st.integers(0, 9))),
    st.lists(st.builds(lambda s, t: alert(t, s), _SERIES, _TIMES)),
    st.integers(0, 5),
)
def test_the_measures_are_shares_and_add_up(
    faults: list[Fault], alerts: list[OpenedAlert], aftermath_ns: int
) -> None:
    score = score_events(faults, alerts, aftermath_ns=aftermath_ns)
    right = [
        any(
            f.series == a.series and f.start_ns <= a.time_ns <= f.end_ns + aftermath_ns
            for f in faults
        )
        for a in alerts
    ]
    assert score.false_alarms == right.count(False)
    assert (score.alerts, score.injected) == (len(alerts), len(faults))
    assert score.detected == sum(score.found) <= score.injected
    assert (score.precision is None) == (not alerts)
    assert score.precision is None or score.precision == right.count(True) / len(alerts)
    assert score.recall is None or score.recall == score.detected / len(faults)
