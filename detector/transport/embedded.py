"""Topics, offsets, state and alerts in one SQLite file (write-ahead log).

A commit is one SQLite transaction, so on one machine the guarantees are those of Kafka's
transactions. Every topic has one partition, 0. Readers and publishers may be other processes;
there is one worker a file.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detector.core.codec import RecordBlock
from detector.errors import BrokerError, TransactionError
from detector.transport.broker import (
    Headers,
    Keeper,
    Message,
    Outbox,
    Publisher,
    Reader,
    Record,
    Release,
    Standing,
    StateReader,
    Topics,
)

SCHEMA_VERSION = 2
_LOGGER = logging.getLogger("detector.embedded")
_SCHEMA = """
CREATE TABLE topics (
    id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL,
    first_offset INTEGER NOT NULL DEFAULT 0, next_offset INTEGER NOT NULL DEFAULT 0);
CREATE TABLE records (
    topic INTEGER NOT NULL, "offset" INTEGER NOT NULL, timestamp_ms INTEGER NOT NULL,
    key BLOB, value BLOB, headers TEXT, PRIMARY KEY (topic, "offset")) WITHOUT ROWID;
CREATE TABLE positions (topic TEXT PRIMARY KEY, next_offset INTEGER NOT NULL) WITHOUT ROWID;
"""
_STATE = """
CREATE TABLE state (
    topic TEXT NOT NULL, "partition" INTEGER NOT NULL, key BLOB NOT NULL, value BLOB NOT NULL,
    PRIMARY KEY (topic, "partition", key)) WITHOUT ROWID
