"""Which ticks lie in an alert, from the events of the alert topic alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.core.alerts import SILENCE, State
from detector.core.cloudevents import AlertEvent
from detector.core.incidents import Incident, incident_of_ticks, incidents_of
from tests.core.test_cloudevents import make_alert


def event(
    episode: str,
    state: State,
    time_ns: int,
    opened_ns: int,
    *,
    series: str = "a",
    source: str = "here",
    **changes: Any,
) -> AlertEvent:
    alert = make_alert(
        alert_id=episode,
        state=state,
        time_ns=time_ns,
        opened_ns=opened_ns,
        series=series,
        observed=np.zeros((4, 2), np.float32),
        **changes,
    )
    return AlertEvent(alert, source, 0)


OPENED = event("1", State.OPENED, 100, 100)
ESCALATED = event("1", State.ESCALATED, 120, 100)
RESOLVED = event("1", State.RESOLVED, 150, 100)


@pytest.mark.parametrize(
    "events",
    [
        [OPENED, ESCALATED, RESOLVED],
        [OPENED, RESOLVED, OPENED],  # published twice
        [RESOLVED],  # retention has taken the others
        [RESOLVED, OPENED],
    ],
)
def test_any_event_of_an_episode_tells_what_is_known_of_it(events: list[AlertEvent]) -> None:
    assert incidents_of(events, topic="ticks") == [Incident("a", 100, 150, 4)]


def test_an_alert_that_is_open_lasts_until_the_next_of_its_series_or_for_ever() -> None:
    later = event("2", State.OPENED, 300, 300)
    other = event("3", State.OPENED, 200, 200, series="b")
    elsewhere = event("4", State.OPENED, 250, 250, source="another detector")
    assert incidents_of([later, OPENED, other, elsewhere], topic="ticks") == [
        Incident("a", 100, 300, 4),
        Incident("b", 200, None, 4),
        Incident("a", 250, None, 4),
        Incident("a", 300, None, 4),
    ]


def test_silence_and_the_ticks_of_another_topic_are_left_alone() -> None:
    silent = event("1", State.OPENED, 100, 100, kind=SILENCE)
    assert incidents_of([silent, OPENED], topic="other") == []
    assert incidents_of([silent], topic="ticks") == []


def test_a_window_is_no_shorter_than_is_said() -> None:
    assert incidents_of([OPENED], topic="ticks", length_ticks=9)[0].length_ticks == 9


def struck(
    incidents: list[Incident], time_ns: list[int], names: tuple[str, ...] = ("a",)
) -> list[int]:
    """Series in turn."""
    number = (np.arange(len(time_ns)) % len(names)).astype(np.int32)
    found: list[int] = incident_of_ticks(
        incidents, names, number, np.array(time_ns, np.int64)
    ).tolist()
    return found


def test_an_incident_reaches_from_a_window_before_its_opening_to_its_end() -> None:
    times = list(range(10, 110, 10))
    assert struck([Incident("a", 50, 70, 2)], times) == [-1, -1, 0, 0, 0, 0, 0, -1, -1, -1]
    assert struck([Incident("a", 50, None, 2)], times) == [-1, -1, *[0] * 8]
    assert struck([Incident("a", 20, 20, 5)], times) == [0, 0, *[-1] * 8]
    assert struck([Incident("b", 50, 70, 2)], times) == [-1] * 10


def test_the_window_before_is_counted_in_ticks_of_its_series() -> None:
    times = list(range(10, 130, 10))  # a b a b ...
    found = struck([Incident("b", 80, 80, 2)], times, ("a", "b"))
    assert [i for i, one in enumerate(found) if one == 0] == [3, 5, 7]


def test_an_incident_before_or_after_all_ticks_strikes_none() -> None:
    """Retention has taken its ticks: those after it were normal."""
    assert struck([Incident("a", 1, 5, 3)], [10, 20]) == [-1, -1]
    assert struck([Incident("a", 30, None, 3)], [10, 20]) == [-1, -1]


def test_a_late_tick_does_not_turn_the_time_back() -> None:
    assert struck([Incident("a", 50, 70, 1)], [30, 40, 50, 10, 60, 90]) == [-1, 0, 0, 0, 0, -1]
