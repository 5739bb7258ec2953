"""Which alert is looked at, and how one is told in a line."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from detector.clients.alerts import choose_alert
from detector.clients.sinks import open_sink
from detector.clients.sinks.lines import alert_line
from detector.core.alerts import FORGOTTEN, SILENCE, Alert, LikelyFault, State
from detector.errors import DataError, UsageError
from tests.core.test_cloudevents import make_alert

NOTHING: dict[str, Any] = {
    "observed": np.empty((0, 2), np.float32),
    "expected": np.empty((0, 2), np.float32),
    "contributions": {},
}


def event(identity: str, episode: str, state: State, *, window: bool = True) -> Alert:
    return make_alert(id=identity, alert_id=episode, state=state, **({} if window else NOTHING))


EVENTS = [
    event("a1", "a1", State.OPENED),
    event("b1", "a1", State.ESCALATED),
    event("c1", "c1", State.OPENED),
    event("d1", "a1", State.RESOLVED),
    event("e1", "e1", State.OPENED, window=False),  # of silence
]


@pytest.mark.parametrize(
    ("identity", "chosen"),
    [(None, "c1"), ("a", "a1"), ("b1", "b1"), ("d", "d1"), ("e1", "e1")],
)
def test_the_newest_opening_with_a_window_or_the_one_that_is_named(
    identity: str | None, chosen: str
) -> None:
    assert choose_alert(EVENTS, identity).id == chosen


def test_an_episode_whose_opening_is_not_there_gives_what_came_of_it() -> None:
    assert choose_alert(EVENTS[1:], "a1").id == "d1"


@pytest.mark.parametrize(("events", "identity"), [([], None), (EVENTS[4:], None), (EVENTS, "f")])
def test_nothing_to_choose_says_how_many_there_were(
    events: list[Alert], identity: str | None
) -> None:
    with pytest.raises(DataError, match=f"none of {len(events)} alert events"):
        choose_alert(events, identity)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"state": State.OPENED}, ["opened", "EURUSD", "12.50 > 3.25", "return 75% spread 25%"]),
        ({"fault": LikelyFault("spike", 0.9)}, ["looks like spike (90%)"]),
        ({"state": State.RESOLVED}, ["resolved", "peak", "13.50"]),
        ({"state": State.RESOLVED, "score": None, "reason": FORGOTTEN, **NOTHING}, ["forgotten"]),
        ({"kind": SILENCE, "score": 60.0, "threshold": 30.0, **NOTHING}, ["silent", "60.0 s > 30"]),
    ],
)
def test_a_line_tells_what_there_is_to_tell(changes: dict[str, Any], words: list[str]) -> None:
    line = alert_line(make_alert(**changes))
    assert line.startswith("2023-11-14T22:13:20.123Z ")
    for word in words:
        assert word in line
    assert "\n" not in line


def test_a_sink_that_is_none_is_refused() -> None:
    with pytest.raises(UsageError, match="'pager' is none of lines, json"):
        open_sink("pager")