"""
_BUSY_S = 30.0
#: Waiting for records: quick after activity, rare when idle. 5 ms costs an idle daemon about
#: one percent of a core.
_SHORTEST_WAIT_S, _LONGEST_WAIT_S = 0.0005, 0.005
_PRUNE_EVERY_S = 10.0
_PRUNE_ROWS = 20_000


@dataclass(frozen=True, slots=True)
class EmbeddedSettings:
    """path of the file; synchronous "full" survives a power cut, "normal" a crash only.

    Records older than retention_s, or beyond the newest retention_records of a topic, are
    deleted, but never a tick that a restart would read again.
    """

    path: Path
    synchronous: str
    retention_s: float
    retention_records: int


class EmbeddedBroker:
    def __init__(
        self, settings: EmbeddedSettings, *, now_s: Callable[[], float] = time.time
    ) -> None:
        self._settings = settings
        self._now_s = now_s

    def describe(self) -> str:
        return f"embedded broker {self._settings.path}"

    def missing(self, topics: Topics) -> list[str]:
        wanted = [topics.ticks, topics.alerts, topics.dead_letters]
        if not self._settings.path.exists():
            return wanted
        with _reported(self._settings.path), _connection(self._settings) as database:
            known = {name for (name,) in database.execute("SELECT name FROM topics")}
        return [name for name in wanted if name not in known]

    def prepare(
        self,
        topics: Topics,
        *,
        partitioned: Sequence[str],
        create: bool,
        check_state: bool = True,
    ) -> None:
        missing = self.missing(topics)
        if missing and not create:
            raise BrokerError(
                f"{self.describe()}: missing topics {', '.join(missing)}; set topics.create: true"
            )
        with (
            _reported(self._settings.path),
            _connection(self._settings) as database,
            _writing(database),
        ):
            for name in missing:
                _topic_id(database, name)

    def grow_state(self, topics: Topics) -> tuple[int, int]:
        return 1, 1

    def worker(self, topics: Topics) -> EmbeddedWorker:
        return EmbeddedWorker(self._settings, topics, self._now_s)

    def keeper(self, topics: Topics) -> Keeper:
        return _EmbeddedKeeper(EmbeddedWorker(self._settings, topics, self._now_s))

    def publisher(self) -> Publisher:
        return _EmbeddedPublisher(_open(self._settings), self._now_s)

    def reader(self, topic: str, *, from_beginning: bool) -> Reader:
        database = _open(self._settings)
        return _EmbeddedReader(self._settings.path, database, topic, from_beginning)


class EmbeddedWorker:
    def __init__(
        self, settings: EmbeddedSettings, topics: Topics, now_s: Callable[[], float]
    ) -> None:
        self._settings, self._topics, self._now_s = settings, topics, now_s
        self._database: sqlite3.Connection | None = None
        self._lock: int | None = None
        self._position = 0
        self._started = False
        self._lost: frozenset[int] = frozenset()
        self._gained: frozenset[int] = frozenset()
        # The oldest tick a restart would read; unknown before the first commit.
        self._needed_from: int | None = None
        self._pruned_s = 0.0
        self._more_to_prune = False

    def open(self, release: Release) -> None:
        """Nobody else ever takes the partition: release is never called."""
        self._lock = _take_lock(self._settings.path)
        try:
            self._database = _open(self._settings)
            with _writing(self._database) as database:
                self._ticks = _topic_id(database, self._topics.ticks)
                for name in (self._topics.alerts, self._topics.dead_letters):
                    _topic_id(database, name)
        except BaseException:
            self.close()
            raise
        self._gained = frozenset({0})

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        lost, gained = self._lost, self._gained
        self._lost = self._gained = frozenset()
        return lost, gained

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        with _reported(self._settings.path):
            database = self._open_database()
            first, end = database.execute(
                "SELECT first_offset, next_offset FROM topics WHERE id = ?", (self._ticks,)
            ).fetchone()
            row = database.execute(
                "SELECT next_offset FROM positions WHERE topic = ?", (self._topics.ticks,)
            ).fetchone()
        return {0: Standing(None if row is None else row[0], first, end)}

    def read_state(self, partitions: Sequence[int]) -> StateReader:
        with _reported(self._settings.path):
            rows = (
                self._open_database()
                .execute(
                    'SELECT "partition", key, value FROM state WHERE topic = ?',
                    (self._topics.ticks,),
                )
                .fetchall()
            )
        tables: dict[int, dict[bytes, bytes]] = {p: {} for p in partitions}
        for partition, key, value in rows:
            if partition in tables:
                tables[partition][key] = value
        return _EmbeddedStateReader(tables)

    def start(self, positions: Mapping[int, int]) -> None:
        self._position = positions[0]
        self._started = True

    def position(self, partition: int) -> int:
        return self._position

    def poll(self, *, max_records: int, timeout_s: float) -> list[RecordBlock]:
        deadline = time.monotonic() + timeout_s
        wait = _SHORTEST_WAIT_S
        while self._started:
            with _reported(self._settings.path):
                rows = (
                    self._open_database()
                    .execute(
                        'SELECT "offset", timestamp_ms, key, value FROM records '
                        'WHERE topic = ? AND "offset" >= ? ORDER BY "offset" LIMIT ?',
                        (self._ticks, self._position, max_records),
                    )
                    .fetchall()
                )
            if rows:
                offsets, timestamps, keys, values = zip(*rows, strict=True)
                self._position = offsets[-1] + 1
                return [RecordBlock(self._topics.ticks, 0, offsets, timestamps, keys, values)]
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(wait, left))
            wait = min(wait * 1.5, _LONGEST_WAIT_S)
        return []

    def commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        now_ms = int(self._now_s() * 1000)
        try:
            with _writing(self._open_database()) as database:
                _append(database, self._topics.alerts, outbox.alerts, now_ms)
                _append(database, self._topics.dead_letters, outbox.dead_letters, now_ms)
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
            raise TransactionError(str(_broker_error(self._settings.path, error))) from error
        self._needed_from = needed_from.get(0, self._needed_from)
        self._prune_if_due(now_ms)

    def may_commit(self) -> bool:
        return True

    def ready(self) -> bool:
        return self._database is not None

    def lag(self) -> dict[int, int]:
        if not self._started:
            return {}
        with _reported(self._settings.path):
            row = (
                self._open_database()
                .execute("SELECT next_offset FROM topics WHERE id = ?", (self._ticks,))
                .fetchone()
            )
        return {0: max(0, row[0] - self._position)}

    def readable(self) -> int:
        return sum(self.lag().values())

    def reopen(self) -> None:
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
        with _writing(self._open_database()) as database:
            topics = database.execute(
                "SELECT id, name, first_offset, next_offset FROM topics"
            ).fetchall()
            for topic, name, first, following in topics:
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


class _EmbeddedStateReader:
    """The whole state was read in one statement: a consistent picture."""

    def __init__(self, tables: dict[int, dict[bytes, bytes]]) -> None:
        self._tables = tables

    def read(self, *, timeout_s: float) -> bool:
        return True

    def tables(self) -> Mapping[int, Mapping[bytes, bytes]]:
        return self._tables

    def close(self) -> None:
        """Nothing is held."""


class _EmbeddedKeeper:
    """Holds the worker's lock: no worker runs meanwhile."""

    def __init__(self, worker: EmbeddedWorker) -> None:
        self._worker = worker
        worker.open(lambda _: None)

    def standing(self) -> dict[int, Standing]:
        return self._worker.standing([0])

    def tables(self) -> dict[int, dict[bytes, bytes]]:
        return {p: dict(t) for p, t in self._worker.read_state([0]).tables().items()}

    def replace(self, state: Sequence[Message], positions: Mapping[int, int]) -> None:
        self._worker.commit(Outbox(state=list(state)), positions, {})

    def close(self) -> None:
        self._worker.close()


class _EmbeddedPublisher:
    def __init__(self, database: sqlite3.Connection, now_s: Callable[[], float]) -> None:
        self._database, self._now_s = database, now_s

    def publish(self, topic: str, messages: Sequence[Message]) -> None:
        if not messages:
            return
        try:
            with _writing(self._database) as database:
                _append(database, topic, messages, int(self._now_s() * 1000))
        except sqlite3.Error as error:
            raise BrokerError(f"cannot publish to {topic}: {error}") from error

    def flush(self) -> None:
        """Nothing to do: publish returns when the transaction is committed."""

    def close(self) -> None:
        self._database.close()


