"""The stream of events: who follows hears it, who stops reading is dropped, and nobody waits."""

from __future__ import annotations

import socket
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from detector.web import events, viewers
from tests.processes import DEADLINE_S, wait_for
from tests.web.serving import Follower, Served, StillSource, Told, serving


@contextmanager
def following(served: Served, path: str) -> Iterator[Follower]:
    follower = Follower(served, path)
    try:
        wait_for(lambda: bool(follower.of("hello")), "the stream begins")
        yield follower
    finally:
        follower.close()


def tell(source: StillSource, *news: Told) -> None:
    """As the loop does it."""
    assert source.listener is not None
    source.listener(news)


def test_a_viewer_hears_what_it_asked_for_and_nothing_else() -> None:
    source = StillSource()
    with serving(source) as served, following(served, "/api/v1/events?alerts=1&series=a") as viewer:
        assert viewer.kind == "text/event-stream; charset=utf-8"
        assert source.watched == {"a"}
        assert served.sample("web_viewers") == 1
        tell(
            source,
            Told("state", "", {"n": 1}),
            Told("series", "b", {"series": "b"}),
            Told("series", "a", {"series": "a"}),
            Told("alert", "x", {"alert_id": "x", "series": "line\nend\r\ndata: no"}),
        )
        wait_for(lambda: len(viewer.heard) == 3, "it is told")
        assert [kind for kind, _ in viewer.heard] == ["hello", "alert", "series"]
        assert viewer.of("alert") == [{"alert_id": "x", "series": "line\nend\r\ndata: no"}]


def test_who_leaves_is_watched_for_no_more() -> None:
    source = StillSource()
    with serving(source) as served:
        with following(served, "/api/v1/events?series=a"):
            pass
        wait_for(lambda: source.listener is None, "nobody listens")
        assert source.watched == frozenset()
        assert served.sample("web_viewers") == 0
        assert served.sample("web_dropped_viewers_total") == 0


def test_a_viewer_that_stops_reading_is_dropped_and_counted_and_the_others_go_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(events, "STOPPED_S", 0.5)
    source = StillSource()
    big = "x" * 50_000
    with serving(source) as served, following(served, "/api/v1/events?alerts=1") as reader:
        with socket.socket() as silent:
            silent.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            silent.connect(served.place)
            silent.sendall(b"GET /api/v1/events?state=1 HTTP/1.1\r\nHost: x\r\n\r\n")
            wait_for(lambda: served.sample("web_viewers") == 2, "both follow")
            told = 0

            def dropped() -> bool:
                nonlocal told
                told += 1
                tell(source, Told("state", "", {"n": told, "big": big}))
                return served.sample("web_dropped_viewers_total") == 1

            wait_for(dropped, "the one that does not read is dropped")
            wait_for(lambda: served.sample("web_viewers") == 1, "it is gone")
        tell(source, Told("alert", "x", {"n": -1}))
        wait_for(lambda: {"n": -1} in reader.of("alert"), "the other one hears on")


def test_alerts_that_come_faster_than_they_are_taken_end_the_stream(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewers, "MOST_WAITING", 5)
    source = StillSource()
    with serving(source) as served:
        follower = Follower(served, "/api/v1/events?alerts=1")
        wait_for(lambda: source.listener is not None, "it follows")
        tell(source, *(Told("alert", str(n), {"n": n}) for n in range(6)))
        assert follower.ended.wait(DEADLINE_S)
        assert served.sample("web_dropped_viewers_total") == 1


def test_more_viewers_than_are_served_are_told_to_come_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(viewers, "MOST_VIEWERS", 1)
    with serving() as served, following(served, "/api/v1/events"):
        assert "viewers" in served.json("/api/v1/events", 503)["error"]
        assert served.sample("web_refused_requests_total", reason="viewers") == 1
        assert served.get("/livez")[0] == 200


def test_a_stream_asked_for_by_head_ends_at_once() -> None:
    with serving() as served:
        request = urllib.request.Request(f"{served.address}/api/v1/events", method="HEAD")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert answer.read() == b""
        wait_for(lambda: served.sample("web_viewers") == 0, "nobody follows")


def test_a_server_that_closes_ends_its_streams() -> None:
    with serving() as served:
        follower = Follower(served, "/api/v1/events")
        wait_for(lambda: bool(follower.of("hello")), "the stream begins")
        served.server.close()
        assert follower.ended.wait(DEADLINE_S)
        follower.close()
