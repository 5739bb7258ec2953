"""A daemon in a thread, its worker watched, and what it has published."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from detector.config import Config, parse_config
from detector.core.records import Message, Record, RecordBlock
from detector.errors import DetectorError, TransactionError
from detector.model.directory import Artifact
from detector.service.assembly import make_daemon
from detector.transport.broker import (
    Broker,
    Follower,
    Keeper,
    Outbox,
    Publisher,
    Reader,
    Release,
    Standing,
    StateReader,
    Topics,
)
from detector.transport.broker import Worker as WorkerProtocol
from tests.contracts.transports import commit
from tests.processes import Samples, samples, total, wait_for
from tests.records import MAX_RECORD_BYTES, Sent

LENGTH, STRIDE, MAX_GAP_S = 8, 2, 60.0


def make_config(directory: Path, **sections: Mapping[str, Any]) -> Config:
    tree: dict[str, Any] = {
        "features": {"value": "value"},
        "input": {"max_record_bytes": MAX_RECORD_BYTES},
        "window": {"length_ticks": LENGTH, "stride_ticks": STRIDE, "max_gap_s": MAX_GAP_S},
        "threshold": {"method": "fixed", "value": 1.0},
        "dead_letters": {"max_bytes": 500},
        "delivery": {"commit_interval_ms": 20, "max_poll_records": 64},
        "embedded": {"path": str(directory / "broker.sqlite"), "synchronous": "normal"},
    }
    for section, options in sections.items():
        tree[section] = {**tree.get(section, {}), **options}
    return parse_config(tree)


OnCommit = Callable[[int, Outbox, Mapping[int, int]], None]


class WatchedWorker:
    """A worker that calls before and after each commit; either may raise. What it raises is told
    when the commit ends, but for what says that none has begun."""

    def __init__(self, inner: WorkerProtocol, before: OnCommit, after: OnCommit) -> None:
        self._inner, self._before, self._after = inner, before, after
        self._failure: DetectorError | None = None
        self.commits = 0
        self.polled = 0
        self.polls = 0

    def open(self, release: Release) -> None:
        self._inner.open(release)

    def poll(self, *, max_records: int, max_bytes: int, timeout_s: float) -> list[RecordBlock]:
        blocks = self._inner.poll(max_records=max_records, max_bytes=max_bytes, timeout_s=timeout_s)
        self.polled += sum(map(len, blocks))
        self.polls += 1
        return blocks

    def begin_commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        self.commits += 1
        self._failure = None
        try:
            self._before(self.commits, outbox, positions)
            commit(self._inner, outbox, positions, needed_from)
            self._after(self.commits, outbox, positions)
        except TransactionError as error:
            if not error.begun:
                raise
            self._failure = error

    def end_commit(self, *, timeout_s: float | None) -> float | None:
        failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return 0.0

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        return self._inner.changes()

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        return self._inner.standing(partitions)

    def read_state(self, partitions: Sequence[int]) -> StateReader:
        return self._inner.read_state(partitions)

    def start(self, positions: Mapping[int, int]) -> None:
        self._inner.start(positions)

    def position(self, partition: int) -> int:
        return self._inner.position(partition)

    def may_commit(self) -> bool:
        return self._inner.may_commit()

    def readable(self) -> int:
        return self._inner.readable()

    def ready(self) -> bool:
        return self._inner.ready()

    def lag(self) -> dict[int, int]:
        return self._inner.lag()

    def reopen(self) -> None:
        self._inner.reopen()

    def close(self) -> None:
        self._inner.close()


def no_release(_: frozenset[int]) -> None:
    """Nothing is ever asked back."""


def nothing(_: int, __: Outbox, ___: Mapping[int, int]) -> None:
    """Neither before nor after a commit."""


class WatchedBroker:
    """A broker whose one worker is watched."""

    def __init__(
        self, inner: Broker, *, before: OnCommit = nothing, after: OnCommit = nothing
    ) -> None:
        self._inner, self._before, self._after = inner, before, after
        self.last_worker: WatchedWorker | None = None

    def describe(self) -> str:
        return self._inner.describe()

    def missing(self, topics: Topics) -> list[str]:
        return self._inner.missing(topics)

    def not_permitted(self, topics: Topics) -> list[str]:
        return self._inner.not_permitted(topics)

    def prepare(
        self,
        topics: Topics,
        *,
        partitioned: Sequence[str],
        create: bool,
        check_state: bool = True,
    ) -> None:
        self._inner.prepare(topics, partitioned=partitioned, create=create, check_state=check_state)

    def grow_state(self, topics: Topics) -> tuple[int, int]:
        return self._inner.grow_state(topics)

    def progress(self, topics: Topics) -> dict[int, Standing]:
        return self._inner.progress(topics)

    def saved(self, topics: Topics) -> dict[int, dict[bytes, bytes]]:
        return self._inner.saved(topics)

    def keeper(self, topics: Topics) -> Keeper:
        return self._inner.keeper(topics)

    def worker(self, topics: Topics) -> WatchedWorker:
        self.last_worker = WatchedWorker(self._inner.worker(topics), self._before, self._after)
        return self.last_worker

    def publisher(self) -> Publisher:
        return self._inner.publisher()

    def reader(self, topic: str, *, from_beginning: bool) -> Reader:
        return self._inner.reader(topic, from_beginning=from_beginning)

    def follower(
        self, name: str, topic: str, *, kept_in: str, from_beginning: bool, create: bool
    ) -> Follower:
        return self._inner.follower(
            name, topic, kept_in=kept_in, from_beginning=from_beginning, create=create
        )


class Running:
    """A daemon in a thread."""

    def __init__(self, config: Config, artifact: Artifact, broker: Broker) -> None:
        self.registry = CollectorRegistry()
        self.daemon = make_daemon(config, artifact, broker, self.registry)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.daemon.run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error

    def metrics(self) -> Samples:
        return samples(generate_latest(self.registry).decode())

    def wait_accounted(self, ticks: int) -> None:
        wait_for(
            lambda: (
                self.failure is not None or total(self.metrics(), "detector_ticks_total") >= ticks
            ),
            f"{ticks} ticks are accounted for",
        )
        if self.failure is not None:
            raise self.failure

    def stop(self) -> Samples:
        """The metrics after the loop has ended as it should."""
        self.daemon.stop()
        self.thread.join(120)
        assert not self.thread.is_alive()
        if self.failure is not None:
            raise self.failure
        return self.metrics()


@contextmanager
def running(config: Config, artifact: Artifact, broker: Broker) -> Iterator[Running]:
    found = Running(config, artifact, broker)
    found.thread.start()
    try:
        yield found
    finally:
        found.daemon.stop()
        found.thread.join(120)


def publish(broker: Broker, config: Config, records: Sequence[Sent]) -> None:
    publisher = broker.publisher()
    try:
        publisher.publish(config.input.topic, [Message(r.key, r.value) for r in records])
        publisher.flush()
    finally:
        publisher.close()


def read_all(broker: Broker, topic: str) -> list[Record]:
    reader = broker.reader(topic, from_beginning=True)
    found: list[Record] = []
    try:
        while not reader.at_end():
            found += reader.poll(timeout_s=1.0)
    finally:
        reader.close()
    return found


def alert_ids(broker: Broker, config: Config) -> list[str]:
    return [json.loads(r.value or b"")["id"] for r in read_all(broker, config.alerts.topic)]


def buried(broker: Broker, config: Config) -> list[tuple[int, int]]:
    """(offset, index) of every dead letter."""
    letters = [dict(r.headers) for r in read_all(broker, config.dead_letters.topic)]
    return [(int(h["offset"]), int(h["index"])) for h in letters]


def run_through(config: Config, artifact: Artifact, broker: Broker, ticks: int) -> Samples:
    with running(config, artifact, broker) as run:
        run.wait_accounted(ticks)
        return run.stop()
