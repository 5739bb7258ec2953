"""The SQLite file: its schema, its transactions, its lock, and its errors as ours."""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detector.core.records import Headers, Message
from detector.errors import BrokerError
from detector.transport.broker import Standing

SCHEMA_VERSION = 2
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
#: Between two looks for records: 5 ms cost an idle daemon about one percent of a core, 1 ms four.
SHORTEST_WAIT_S, LONGEST_WAIT_S = 0.001, 0.005
_LOOKS = 20


def wait_s(idle_s: float) -> float:
    """How long to wait before the next look for records, the last of which came so long ago: a
    fraction of that, so that what comes regularly is seen soon."""
    return min(max(idle_s / _LOOKS, SHORTEST_WAIT_S), LONGEST_WAIT_S)


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


def open_file(settings: EmbeddedSettings) -> sqlite3.Connection:
    path = settings.path
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        database = sqlite3.connect(
            path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        _log_ahead(database)
        database.execute(f"PRAGMA synchronous = {settings.synchronous}")
        with writing(database):
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
        raise broker_error(path, error) from error
    return database


def _log_ahead(database: sqlite3.Connection) -> None:
    """Of two who create a file at once, SQLite tells one that it is busy, without waiting."""
    give_up_s = time.monotonic() + _BUSY_S
    while True:
        try:
            database.execute("PRAGMA journal_mode = WAL")
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > give_up_s:
                raise
            time.sleep(LONGEST_WAIT_S)
        else:
            return


@contextmanager
def connection(settings: EmbeddedSettings) -> Iterator[sqlite3.Connection]:
    database = open_file(settings)
    try:
        yield database
    finally:
        database.close()


@contextmanager
def writing(database: sqlite3.Connection) -> Iterator[sqlite3.Connection]:
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
def reported(path: Path) -> Iterator[None]:
    """SQLite's errors as ours."""
    try:
        yield
    except sqlite3.Error as error:
        raise broker_error(path, error) from error


def topic_id(database: sqlite3.Connection, name: str) -> int:
    row = database.execute("SELECT id FROM topics WHERE name = ?", (name,)).fetchone()
    if row is None:
        row = database.execute(
            "INSERT INTO topics (name) VALUES (?) RETURNING id", (name,)
        ).fetchone()
    return int(row[0])


def standing(database: sqlite3.Connection, topic: str) -> Standing:
    """Of the ticks topic; where it does not exist yet, of an empty one."""
    row = database.execute(
        "SELECT first_offset, next_offset FROM topics WHERE name = ?", (topic,)
    ).fetchone()
    first, end = row or (0, 0)
    row = database.execute("SELECT next_offset FROM positions WHERE topic = ?", (topic,)).fetchone()
    return Standing(None if row is None else row[0], first, end)


def saved_state(
    database: sqlite3.Connection, topic: str, partitions: Sequence[int]
) -> dict[int, dict[bytes, bytes]]:
    """Of these partitions of the ticks topic, by key: a consistent picture."""
    rows = database.execute(
        'SELECT "partition", key, value FROM state WHERE topic = ?', (topic,)
    ).fetchall()
    tables: dict[int, dict[bytes, bytes]] = {p: {} for p in partitions}
    for partition, key, value in rows:
        if partition in tables:
            tables[partition][key] = value
    return tables


def append(
    database: sqlite3.Connection, topic: str, messages: Sequence[Message], now_ms: int
) -> None:
    if not messages:
        return
    identity = topic_id(database, topic)
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


def compact(database: sqlite3.Connection, topic: int, oldest_ms: int) -> None:
    """Leave the newest record of each key; not one that deletes, once it is old."""
    database.execute(
        'DELETE FROM records WHERE topic = ? AND ("offset" NOT IN '
        '(SELECT max("offset") FROM records WHERE topic = ? GROUP BY key) '
        "OR (value IS NULL AND timestamp_ms < ?))",
        (topic, topic, oldest_ms),
    )


def _dump_headers(headers: Headers) -> str | None:
    return json.dumps([(k, v.decode("latin-1")) for k, v in headers]) if headers else None


def load_headers(text: str | None) -> Headers:
    return tuple((k, v.encode("latin-1")) for k, v in json.loads(text)) if text else ()


_ONE_WORKER = (
    "another detector works on this file; the embedded broker has one worker, use transport: kafka "
    "to share the work"
)


def take_lock(path: Path, *, of: str = "", taken: str = _ONE_WORKER) -> int:
    """An exclusive lock that ends with the process, whatever happens to it. of: what of the file;
    taken: what it means that another has it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = os.open(f"{path}{of}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise broker_error(path, error) from error
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(lock)
        raise BrokerError(f"{path}: {taken}") from None
    return lock


def broker_error(path: Path, error: Exception) -> BrokerError:
    hint = {
        "database or disk is full": "free some disk space",
        "attempt to write a readonly database": "make the file writable",
        "file is not a database": "name another file in embedded.path",
        "database is locked": f"another program has held it for {_BUSY_S:g} s: end that one",
    }.get(str(error), "check embedded.path")
    return BrokerError(f"{path}: {error}; {hint}")
