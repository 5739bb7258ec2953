"""The commands topic, followed on a thread of its own: the loop never waits for it."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from typing import Protocol

from detector.core.records import Record
from detector.errors import AccessError, DetectorError
from detector.service.logs import event
from detector.transport.broker import Reader

_LOOK_EVERY_S = 0.2
#: A log may end in what no poll returns: so long a silence is an end too.
_QUIET_S = 2.0
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 30.0


class Commands(Protocol):
    """The records of the topic, from its beginning, in order."""

    def open(self) -> None: ...

    def news(self) -> tuple[Sequence[Record], int]:
        """Records since last asked, and the offset up to which the log was read. Never waits."""

    @property
    def caught_up(self) -> bool:
        """Whether all that was there at the beginning has been given out by news."""

    def close(self) -> None: ...


class NoCommands:
    """Nobody says anything."""

    caught_up = True

    def open(self) -> None: ...

    def news(self) -> tuple[Sequence[Record], int]:
        return (), 0

    def close(self) -> None: ...


class CommandThread:
    """reader: opens one at the beginning. A broker that fails is asked again, less and less.
    refused: called each time it does not let us."""

    def __init__(
        self, reader: Callable[[], Reader], refused: Callable[[], None] = lambda: None
    ) -> None:
        self._open_reader, self._refused = reader, refused
        self._lock = threading.Lock()
        self._found: list[Record] = []
        self._position = 0
        self._at_end = self._told_end = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="commands", daemon=True)

    def open(self) -> None:
        self._thread.start()

    def news(self) -> tuple[Sequence[Record], int]:
        with self._lock:
            found, self._found = self._found, []
            self._told_end = self._at_end
            return found, self._position

    @property
    def caught_up(self) -> bool:
        return self._told_end

    def close(self) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(timeout=2.0)

    def _run(self) -> None:
        pause_s = _FIRST_PAUSE_S
        while not self._stop.is_set():
            try:
                self._follow()
            except DetectorError as error:
                if isinstance(error, AccessError):
                    self._refused()
                event(
                    "the commands topic cannot be read: new mutes are not heard of",
                    level=logging.WARNING,
                    error=str(error),
                    again_in_s=pause_s,
                )
            self._stop.wait(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)

    def _follow(self) -> None:
        reader = self._open_reader()
        try:
            came_s = time.monotonic()
            while not self._stop.is_set():
                records = reader.poll(timeout_s=0.05)
                position = reader.positions()[0]
                if records:
                    came_s = time.monotonic()
                quiet = time.monotonic() - came_s > _QUIET_S
                at_end = self._at_end or (not records and (quiet or reader.at_end()))
                with self._lock:
                    self._found += records
                    self._position, self._at_end = position, at_end
                if not records:
                    self._stop.wait(_LOOK_EVERY_S)
        finally:
            reader.close()