class _EmbeddedReader:
    def __init__(
        self, path: Path, database: sqlite3.Connection, topic: str, from_beginning: bool
    ) -> None:
        self._path, self._database, self._topic = path, database, topic
        column = "first_offset" if from_beginning else "next_offset"
        with _reported(path):
            with _writing(database):
                self._id = _topic_id(database, topic)
            row = database.execute(
                f"SELECT {column} FROM topics WHERE id = ?", (self._id,)
            ).fetchone()
        self._position = int(row[0])

    def poll(self, *, timeout_s: float) -> list[Record]:
        deadline = time.monotonic() + timeout_s
        wait = _SHORTEST_WAIT_S
        while True:
            with _reported(self._path):
                rows = self._database.execute(
                    'SELECT "offset", timestamp_ms, key, value, headers FROM records '
                    'WHERE topic = ? AND "offset" >= ? ORDER BY "offset" LIMIT 1000',
                    (self._id, self._position),
                ).fetchall()
            if rows:
                self._position = rows[-1][0] + 1
                return [
                    Record(self._topic, 0, offset, at_ms, key, value, _load_headers(headers))
                    for offset, at_ms, key, value, headers in rows
                ]
            left = deadline - time.monotonic()
            if left <= 0:
                return []
            time.sleep(min(wait, left))
            wait = min(wait * 1.5, _LONGEST_WAIT_S)

    def at_end(self) -> bool:
        with _reported(self._path):
            row = self._database.execute(
                "SELECT next_offset FROM topics WHERE id = ?", (self._id,)
            ).fetchone()
        return bool(row[0] <= self._position)

    def close(self) -> None:
        self._database.close()


def _open(settings: EmbeddedSettings) -> sqlite3.Connection:
    path = settings.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        database.execute("PRAGMA journal_mode = WAL")
        database.execute(f"PRAGMA synchronous = {settings.synchronous}")
        with _writing(database):
            (found,) = database.execute("PRAGMA user_version").fetchone()
            if found == 0:
                for statement in _SCHEMA.split(";"):
                    database.execute(statement)
            elif found == 1:  # its state, never used, was kept without the topic
                database.execute("DROP TABLE state")
            if found in (0, 1):
                database.execute(_STATE)
                database.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
            elif found != SCHEMA_VERSION:
                raise BrokerError(
                    f"{path}: written as schema version {found}, this program knows "
                    f"{SCHEMA_VERSION}; use the program that wrote it or another file"
                )
    except (OSError, sqlite3.Error) as error:
        raise _broker_error(path, error) from error
    return database


@contextmanager
def _connection(settings: EmbeddedSettings) -> Iterator[sqlite3.Connection]:
    database = _open(settings)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def _writing(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
    """One write transaction: all of the body or nothing."""
    database.execute("BEGIN IMMEDIATE")
    try:
        yield database
        database.execute("COMMIT")
    except BaseException:
        if database.in_transaction:
            database.execute("ROLLBACK")
        raise


@contextmanager
def _reported(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise _broker_error(path, error) from error


def _topic_id(database: sqlite3.Connection, name: str) -> int:
    row = database.execute("SELECT id FROM topics WHERE name = ?", (name,)).fetchone()
    if row is None:
        row = database.execute(
            "INSERT INTO topics (name) VALUES (?) RETURNING id", (name,)
        ).fetchone()
    return int(row[0])


def _append(
    database: sqlite3.Connection, topic: str, messages: Sequence[Message], now_ms: int
) -> None:
    if not messages:
        return
    identity = _topic_id(database, topic)
    (offset,) = database.execute(
        "UPDATE topics SET next_offset = next_offset + ? WHERE id = ? RETURNING next_offset",
        (len(messages), identity),
    ).fetchone()
    first = offset - len(messages)
    database.executemany(
        "INSERT INTO records VALUES (?, ?, ?, ?, ?, ?)",
        (
            (identity, first + i, now_ms, m.key, m.value, _dump_headers(m.headers))
            for i, m in enumerate(messages)
        ),
    )


def _dump_headers(headers: Headers) -> str | None:
    return json.dumps([(k, v.decode("latin-1")) for k, v in headers]) if headers else None


def _load_headers(text: str | None) -> Headers:
    return tuple((k, v.encode("latin-1")) for k, v in json.loads(text)) if text else ()


def _take_lock(path: Path) -> int:
    """An exclusive lock that ends with the process, whatever happens to it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _broker_error(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise BrokerError(
            f"{path}: another detector works on this file; the embedded broker has one worker, "
            "use transport: kafka to share the work"
        ) from None
    return lock


def _broker_error(path: Path, error: Exception) -> BrokerError:
    hint = {
        "database or disk is full": "free some disk space",
        "attempt to write a readonly database": "make the file writable",
        "file is not a database": "name another file in embedded.path",
    }.get(str(error), "check embedded.path")
    return BrokerError(f"{path}: {error}; {hint}")
