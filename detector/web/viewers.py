"""Those who follow events: what each still has to be told, and what all of them watch."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import msgspec

from detector.web.source import Source, Tally

MOST_VIEWERS = 32
#: Alerts that wait to be told to one viewer; of the state and of each series only the newest waits.
MOST_WAITING = 256
#: For so long the loop hears the wish for the state once more.
_STATE_S = 5.0


@dataclass(eq=False, slots=True)
class Viewer:
    """One who follows. something: to be told; ended: by us."""

    alerts: bool
    state: bool
    series: frozenset[str]
    something: asyncio.Event = field(default_factory=asyncio.Event)
    ended: bool = False
    overrun: bool = False
    _alerts: deque[bytes] = field(default_factory=deque)
    _newest: dict[tuple[str, str], bytes] = field(default_factory=dict)

    def wants(self, kind: str, name: str) -> bool:
        if kind == "series":
            return name in self.series
        return self.alerts if kind == "alert" else self.state

    def tell(self, kind: str, name: str, message: bytes) -> None:
        if kind != "alert":
            self._newest[(kind, name)] = message
        elif len(self._alerts) < MOST_WAITING:
            self._alerts.append(message)
        else:
            self.overrun = True
        self.something.set()

    def take(self) -> bytes:
        """All that waits; alerts first."""
        self.something.clear()
        told = b"".join([*self._alerts, *self._newest.values()])
        self._alerts.clear()
        self._newest.clear()
        return told

    def end(self) -> None:
        self.ended = True
        self.something.set()


class TooManyError(Exception):
    """More viewers, or more series at once, than are served."""


class Viewers:
    """Belongs to the thread of the server; deliver alone is called by the loop's."""

    def __init__(self, source: Source, tally: Tally) -> None:
        self._source, self._tally = source, tally
        self._viewers: set[Viewer] = set()
        self._watched: Counter[str] = Counter()
        self._serving: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def require_room(self, viewer: Viewer) -> None:
        """Raises TooManyError if it cannot join now."""
        if self._closed or len(self._viewers) >= MOST_VIEWERS:
            raise TooManyError(f"{MOST_VIEWERS} viewers follow already")
        with self.watching(viewer.series):
            pass

    @contextmanager
    def joined(self, viewer: Viewer) -> Iterator[None]:
        """Raises TooManyError."""
        with self.watching(viewer.series):
            self._viewers.add(viewer)
            self._tally.viewers.set(len(self._viewers))
            self._serving = asyncio.get_running_loop()
            self._source.listen(self.deliver)
            try:
                yield
            finally:
                self._viewers.discard(viewer)
                self._tally.viewers.set(len(self._viewers))
                if not self._viewers:
                    self._source.listen(None)

    @contextmanager
    def watching(self, names: Iterable[str]) -> Iterator[None]:
        """Raises TooManyError."""
        several = list(names)
        if len(self._watched.keys() | set(several)) > self._source.most_watched:
            raise TooManyError(f"{self._source.most_watched} series are watched already")
        self._watched.update(several)
        self._source.watch(frozenset(self._watched))
        try:
            yield
        finally:
            self._watched.subtract(several)
            self._watched = +self._watched
            self._source.watch(frozenset(self._watched))

    def dropped(self) -> None:
        self._tally.dropped.inc()

    def renew(self, viewer: Viewer) -> None:
        """Now and then, as long as it follows."""
        if viewer.state:
            self._source.want_state(_STATE_S)

    def deliver(self, news: Sequence[Any]) -> None:
        serving = self._serving
        if serving is not None:
            with suppress(RuntimeError):  # it is closed: nobody follows any more
                serving.call_soon_threadsafe(self._spread, news)

    def _spread(self, news: Sequence[Any]) -> None:
        for one in news:
            wanting = [v for v in self._viewers if v.wants(one.kind, one.name)]
            if wanting:
                message = event(one.kind, self._source.told(one))
                for viewer in wanting:
                    viewer.tell(one.kind, one.name, message)

    def close(self) -> None:
        self._closed = True
        for viewer in self._viewers:
            viewer.end()


def event(kind: str, content: object) -> bytes:
    """One of a stream of events (WHATWG HTML, 9.2: server-sent events). JSON has no line ends."""
    return b"event: " + kind.encode() + b"\ndata: " + msgspec.json.encode(content) + b"\n\n"
