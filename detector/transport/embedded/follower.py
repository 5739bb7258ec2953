"""A follower of a topic whose position and table are in the file itself."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sqlite3
from collections.abc import Mapping, Sequence

from detector.core.records import Message, Record
from detector.errors import BrokerError, FencedError
from detector.transport.embedded.file import (
    EmbeddedSettings,
    open_file,
    reported,
    take_lock,
    writing,
)
from detector.transport.embedded.streams import EmbeddedReader


class EmbeddedFollower:
    """One process a name: a lock beside the file tells. Its position is a row beside that of the
    worker, its table rows beside the saved state, under a name that is no topic's."""

    def __init__(
        self, settings: EmbeddedSettings, name: str, topic: str, *, from_beginning: bool
    ) -> None:
        self._path = settings.path
        self._place = f"follower {name} of {topic}"
        self._lock = self._take(name)
        try:
            self._database: sqlite3.Connection = open_file(settings)
        except BaseException:
            os.close(self._lock)
            raise
        try:
            self._reader = EmbeddedReader(self._path, self._database, topic, from_beginning)
            with reported(self._path):
                self._go_on(topic)
        except BaseException:
            self.close()
            raise

    def _take(self, name: str) -> int:
        short = hashlib.blake2b(name.encode(), digest_size=6).hexdigest()
        taken = f"another bridge works as {name}; end one, or give it a bridge.group of its own"
        try:
            return take_lock(self._path, of=f".{short}", taken=taken)
        except BrokerError as error:
            if taken in str(error):
                raise FencedError(str(error)) from None
            raise

    def _go_on(self, topic: str) -> None:
        row = self._database.execute(
            "SELECT next_offset FROM positions WHERE topic = ?", (self._place,)
        ).fetchone()
        (first,) = self._database.execute(
            "SELECT first_offset FROM topics WHERE name = ?", (topic,)
        ).fetchone()
        self.fresh = row is None
        self.lost = 0 if row is None else max(0, first - row[0])
        if row is not None:
            self._reader.seek(max(first, row[0]))

    def table(self) -> Mapping[bytes, bytes]:
        with reported(self._path):
            return dict(
                self._database.execute(
                    "SELECT key, value FROM state WHERE topic = ?", (self._place,)
                )
            )

    def poll(self, *, timeout_s: float) -> list[Record]:
        return self._reader.poll(timeout_s=timeout_s)

    def positions(self) -> dict[int, int]:
        return self._reader.positions()

    def ends(self) -> dict[int, int]:
        return self._reader.ends()

    def commit(self, kept: Sequence[Message], positions: Mapping[int, int]) -> None:
        with reported(self._path), writing(self._database) as database:
            for message in kept:
                if message.value is None:
                    database.execute(
                        "DELETE FROM state WHERE topic = ? AND key = ?", (self._place, message.key)
                    )
                else:
                    database.execute(
                        "INSERT OR REPLACE INTO state VALUES (?, 0, ?, ?)",
                        (self._place, message.key, message.value),
                    )
            for position in positions.values():
                database.execute(
                    "INSERT OR REPLACE INTO positions VALUES (?, ?)", (self._place, position)
                )

    def close(self) -> None:
        with contextlib.suppress(sqlite3.Error):
            self._database.close()
        os.close(self._lock)
