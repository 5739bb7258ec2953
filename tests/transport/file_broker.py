"""An embedded broker as its tests use it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from detector.core.records import Message, Record, RecordBlock
from detector.transport.broker import Outbox, Topics
from detector.transport.embedded import (
    EmbeddedBroker,
    EmbeddedSettings,
    EmbeddedWorker,
)

TOPICS = Topics("ticks", "alerts", "dead-letters", "state")


class Clock:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.now_s = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now_s


def settings(path: Path, *, hours: float = 24.0, records: int = 10_000_000) -> EmbeddedSettings:
    return EmbeddedSettings(path, "normal", hours * 3600, records)


def keep(partitions: frozenset[int]) -> None:
    raise AssertionError("the only worker keeps its partition")


def begin(worker: EmbeddedWorker) -> None:
    """Read on where the last worker has stopped."""
    worker.changes()
    (stands,) = worker.standing([0]).values()
    worker.start({0: stands.first if stands.committed is None else stands.committed})


@contextmanager
def working(broker: EmbeddedBroker) -> Iterator[EmbeddedWorker]:
    worker = broker.worker(TOPICS)
    worker.open(keep)
    begin(worker)
    try:
        yield worker
    finally:
        worker.close()


def publish(broker: EmbeddedBroker, numbers: range, topic: str = TOPICS.ticks) -> None:
    publisher = broker.publisher()
    try:
        publisher.publish(topic, [Message(None, b"%d" % n) for n in numbers])
        publisher.flush()
    finally:
        publisher.close()


def numbers(found: list[Record] | list[RecordBlock]) -> list[int]:
    values = [v for f in found for v in (f.values if isinstance(f, RecordBlock) else [f.value])]
    return [int(v or b"-1") for v in values]


def commit_and_prune(broker: EmbeddedBroker, position: int, needed_from: int | None = None) -> None:
    """The first commit of a worker prunes."""
    with working(broker) as worker:
        needed = position if needed_from is None else needed_from
        worker.commit(Outbox(), {0: position}, {0: needed})
