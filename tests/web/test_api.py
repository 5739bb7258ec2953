"""The API over answers that a test sets: what it takes, finds and refuses."""

from __future__ import annotations

import json
import time

import pytest

from tests.web.serving import StillSource, serving

ALERTS = (
    {"alert_id": "a1", "state": "open", "series": "<b>x</b>"},
    {"alert_id": "a2", "state": "closed", "series": "y"},
    {"alert_id": "a3", "state": "closed", "series": "z"},
)


def test_the_state_comes_with_the_probes_and_its_age() -> None:
    with serving(StillSource(ready=lambda: "not joined", now={"topic": "ticks"})) as served:
        state = served.json("/api/v1/state")
    assert (state["live"], state["ready"], state["topic"]) == (None, "not joined", "ticks")
    assert state["age_seconds"] >= 0


def test_a_loop_that_does_not_answer_is_told_and_not_waited_for() -> None:
    with serving(StillSource(answers=False, live=lambda: "no round for 9 s")) as served:
        assert served.json("/api/v1/state") == {
            "live": "no round for 9 s", "ready": None, "age_seconds": None,
        }  # fmt: skip
        for path in ("series", "live?series=x"):
            assert "loop" in served.json(f"/api/v1/{path}", 503)["error"]


def test_alerts_are_listed_by_state_and_limit_and_found_by_id() -> None:
    with serving(StillSource(shown=ALERTS)) as served:
        everything = served.json("/api/v1/alerts")
        assert (everything["total"], [a["alert_id"] for a in everything["alerts"]]) == (
            3, ["a1", "a2", "a3"],
        )  # fmt: skip
        closed = served.json("/api/v1/alerts?state=closed&limit=1")
        assert (closed["total"], [a["alert_id"] for a in closed["alerts"]]) == (2, ["a2"])
        assert served.json("/api/v1/alerts/a1")["series"] == "<b>x</b>"
        assert "error" in served.json("/api/v1/alerts/a9", 404)


def test_a_search_ignores_case_and_puts_what_begins_so_first() -> None:
    names = ("usd/eur", "EURUSD", "eurchf", "eurchf", "GBP", "größe", "")
    with serving(StillSource(all_names=names)) as served:
        found = served.json("/api/v1/series?contains=EuR&limit=3")
        assert found == {
            "contains": "EuR", "total": 3, "series": ["eurchf", "EURUSD", "usd/eur"],
        }  # fmt: skip
        assert served.json("/api/v1/series?limit=1")["total"] == 6
        assert served.json("/api/v1/series?contains=GR%C3%96")["series"] == ["größe"]
        assert served.json("/api/v1/series?contains=nothing")["series"] == []


@pytest.mark.parametrize(
    "path",
    [
        "state?x=1", "alerts?state=some", "alerts?limit=0", "alerts?limit=-1", "alerts?limit=1e9",
        "alerts?limit=%D9%A3", "series?limit=201", "series?like=x", "live",
        "live?series=a&series=b",
        "events?alerts=yes", "events?" + "&".join(f"series={n}" for n in range(9)),
    ],
)  # fmt: skip
def test_a_question_that_makes_no_sense_is_refused_in_a_line(path: str) -> None:
    with serving() as served:
        error = served.json(f"/api/v1/{path}", 400)["error"]
    assert error
    assert "\n" not in error


def test_a_series_is_watched_while_it_is_asked_for_and_unknown_ones_are_not_found() -> None:
    source = StillSource(known={"a/b": {"series": "a/b", "known": True}})
    with serving(source) as served:
        assert served.json("/api/v1/live?series=a%2Fb")["series"] == "a/b"
        assert "error" in served.json("/api/v1/live?series=c", 404)
        assert source.watched == frozenset()
        source.most_watched = 0
        assert "watched" in served.json("/api/v1/live?series=a", 503)["error"]
        assert served.sample("web_refused_requests_total", reason="viewers") == 1


def test_numbers_that_are_none_are_null() -> None:
    with serving(StillSource(now={"score": float("nan")})) as served:
        assert served.json("/api/v1/state")["score"] is None


def test_a_search_among_a_hundred_thousand_is_answered() -> None:
    names = [f"plant-{n % 100}/sensor-{n}" for n in range(100_000)]
    with serving(StillSource(all_names=names)) as served:
        for contains in ("9", "sensor-4711", "none of them"):
            began_s = time.monotonic()
            found = served.json(f"/api/v1/series?contains={contains.replace(' ', '%20')}")
            print(json.dumps({"contains": contains, "seconds": time.monotonic() - began_s}))  # noqa: T201 - for who asks
            assert found["total"] == sum(contains in name for name in names)
