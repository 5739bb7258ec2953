"""Which alert is looked at."""

from __future__ import annotations

from typing import Any

import pytest

from detector.errors import DataError
from detector.lab.following import choose_alert


def event(identity: str, episode: str, state: str, *, window: bool = True) -> dict[str, Any]:
    data = {"alert_id": episode, "state": state, "observed": [[1.0]] if window else []}
    return {"id": identity, "data": data}


EVENTS = [
    event("a1", "a1", "opened"),
    event("b1", "a1", "escalated"),
    event("c1", "c1", "opened"),
    event("d1", "a1", "resolved"),
    event("e1", "e1", "opened", window=False),  # of silence
]


@pytest.mark.parametrize(
    ("identity", "chosen"),
    [(None, "c1"), ("a", "a1"), ("b1", "b1"), ("d", "d1"), ("e1", "e1")],
)
def test_the_newest_opening_with_a_window_or_the_one_that_is_named(
    identity: str | None, chosen: str
) -> None:
    assert choose_alert(EVENTS, identity)["id"] == chosen


def test_an_episode_whose_opening_is_not_there_gives_what_came_of_it() -> None:
    assert choose_alert(EVENTS[1:], "a1")["id"] == "d1"


@pytest.mark.parametrize(("events", "identity"), [([], None), (EVENTS[4:], None), (EVENTS, "f")])
def test_nothing_to_choose_says_how_many_there_were(
    events: list[dict[str, Any]], identity: str | None
) -> None:
    with pytest.raises(DataError, match=f"none of {len(events)} alert events"):
        choose_alert(events, identity)
