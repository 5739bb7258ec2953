"""The two transports with topics of their own, and how a test drives a worker.

Knows the protocols of detector.transport.broker. Must not know what the tests prove.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

from detector.core.records import Message, Record, RecordBlock
from detector.transport.broker import Broker, Outbox, Reader, Release, Standing, Topics, Worker
from detector.transport.embedded import EmbeddedBroker, EmbeddedSettings
from detector.transport.kafka import KafkaBroker, KafkaSettings
from tests.kafka_broker import KafkaBroker as KafkaNode
from tests.processes import Deadline

EMBEDDED_TOPICS = Topics("ticks", "alerts", "dead-letters", "state")
Tables = Mapping[int, Mapping[bytes, bytes]]


class Transport(Protocol):
    """A transport with topics of its own. partitions: those of the ticks topic."""

    @property
    def topics(self) -> Topics: ...

    @property
    def partitions(self) -> tuple[int, ...]: ...

    def broker(self) -> Broker: ...

    def unwritable(self) -> Message:
        """A state message that makes its transaction fail after the alerts were written."""


@dataclass(frozen=True, slots=True)
class Embedded:
    path: Path
    topics: Topics = EMBEDDED_TOPICS
    partitions: tuple[int, ...] = (0,)

    def broker(self) -> EmbeddedBroker:
        return EmbeddedBroker(EmbeddedSettings(self.path, "normal", 3600.0, 1_000_000))

    def unwritable(self) -> Message:
        return Message(None, b"a state without a key", partition=0)


@dataclass(frozen=True, slots=True)
class Kafka:
    settings: KafkaSettings
    topics: Topics
    partitions: tuple[int, ...] = (0, 1)

    def broker(self) -> KafkaBroker:
        return KafkaBroker(self.settings)

    def unwritable(self) -> Message:
        # A compacted topic takes no record without a key: refused only once it is sent.
        return Message(None, b"a state without a key", partition=0)

    def member(self, number: int) -> Kafka:
        """Another worker of the group."""
        return self.but(transactional_id=f"{self.settings.transactional_id}-{number}")

    def but(self, **changed: object) -> Kafka:
        """With other settings."""
        return replace(self, settings=replace(self.settings, **changed))  # type: ignore[arg-type]


def kafka_transport(node: KafkaNode) -> Kafka:
    """Nothing is created yet."""
    name = f"contract-{uuid.uuid4().hex[:12]}"
    settings = KafkaSettings(
        bootstrap_servers=node.bootstrap_servers,
        group=name,
        transactional_id=name,
        group_instance_id=None,
        session_timeout_ms=6_000,
        transaction_timeout_ms=10_000,
        compression=None,
        partitions=2,
        replication_factor=1,
        retry_timeout_s=20.0,
        max_poll_records=4096,
        max_poll_bytes=10**7,
        exactly_once=True,
    )
    return Kafka(
        settings, Topics(*(f"{name}-{t}" for t in ("ticks", "alerts", "dead", "state", "commands")))
    )


def prepare(transport: Transport) -> None:
    topics = transport.topics
    transport.broker().prepare(topics, partitioned=(topics.ticks, topics.alerts), create=True)


# -- workers


def keep(_: frozenset[int]) -> None:
    """A release that commits nothing."""


@contextmanager
def working(transport: Transport, release: Release = keep) -> Iterator[Worker]:
    """An open worker that has not joined yet."""
    worker = transport.broker().worker(transport.topics)
    worker.open(release)
    try:
        yield worker
    finally:
        worker.close()


@contextmanager
def started(transport: Transport, release: Release = keep) -> Iterator[Worker]:
    """A worker that reads every partition, from what was committed or from the first record."""
    with working(transport, release) as worker:
        gain(worker, transport.partitions)
        begin(worker, transport.partitions)
        yield worker


def gain(worker: Worker, partitions: Iterable[int]) -> frozenset[int]:
    """Poll until these partitions, and no others, are gained; nothing may come before start.
    Returns those that were lost meanwhile."""
    wanted, gained, lost = frozenset(partitions), frozenset[int](), frozenset[int]()
    deadline = Deadline()
    while gained != wanted or not worker.ready():
        deadline.check(f"of {set(wanted)} only {set(gained)} are gained")
        assert worker.poll(max_records=1, max_bytes=10**7, timeout_s=0.1) == []
        gone, come = worker.changes()
        assert not come & gained, "gained twice"
        gained, lost = gained | come, lost | gone
        assert gained <= wanted
    return lost


def begin(worker: Worker, partitions: Iterable[int]) -> None:
    """Read gained partitions as the daemon does: from what is committed, or from the first."""
    found = standing(worker, partitions)
    worker.start({p: s.first if s.committed is None else s.committed for p, s in found.items()})


def standing(worker: Worker, partitions: Iterable[int]) -> dict[int, Standing]:
    """Asks again until every one is settled."""
    wanted, found = list(partitions), dict[int, Standing]()
    deadline = Deadline()
    while found.keys() != set(wanted):
        deadline.check(f"of {wanted} only {found} are settled")
        found |= worker.standing([p for p in wanted if p not in found])
    return found


def commit(
    worker: Worker,
    outbox: Outbox,
    positions: Mapping[int, int],
    needed_from: Mapping[int, int] | None = None,
) -> None:
    """Return when it is committed. Every tick is needed from where it is, if nothing is said."""
    worker.begin_commit(outbox, positions, positions if needed_from is None else needed_from)
    assert worker.end_commit(timeout_s=None) is not None


def take(worker: Worker, records: int, *, max_records: int = 1000) -> list[RecordBlock]:
    """Polls until that many records came; fails if they do not, or if there are more."""
    deadline = Deadline()
    blocks: list[RecordBlock] = []
    while sum(map(len, blocks)) < records:
        deadline.check(f"{sum(map(len, blocks))} of {records} records came")
        blocks += worker.poll(max_records=max_records, max_bytes=10**7, timeout_s=0.2)
    assert sum(map(len, blocks)) == records
    return blocks


def values(blocks: list[RecordBlock], partition: int = 0) -> list[int]:
    return [int(v or b"-1") for b in blocks if b.partition == partition for v in b.values]


def offsets(blocks: list[RecordBlock], partition: int = 0) -> list[int]:
    return [offset for b in blocks if b.partition == partition for offset in b.offsets]


def state_of(worker: Worker, partitions: Iterable[int]) -> Tables:
    """What a fresh look finds; fails, and says how far it came, if the look has no end."""
    reader = worker.read_state(list(partitions))
    deadline, reads = Deadline(), 0
    try:
        while not reader.read(timeout_s=0.1):
            reads += 1
            found = {p: len(table) for p, table in reader.tables().items()}
            deadline.check(f"the end of the state: {found} found in {reads} reads")
        return {p: dict(t) for p, t in reader.tables().items()}
    finally:
        reader.close()


def wait_state(worker: Worker, expected: Tables) -> None:
    """Return when this is the saved state: it may become visible after the offsets do."""
    wait_equal(lambda: state_of(worker, expected), expected)


def wait_equal(found: Callable[[], object], expected: object) -> None:
    deadline = Deadline()
    while (last := found()) != expected:
        deadline.check(f"expected {expected!r:.500}, is {last!r:.500}")


# -- messages


def publish(transport: Transport, topic: str, messages: list[Message]) -> None:
    publisher = transport.broker().publisher()
    try:
        publisher.publish(topic, messages)
        publisher.flush()
    finally:
        publisher.close()


def publish_numbers(transport: Transport, numbers: range, *, partition: int = 0) -> None:
    publish(
        transport,
        transport.topics.ticks,
        [Message(b"series", b"%d" % n, partition=partition) for n in numbers],
    )


def outbox(name: bytes, *, partition: int = 0) -> Outbox:
    """One alert, one dead letter, the state of one series and a watermark."""
    return Outbox(
        [Message(b"series", b"alert " + name)],
        [Message(None, b"dead " + name)],
        [Message(b"series", name, partition=partition)],
        [Message(b"watermark", b"mark " + name, partition=partition)],
    )


def saved(name: bytes) -> dict[bytes, bytes]:
    """The table that outbox(name) leaves."""
    return {b"series": name, b"watermark": b"mark " + name}


class Interrupted(list[Message]):
    """Messages that run an action when a commit comes to them: the middle of a transaction."""

    def __init__(self, messages: list[Message], action: Callable[[], None]) -> None:
        super().__init__(messages)
        self._action = action

    def __iter__(self) -> Iterator[Message]:
        self._action()
        return super().__iter__()


@contextmanager
def reading(transport: Transport, topic: str, *, from_beginning: bool = True) -> Iterator[Reader]:
    reader = transport.broker().reader(topic, from_beginning=from_beginning)
    try:
        yield reader
    finally:
        reader.close()


def read(reader: Reader, records: int) -> list[Record]:
    """Exactly that many records, and nothing after them once all is read."""
    deadline = Deadline()
    found: list[Record] = []
    while len(found) < records:
        deadline.check(f"{len(found)} of {records} records came")
        found += reader.poll(timeout_s=0.2)
    while not reader.at_end():
        deadline.check("the reader is at the end")
        found += reader.poll(timeout_s=0.2)
    found += reader.poll(timeout_s=0.2)
    assert len(found) == records, found
    return found


def read_values(transport: Transport, topic: str, records: int) -> list[bytes | None]:
    with reading(transport, topic) as reader:
        return [r.value for r in read(reader, records)]
