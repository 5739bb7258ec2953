"""The one worker of a file: polls ticks, commits everything at once, deletes what is old."""

from __future__ import annotations

import logging
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from detector.core.records import RecordBlock
from detector.errors import BrokerError, DetectorError, TransactionError
from detector.transport.broker import Outbox, Release, Standing, StateReader, Topics
from detector.transport.embedded.file import (
    EmbeddedSettings,
    append,
    broker_error,
    compact,
    open_file,
    reported,
    saved_state,
    standing,
    take_lock,
    topic_id,
    wait_s,
    writing,
)

_LOGGER = logging.getLogger("detector.embedded")
_PRUNE_EVERY_S = 10.0
_PRUNE_ROWS = 20_000


class EmbeddedWorker:
    def __init__(
        self, settings: EmbeddedSettings, topics: Topics, now_s: Callable[[], float]
    ) -> None:
        self._settings, self._topics, self._now_s = settings, topics, now_s
        self._database: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._position = 0
        self._started = False
        self._came_s = 0.0  # the last record
        self._lost: frozenset[int] = frozenset()
        self._gained: frozenset[int] = frozenset()
        # The oldest tick a restart would read; unknown before the first commit.
        self._needed_from: int | None = None
        self._pruned_s = 0.0
        self._more_to_prune = False
        self._ended_s = 0.0  # of the last commit that was begun ...
        self._failure: DetectorError | None = None  # ... and what it came to

    def open(self, release: Release) -> None:
        """Nobody else ever takes the partition: release is never called."""
        self._lock = take_lock(self._settings.path)
        try:
            self._database = open_file(self._settings)
            with reported(self._settings.path), writing(self._database) as database:
                self._ticks = topic_id(database, self._topics.ticks)
                topics = self._topics
                for name in (topics.alerts, topics.dead_letters, topics.commands):
                    topic_id(database, name)
        except BaseException:
            self.close()
            raise
        self._gained = frozenset({0})

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        lost, gained = self._lost, self._gained
        self._lost = self._gained = frozenset()
        return lost, gained

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        with reported(self._settings.path):
            return {0: standing(self._open_database(), self._topics.ticks)}

    def read_state(self, partitions: Sequence[int]) -> StateReader:
        with reported(self._settings.path):
            tables = saved_state(self._open_database(), self._topics.ticks, partitions)
        return EmbeddedStateReader(tables)

    def start(self, positions: Mapping[int, int]) -> None:
        self._position = positions[0]
        self._started = True

    def position(self, partition: int) -> int:
        return self._position

    def poll(self, *, max_records: int, max_bytes: int, timeout_s: float) -> list[RecordBlock]:
        deadline = time.monotonic() + timeout_s
        while self._started:
            with reported(self._settings.path):
                rows = self._next_rows(max_records, max_bytes)
            if rows:
                offsets, timestamps, keys, values = zip(*rows, strict=True)
                self._position, self._came_s = offsets[-1] + 1, time.monotonic()
                return [RecordBlock(self._topics.ticks, 0, offsets, timestamps, keys, values)]
            now_s = time.monotonic()
            if now_s >= deadline:
                return []
            time.sleep(min(wait_s(now_s - self._came_s), deadline - now_s))
        return []

    def _next_rows(self, max_records: int, max_bytes: int) -> list[tuple[Any, ...]]:
        found = self._open_database().execute(
            'SELECT "offset", timestamp_ms, key, value FROM records '
            'WHERE topic = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?',
            (self._ticks, self._position, max_records),
        )
        rows: list[tuple[Any, ...]] = []
        for row in found:
            rows.append(row)
            max_bytes -= len(row[2] or b"") + len(row[3] or b"")
            if max_bytes <= 0:
                break
        found.close()  # else it keeps its place in the file
        return rows

    def begin_commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        """It is done on return: a transaction of the file costs less than a thread that does it
        beside the loop would."""
        try:
            self.commit(outbox, positions, needed_from)
        except DetectorError as error:
            self._failure = error
        self._ended_s = time.monotonic()

    def end_commit(self, *, timeout_s: float | None) -> float | None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return time.monotonic() - self._ended_s

    def commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        """Raises TransactionError."""
        now_ms = int(self._now_s() * 1000)
        try:
            with writing(self._open_database()) as database:
                append(database, self._topics.alerts, outbox.alerts, now_ms)
                append(database, self._topics.dead_letters, outbox.dead_letters, now_ms)
                for message in (*outbox.state, *outbox.watermarks):
                    where = (self._topics.ticks, message.partition or 0, message.key)
                    if message.value is None:
                        database.execute(
                            'DELETE FROM state WHERE topic = ? AND "partition" = ? AND key = ?',
                            where,
                        )
                    else:
                        database.execute(
                            "INSERT OR REPLACE INTO state VALUES (?, ?, ?, ?)",
                            (*where, message.value),
                        )
                if 0 in positions:
                    database.execute(
                        "INSERT OR REPLACE INTO positions VALUES (?, ?)",
                        (self._topics.ticks, positions[0]),
                    )
        except sqlite3.Error as error:
            raise TransactionError(str(broker_error(self._settings.path, error))) from error
        self._needed_from = needed_from.get(0, self._needed_from)
        self._prune_if_due(now_ms)

    def may_commit(self) -> bool:
        return True

    def ready(self) -> bool:
        return self._database is not None

    def lag(self) -> dict[int, int]:
        if not self._started:
            return {}
        with reported(self._settings.path):
            row = (
                self._open_database()
                .execute("SELECT next_offset FROM topics WHERE id = ?", (self._ticks,))
                .fetchone()
            )
        return {0: max(0, row[0] - self._position)}

    def readable(self) -> int:
        return sum(self.lag().values())

    def reopen(self) -> None:
        self._failure = None
        self.close()
        self.open(lambda _: None)
        self._lost = frozenset({0})

    def close(self) -> None:
        self._started = False
        if self._database is not None:
            self._database.close()
            self._database = None
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def _open_database(self) -> sqlite3.Connection:
        if self._database is None:
            raise BrokerError("the worker is not open")
        return self._database

    def _prune_if_due(self, now_ms: int) -> None:
        """The commit is done: whatever happens here, nothing of it is undone."""
        if time.monotonic() - self._pruned_s < _PRUNE_EVERY_S and not self._more_to_prune:
            return
        self._pruned_s = time.monotonic()
        try:
            self._more_to_prune = self._prune(now_ms)
        except sqlite3.Error as error:
            self._more_to_prune = False
            _LOGGER.warning("retention: %s: %s", self._settings.path, error)

    def _prune(self, now_ms: int) -> bool:
        """Delete what is past retention, a bounded number of rows at a time; whether there may
        be more."""
        more = False
        oldest_ms = now_ms - int(self._settings.retention_s * 1000)
        with writing(self._open_database()) as database:
            topics = database.execute(
                "SELECT id, name, first_offset, next_offset FROM topics"
            ).fetchall()
            for topic, name, first, following in topics:
                if name == self._topics.commands:
                    compact(database, topic, oldest_ms)
                    continue
                keep_from = following - self._settings.retention_records
                # Offsets and timestamps rise together: the oldest rows are the first.
                row = database.execute(
                    'SELECT "offset" FROM records WHERE topic = ? AND timestamp_ms >= ? '
                    'ORDER BY "offset" LIMIT 1',
                    (topic, oldest_ms),
                ).fetchone()
                end = max(keep_from, following if row is None else row[0])
                if name not in (self._topics.alerts, self._topics.dead_letters):
                    needed = self._needed_from if topic == self._ticks else None
                    end = min(end, first if needed is None else needed)
                if end - first > _PRUNE_ROWS:
                    end, more = first + _PRUNE_ROWS, True
                if end > first:
                    database.execute(
                        'DELETE FROM records WHERE topic = ? AND "offset" < ?', (topic, end)
                    )
                    database.execute(
                        "UPDATE topics SET first_offset = ? WHERE id = ?", (end, topic)
                    )
        return more


class EmbeddedStateReader:
    """The whole state was read in one statement: a consistent picture."""

    def __init__(self, tables: dict[int, dict[bytes, bytes]]) -> None:
        self._tables = tables

    def read(self, *, timeout_s: float) -> bool:
        return True

    def tables(self) -> Mapping[int, Mapping[bytes, bytes]]:
        return self._tables

    def close(self) -> None:
        """Nothing is held."""
