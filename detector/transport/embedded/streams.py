"""Publishers and readers of a file, in any number of processes."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from detector.core.records import Message, Record
from detector.transport.embedded.file import (
    append,
    load_headers,
    reported,
    topic_id,
    wait_s,
    writing,
)


class EmbeddedPublisher:
    def __init__(
        self, path: Path, database: sqlite3.Connection, now_s: Callable[[], float]
    ) -> None:
        self._path, self._database, self._now_s = path, database, now_s

    def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if not messages:
            return
        with reported(self._path), writing(self._database) as database:
            append(database, topic, messages, int(self._now_s() * 1000))

    def flush(self) -> None:
        """Nothing to do: publish returns when the transaction is committed."""

    def close(self) -> None:
        self._database.close()


class EmbeddedReader:
    def __init__(
        self, path: Path, database: sqlite3.Connection, topic: str, from_beginning: bool
    ) -> None:
        self._path, self._database, self._topic = path, database, topic
        column = "first_offset" if from_beginning else "next_offset"
        with reported(path):
            with writing(database):
                self._id = topic_id(database, topic)
            row = database.execute(
                f"SELECT {column} FROM topics WHERE id = ?", (self._id,)
            ).fetchone()
        self._position = int(row[0])
        self._came_s = time.monotonic()

    def poll(self, *, timeout_s: float) -> list[Record]:
        deadline = time.monotonic() + timeout_s
        while True:
            with reported(self._path):
                rows = self._database.execute(
                    'SELECT "offset", timestamp_ms, key, value, headers FROM records '
                    'WHERE topic = ? AND "offset" >= ? ORDER BY "offset" LIMIT 1000',
                    (self._id, self._position),
                ).fetchall()
            now_s = time.monotonic()
            if rows:
                self._position, self._came_s = rows[-1][0] + 1, now_s
                return [
                    Record(self._topic, 0, offset, at_ms, key, value, load_headers(headers))
                    for offset, at_ms, key, value, headers in rows
                ]
            if now_s >= deadline:
                return []
            time.sleep(min(wait_s(now_s - self._came_s), deadline - now_s))

    def seek(self, offset: int) -> None:
        """The next poll continues there."""
        self._position = offset

    def at_end(self) -> bool:
        return self.ends()[0] <= self._position

    def ends(self) -> dict[int, int]:
        with reported(self._path):
            row = self._database.execute(
                "SELECT next_offset FROM topics WHERE id = ?", (self._id,)
            ).fetchone()
        return {0: int(row[0])}

    def positions(self) -> dict[int, int]:
        return {0: self._position}

    def close(self) -> None:
        self._database.close()
