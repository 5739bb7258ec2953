"""The embedded file's own promises: one worker, retention, damage, and other processes."""

from __future__ import annotations

import os
import resource
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from detector.core.records import Message
from detector.errors import BrokerError, TransactionError
from detector.transport.broker import Outbox, Standing
from detector.transport.embedded import (
    SCHEMA_VERSION,
    EmbeddedBroker,
)
from tests.contracts.transports import commit
from tests.service.watched import read_all
from tests.transport.file_broker import (
    TOPICS,
    Clock,
    begin,
    commit_and_prune,
    keep,
    numbers,
    publish,
    settings,
    working,
)

NOBODY = 65534


# -- one worker


def test_a_second_worker_is_refused_and_pointed_to_kafka(tmp_path: Path) -> None:
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite"))
    with working(broker), pytest.raises(BrokerError, match="transport: kafka") as refused:
        broker.worker(TOPICS).open(keep)
    assert "b.sqlite" in str(refused.value)
    with working(broker) as worker:  # the first has left
        assert worker.ready()


def test_a_refused_worker_leaves_the_first_at_work(tmp_path: Path) -> None:
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite"))
    with working(broker) as worker:
        publish(broker, range(3))
        refused = broker.worker(TOPICS)
        with pytest.raises(BrokerError):
            refused.open(keep)
        refused.close()
        assert numbers(worker.poll(max_records=10, max_bytes=10**7, timeout_s=5)) == [0, 1, 2]
        with pytest.raises(BrokerError):
            broker.worker(TOPICS).open(keep)


def test_a_worker_that_could_not_open_holds_no_lock(tmp_path: Path) -> None:
    path = tmp_path / "b.sqlite"
    path.write_bytes(b"no database" * 1000)
    failed = EmbeddedBroker(settings(path)).worker(TOPICS)
    with pytest.raises(BrokerError, match="not a database"):
        failed.open(keep)
    path.unlink()
    with working(EmbeddedBroker(settings(path))) as worker:
        assert worker.ready()


# -- retention


def test_records_past_their_age_are_deleted_and_younger_ones_kept(tmp_path: Path) -> None:
    clock = Clock()
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite", hours=1), now_s=clock)
    for start in (0, 5):
        publish(broker, range(start, start + 5))
        publish(broker, range(start, start + 5), TOPICS.alerts)
        clock.now_s += 3000
    commit_and_prune(broker, 10)
    for topic in (TOPICS.ticks, TOPICS.alerts):
        found = read_all(broker, topic)
        assert numbers(found) == [5, 6, 7, 8, 9]
        assert [r.offset for r in found] == [5, 6, 7, 8, 9]


def test_records_beyond_the_newest_of_a_topic_are_deleted(tmp_path: Path) -> None:
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite", records=3))
    publish(broker, range(10))
    publish(broker, range(2), TOPICS.alerts)
    commit_and_prune(broker, 10)
    assert numbers(read_all(broker, TOPICS.ticks)) == [7, 8, 9]
    assert numbers(read_all(broker, TOPICS.alerts)) == [0, 1]


@pytest.mark.parametrize(("committed", "needed_from"), [(0, 0), (4, 4), (9, 4)])
def test_no_tick_that_a_restart_would_read_is_ever_deleted(
    tmp_path: Path, committed: int, needed_from: int
) -> None:
    clock = Clock()
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite", hours=1, records=1), now_s=clock)
    publish(broker, range(10))
    clock.now_s += 10 * 3600
    commit_and_prune(broker, committed, needed_from)
    assert numbers(read_all(broker, TOPICS.ticks)) == list(range(needed_from, 10))
    with working(broker) as worker:
        assert worker.standing([0]) == {0: Standing(committed, needed_from, 10)}
        blocks = worker.poll(max_records=100, max_bytes=10**7, timeout_s=5)
    assert numbers(blocks) == list(range(committed, 10))


# -- files of an earlier version


def test_a_file_of_the_first_version_is_taken_over_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "b.sqlite"
    broker = EmbeddedBroker(settings(path))
    broker.prepare(TOPICS, partitioned=(), create=True)
    publish(broker, range(5))
    commit_and_prune(broker, 3)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DROP TABLE state")
        database.execute(
            'CREATE TABLE state ("partition" INTEGER NOT NULL, key BLOB NOT NULL, '
            'value BLOB NOT NULL, PRIMARY KEY ("partition", key)) WITHOUT ROWID'
        )
        database.execute("PRAGMA user_version = 1")
    broker.prepare(TOPICS, partitioned=(), create=True)
    with working(broker) as worker:
        assert worker.standing([0])[0].committed == 3
        assert numbers(worker.poll(max_records=10, max_bytes=10**7, timeout_s=5)) == [3, 4]
        state = [Message(b"key", b"value", partition=0)]
        commit(worker, Outbox(state=state), {0: 5}, {0: 5})
    with closing(broker.keeper(TOPICS)) as keeper:
        assert keeper.tables() == {0: {b"key": b"value"}}


