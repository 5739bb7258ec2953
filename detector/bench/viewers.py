"""Those who look at a daemon, as browsers and Prometheus do it: viewers that follow its events, and
the questions of a first view and of a scrape."""

from __future__ import annotations

import http.client
import re
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from urllib.parse import urlsplit

from detector.errors import DetectorError

#: What the page asks once it has come (web/static/app.js, overview.js).
_QUESTIONS = ("api/v1/state", "api/v1/alerts")
_EVENTS = "/api/v1/events?alerts=1&state=1"
_PATIENCE_S = 30.0


class Viewer:
    """Follows state, alerts and one series, in a thread, until closed. events: how many came."""

    def __init__(self, address: str, series: str) -> None:
        self._connection = _connect(address)
        self._path = f"{_EVENTS}&series={series}"
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._closed = False
        self.events = 0

    def start(self) -> None:
        self._connection.request("GET", self._path)
        self._answer = self._connection.getresponse()
        if self._answer.status != 200:
            raise DetectorError(f"{self._path}: the daemon answered {self._answer.status}")
        self._thread.start()

    def _follow(self) -> None:
        try:
            while line := self._answer.readline():
                self.events += line.startswith(b"event: ")
        except (OSError, ValueError, AttributeError):
            if not self._closed:
                raise

    def close(self) -> None:
        self._closed = True
        if self._connection.sock is not None:
            self._connection.sock.shutdown(2)
        self._thread.join(_PATIENCE_S)
        self._connection.close()


@contextmanager
def following(address: str, series: Sequence[str]) -> Iterator[list[Viewer]]:
    """As many viewers as names, each watching one of them."""
    viewers: list[Viewer] = []
    try:
        for name in series:
            viewers.append(Viewer(address, name))
            viewers[-1].start()
        yield viewers
    finally:
        for viewer in viewers:
            viewer.close()


def ask_ms(address: str, paths: Sequence[str]) -> float:
    """One after the other on a connection of their own, in milliseconds. Raises DetectorError where
    one is not answered with 200."""
    began_s = time.perf_counter()
    connection = _connect(address)
    try:
        for path in paths:
            _get(connection, path)
        return (time.perf_counter() - began_s) * 1e3
    finally:
        connection.close()


def first_view(address: str) -> list[str]:
    """All that a browser without anything of it asks for to draw the page: itself, what it names,
    what the scripts import, and their questions."""
    connection = _connect(address)
    try:
        index = _get(connection, "/")
        found = ["/"]
        waiting = ["/" + name for name in re.findall(r'(?:href|src)="(static/[^"]+)"', index)]
        while waiting:
            path = waiting.pop(0)
            if path in found:
                continue
            found.append(path)
            text = _get(connection, path)
            if path.endswith(".js") and "/vendor/" not in path:
                waiting += [f"/static/{one}" for one in re.findall(r'from "\./([^"]+)"', text)]
        return found + ["/" + one for one in _QUESTIONS]
    finally:
        connection.close()


def _connect(address: str) -> http.client.HTTPConnection:
    place = urlsplit(address)
    return http.client.HTTPConnection(place.hostname or "", place.port, timeout=_PATIENCE_S)


def _get(connection: http.client.HTTPConnection, path: str) -> str:
    connection.request("GET", path)
    answer = connection.getresponse()
    body = answer.read().decode()
    if answer.status != 200:
        raise DetectorError(f"{path}: the daemon answered {answer.status}")
    return body
