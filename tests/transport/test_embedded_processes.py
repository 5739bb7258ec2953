"""The embedded file between processes: publishers beside a worker, and locks that others hold."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest

from detector.core.records import Message
from detector.errors import BrokerError, TransactionError
from detector.transport.broker import Outbox, Topics
from detector.transport.embedded import (
    EmbeddedBroker,
    file,
)
from tests.contracts.transports import commit
from tests.processes import wait_for
from tests.service.watched import read_all
from tests.transport.file_broker import (
    TOPICS,
    keep,
    numbers,
    publish,
    settings,
    working,
)

HOLDER = """
import sys, time
from pathlib import Path
from detector.transport.broker import Topics
from detector.transport.embedded import EmbeddedBroker, EmbeddedSettings
worker = EmbeddedBroker(EmbeddedSettings(Path(sys.argv[1]), "normal", 3600.0, 1000)).worker(
    Topics("ticks", "alerts", "dead-letters", "state"))
worker.open(lambda partitions: None)
print("open", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_killed_worker_is_free(tmp_path: Path) -> None:
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite"))
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "b.sqlite")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"open\n"
        with pytest.raises(BrokerError, match="transport: kafka"):
            broker.worker(TOPICS).open(keep)
        os.kill(holder.pid, signal.SIGKILL)
        assert holder.wait(120) == -signal.SIGKILL
    finally:
        holder.kill()
        holder.communicate(timeout=120)
    with working(broker) as worker:
        assert worker.ready()


def test_a_file_that_another_program_holds_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever is asked of it: to come, to publish, to read and to commit."""
    monkeypatch.setattr(file, "_BUSY_S", 0.05)
    broker = EmbeddedBroker(settings(tmp_path / "b.sqlite"))
    publish(broker, range(3))
    publisher = broker.publisher()
    with closing(sqlite3.connect(tmp_path / "b.sqlite", isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        asks: list[Callable[[], object]] = [
            lambda: broker.worker(TOPICS).open(keep),
            lambda: broker.reader("new", from_beginning=True),
            lambda: publisher.publish(TOPICS.ticks, [Message(None, b"1")]),
            lambda: broker.prepare(Topics("a", "b", "c", "d"), partitioned=(), create=True),
        ]
        for ask in asks:
            with pytest.raises(BrokerError, match=r"b\.sqlite: database is locked; another pro"):
                ask()
        other.execute("ROLLBACK")
    with working(broker) as worker:
        worker.poll(max_records=10, max_bytes=10**7, timeout_s=5)
        with closing(sqlite3.connect(tmp_path / "b.sqlite", isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(TransactionError, match="database is locked"):
                commit(worker, Outbox(), {0: 3}, {0: 3})
            other.execute("ROLLBACK")
        commit(worker, Outbox(), {0: 3}, {0: 3})
    publisher.close()


def open_at(start: Barrier, paths: Sequence[Path]) -> None:
    """Runs in a process of its own: exit code 0 if all went well."""
    for path in paths:
        start.wait(120)
        file.open_file(settings(path)).close()


def publish_in_batches(path: Path, records: int) -> None:
    """Runs in a process of its own."""
    publisher = EmbeddedBroker(settings(path)).publisher()
    try:
        for start in range(0, records, 10):
            batch = range(start, min(start + 10, records))
            publisher.publish(TOPICS.ticks, [Message(None, b"%d" % n) for n in batch])
    finally:
        publisher.close()


def test_a_publisher_in_another_process_and_a_committing_worker_do_not_disturb_each_other(
    tmp_path: Path,
) -> None:
    path, records = tmp_path / "b.sqlite", 5_000
    broker = EmbeddedBroker(settings(path))
    process = multiprocessing.get_context("spawn").Process(
        target=publish_in_batches, args=(path, records)
    )
    seen: list[int] = []
    with working(broker) as worker:
        process.start()
        try:

            def round_done() -> bool:
                for block in worker.poll(max_records=100, max_bytes=10**7, timeout_s=0.1):
                    seen.extend(numbers([block]))
                    after = block.offsets[-1] + 1
                    alert = Message(None, b"%d" % block.offsets[-1])
                    commit(worker, Outbox([alert]), {0: after}, {0: after})
                return len(seen) >= records

            wait_for(round_done, "every record of the other process arrives")
            process.join(120)
            assert process.exitcode == 0
        finally:
            process.kill()
            process.join()
    assert seen == list(range(records))
    assert numbers(read_all(broker, TOPICS.alerts))[-1] == records - 1


def test_two_processes_that_create_the_file_at_once_both_succeed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "b.sqlite"
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=publish_in_batches, args=(path, 100)) for _ in range(2)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [p.exitcode for p in processes] == [0, 0]
    finally:
        for process in processes:
            process.kill()
            process.join()
    found = read_all(EmbeddedBroker(settings(path)), TOPICS.ticks)
    assert sorted(numbers(found)) == sorted([*range(100), *range(100)])
    assert [r.offset for r in found] == list(range(200))


def test_whoever_creates_a_file_at_the_same_instant_waits_for_the_other(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    start, paths = context.Barrier(4), [tmp_path / f"{n}.sqlite" for n in range(100)]
    processes = [context.Process(target=open_at, args=(start, paths)) for _ in range(4)]
    try:
        for process in processes:
            process.start()
        for process in processes:
            process.join(120)
        assert [p.exitcode for p in processes] == [0] * 4
    finally:
        for process in processes:
            process.kill()
            process.join()
