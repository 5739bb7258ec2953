"""A server over a source that a test sets, and over a real daemon."""

from __future__ import annotations

import json
import socket
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry

from detector.service.loop import Loop
from detector.service.metrics import Metrics
from detector.service.viewing.desk import Desk
from detector.web.server import HttpServer
from detector.web.source import Site, Source, Tally

Content = Mapping[str, Any]


def fine() -> str | None:
    return None


@dataclass(frozen=True)
class Told:
    kind: str
    name: str
    content: Content


@dataclass
class StillSource:
    """Answers what it is given; the loop is the test."""

    live: Callable[[], str | None] = fine
    ready: Callable[[], str | None] = fine
    now: Content = field(default_factory=lambda: {"version": "1"})
    all_names: Sequence[str] = ()
    known: dict[str, Content] = field(default_factory=dict)
    shown: Sequence[Content] = ()
    answers: bool = True
    most_watched: int = 64
    watched: frozenset[str] = frozenset()
    listener: Callable[[Sequence[Any]], None] | None = None

    clock_s = staticmethod(time.monotonic)

    def want_state(self, for_s: float) -> None: ...

    def want_names(self, for_s: float) -> None: ...

    def watch(self, names: frozenset[str]) -> None:
        self.watched = names

    def listen(self, listener: Callable[[Sequence[Any]], None] | None) -> None:
        self.listener = listener

    def told(self, news: Told) -> Content:
        return news.content

    def state(self) -> tuple[float, Content] | None:
        return (self.clock_s(), self.now) if self.answers else None

    def names(self) -> tuple[float, Sequence[str]] | None:
        return (self.clock_s(), self.all_names) if self.answers else None

    def series(self, name: str) -> tuple[float, Content | None] | None:
        return (self.clock_s(), self.known.get(name)) if self.answers else None

    def alerts(self) -> Sequence[Content]:
        return self.shown

    def alert(self, alert_id: str) -> Content | None:
        return next((one for one in self.shown if one["alert_id"] == alert_id), None)


@dataclass
class Served:
    server: HttpServer
    metrics: Metrics

    @property
    def address(self) -> str:
        return self.server.address

    @property
    def place(self) -> tuple[str, int]:
        host, _, port = self.address.removeprefix("http://").rpartition(":")
        return host, int(port)

    def sample(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(f"detector_{name}", labels) or 0.0

    def get(self, path: str) -> tuple[int, str, str]:
        return get(self.address + path)

    def json(self, path: str, status: int = 200) -> Any:
        found, kind, body = self.get(path)
        assert (found, kind) == (status, "application/json"), body
        return json.loads(body)


def get(url: str) -> tuple[int, str, str]:
    """Status, content type, body."""
    try:
        with urllib.request.urlopen(url, timeout=120) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


@contextmanager
def serving(
    source: Source | None = None, *, metrics: Metrics | None = None, process: bool = False
) -> Iterator[Served]:
    metrics = metrics or Metrics(CollectorRegistry(), process=process)
    tally = Tally(metrics.web_viewers, metrics.web_dropped, metrics.web_refused)
    site = Site(metrics.registry, source or StillSource(), tally)
    server = HttpServer(site, host="127.0.0.1", port=0)
    server.start()
    try:
        yield Served(server, metrics)
    finally:
        server.close()


@contextmanager
def serving_daemon(daemon: Loop) -> Iterator[Served]:
    with serving(Desk(daemon.viewing, daemon.health), metrics=daemon.metrics) as served:
        yield served


class Follower:
    """Reads a stream of events in a thread."""

    def __init__(self, served: Served, path: str) -> None:
        self._answer = urllib.request.urlopen(served.address + path, timeout=120)
        self._connection: socket.socket = self._answer.fp.raw._sock
        self.kind = self._answer.headers["Content-Type"]
        self.heard: list[tuple[str, Any]] = []
        self.ended = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        kind = ""
        try:
            for raw in self._answer:
                line = raw.decode().rstrip("\n")
                if line.startswith("event: "):
                    kind = line.removeprefix("event: ")
                elif line.startswith("data: "):
                    self.heard.append((kind, json.loads(line.removeprefix("data: "))))
        except (OSError, ValueError):
            pass
        self.ended.set()

    def of(self, kind: str) -> list[Any]:
        return [content for one, content in self.heard if one == kind]

    def close(self) -> None:
        """Hang up; the thread that reads holds a lock on the answer, not on the connection."""
        with suppress(OSError):  # the other side has
            self._connection.shutdown(socket.SHUT_RDWR)
        self._thread.join(30)
        self._answer.close()