def test_offsets_go_on_after_everything_was_deleted(tmp_path: Path) -> None:
    clock = Clock()
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite", hours=1), now_s=clock)
    publish(broker, range(5))
    with closing(broker.reader(TOPICS.ticks, from_beginning=True)) as behind:
        clock.now_s += 7200
        commit_and_prune(broker, 5)
        assert read_all(broker, TOPICS.ticks) == []
        publish(broker, range(5, 8))
        found = read_all(broker, TOPICS.ticks)
        assert [(r.offset, r.value) for r in found] == [(5, b"5"), (6, b"6"), (7, b"7")]
        assert behind.poll(timeout_s=5) == found  # a reader that was overtaken goes on
    with working(broker) as worker:
        (block,) = worker.poll(max_records=10, max_bytes=10**7, timeout_s=5)
    assert list(block.offsets) == [5, 6, 7]


def test_a_new_worker_starts_at_the_first_tick_that_is_left(tmp_path: Path) -> None:
    path = tmp_path / "b.sqlite"
    broker = EmbeddedBroker(settings(path, records=3))
    publish(broker, range(10))
    commit_and_prune(broker, 10)
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("DELETE FROM positions")
    with working(broker) as worker:
        assert worker.lag() == {0: 3}
        assert numbers(worker.poll(max_records=10, max_bytes=10**7, timeout_s=5)) == [7, 8, 9]


# -- files that cannot be used


def test_a_file_that_is_no_database_is_named_with_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"Dear diary, " * 1000)
    before = path.read_bytes()
    broker = EmbeddedBroker(settings(path))
    for ask in (
        lambda: broker.prepare(TOPICS, partitioned=(), create=True),
        broker.publisher,
        lambda: broker.reader(TOPICS.alerts, from_beginning=True),
    ):
        with pytest.raises(BrokerError, match=r"notes\.txt: file is not a database; .*path"):
            ask()
    assert path.read_bytes() == before


@pytest.mark.parametrize("version", [SCHEMA_VERSION + 1, 99])
def test_a_newer_schema_is_refused_with_both_versions(tmp_path: Path, version: int) -> None:
    path = tmp_path / "b.sqlite"
    broker = EmbeddedBroker(settings(path))
    broker.prepare(TOPICS, partitioned=(), create=True)
    with closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {version}")
    expected = f"schema version {version}, this program knows {SCHEMA_VERSION}"
    with pytest.raises(BrokerError, match=expected):
        broker.prepare(TOPICS, partitioned=(), create=True)
    with pytest.raises(BrokerError, match=expected):
        broker.worker(TOPICS).open(keep)


def test_a_database_of_another_program_is_refused_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "b.sqlite"
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE topics (subject TEXT)")
        database.execute("INSERT INTO topics VALUES ('weather')")
    with pytest.raises(BrokerError, match=r"b\.sqlite"):
        EmbeddedBroker(settings(path)).prepare(TOPICS, partitioned=(), create=True)
    with closing(sqlite3.connect(path)) as database:
        assert database.execute("SELECT * FROM topics").fetchall() == [("weather",)]


def test_a_directory_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "below" / "b.sqlite"
    broker = EmbeddedBroker(settings(path))
    for ask in (
        partial(broker.prepare, TOPICS, partitioned=(), create=True),
        partial(broker.worker(TOPICS).open, keep),
    ):
        with pytest.raises(BrokerError, match=r"embedded\.path") as refused:
            ask()
        assert str(path) in str(refused.value)


@contextmanager
def unprivileged() -> Iterator[None]:
    """Permissions mean nothing to root: be nobody for a while."""
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if root:
            os.seteuid(0)


def test_a_read_only_directory_is_refused_in_one_line() -> None:
    directory = Path(tempfile.mkdtemp(prefix="detector-read-only-"))
    try:
        directory.chmod(0o555)
        broker = EmbeddedBroker(settings(directory / "b.sqlite"))
        with unprivileged():
            for ask in (
                partial(broker.prepare, TOPICS, partitioned=(), create=True),
                partial(broker.worker(TOPICS).open, keep),
            ):
                with pytest.raises(BrokerError, match=r"embedded\.path") as refused:
                    ask()
                assert "\n" not in str(refused.value)
        assert list(directory.iterdir()) == []
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


def test_a_commit_that_the_disk_refuses_leaves_nothing(tmp_path: Path) -> None:
    """The limit on the size of files stands in for a full disk."""
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite"))
    publish(broker, range(3))
    with working(broker) as worker:
        worker.poll(max_records=10, max_bytes=10**7, timeout_s=5)
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        large = Outbox([Message(b"k", bytes(500_000))], [Message(b"k", b"dead")])
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, hard))
        try:
            with pytest.raises(TransactionError, match=r"b\.sqlite"):
                commit(worker, large, {0: 3}, {0: 3})
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        assert read_all(broker, TOPICS.alerts) == read_all(broker, TOPICS.dead_letters) == []
        worker.reopen()
        begin(worker)
        assert numbers(worker.poll(max_records=10, max_bytes=10**7, timeout_s=5)) == [0, 1, 2]
        commit(worker, large, {0: 3}, {0: 3})
    assert len(read_all(broker, TOPICS.alerts)) == 1
    assert len(read_all(broker, TOPICS.dead_letters)) == 1
