"""What every transport promises, asked of each: the embedded file and a real Kafka."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import pytest
from kafka import KafkaAdminClient

from detector.core.codec import RecordBlock
from detector.errors import BrokerError, TransactionError
from detector.transport.broker import Broker, Message, Outbox, Reader, Record, Topics, Worker
from detector.transport.embedded import EmbeddedBroker, EmbeddedSettings
from detector.transport.kafka import KafkaBroker, KafkaSettings
from tests.kafka_broker import KafkaBroker as KafkaNode
from tests.processes import wait_for

DEADLINE_S = 60.0


class Transport(Protocol):
    """A transport with topics of its own. partitions: those of the ticks topic."""

    @property
    def topics(self) -> Topics: ...

    @property
    def partitions(self) -> tuple[int, ...]: ...

    def broker(self, *, start: str = "earliest") -> Broker: ...

    def unwritable(self) -> Message:
        """A state message that makes its transaction fail after the alerts were written."""


@dataclass(frozen=True, slots=True)
class Embedded:
    path: Path
    topics: Topics
    partitions: tuple[int, ...] = (0,)

    def broker(self, *, start: str = "earliest") -> Broker:
        return EmbeddedBroker(EmbeddedSettings(self.path, "normal", 3600.0, 1_000_000, start))

    def unwritable(self) -> Message:
        return Message(None, b"a state without a key", partition=0)


@dataclass(frozen=True, slots=True)
class Kafka:
    settings: KafkaSettings
    topics: Topics
    partitions: tuple[int, ...] = (0, 1)

    def broker(self, *, start: str = "earliest") -> KafkaBroker:
        return KafkaBroker(replace(self.settings, start=start))

    def unwritable(self) -> Message:
        # Below the client's limit and above the broker's: refused only once it is sent.
        return Message(b"key", bytes(2_000_000), partition=0)


def kafka_transport(node: KafkaNode) -> Kafka:
    name = f"contract-{uuid.uuid4().hex[:12]}"
    settings = KafkaSettings(
        bootstrap_servers=node.bootstrap_servers,
        group=name,
        transactional_id=name,
        session_timeout_ms=6_000,
        transaction_timeout_ms=10_000,
        compression=None,
        create_topics=True,
        partitions=2,
        replication_factor=1,
        start="earliest",
        retry_timeout_s=20.0,
        max_poll_records=4096,
        security={},
    )
    return Kafka(settings, Topics(*(f"{name}-{t}" for t in ("ticks", "alerts", "dead", "state"))))


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def transport(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    found: Transport = (
        Embedded(tmp_path / "broker.sqlite", Topics("ticks", "alerts", "dead-letters"))
        if request.param == "embedded"
        else kafka_transport(request.getfixturevalue("kafka"))
    )
    prepare(found)
    return found


def prepare(transport: Transport) -> None:
    topics = transport.topics
    partitioned = [topics.ticks, topics.alerts, *([topics.state] if topics.state else [])]
    transport.broker().prepare(topics, partitioned=partitioned)


@contextmanager
def working(transport: Transport, *, start: str = "earliest") -> Iterator[Worker]:
    worker = transport.broker(start=start).worker(transport.topics)
    worker.open()
    try:
        yield worker
    finally:
        worker.close()


@contextmanager
def reading(transport: Transport, topic: str, *, from_beginning: bool = True) -> Iterator[Reader]:
    reader = transport.broker().reader(topic, from_beginning=from_beginning)
    try:
        yield reader
    finally:
        reader.close()


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


def take(worker: Worker, records: int, *, max_records: int = 1000) -> list[RecordBlock]:
    """Polls until that many records came; fails if they do not, or if there are more."""
    deadline_s = time.monotonic() + DEADLINE_S
    blocks: list[RecordBlock] = []
    while sum(map(len, blocks)) < records:
        assert time.monotonic() < deadline_s, f"{records} records did not come: {blocks}"
        blocks += worker.poll(max_records=max_records, timeout_s=0.2)
    assert sum(map(len, blocks)) == records
    return blocks


def values(blocks: list[RecordBlock], partition: int = 0) -> list[int]:
    return [int(v or b"-1") for b in blocks if b.partition == partition for v in b.values]


def wait_joined(worker: Worker) -> None:
    """Poll until the worker has its partitions; there must be no records."""
    deadline_s = time.monotonic() + DEADLINE_S
    while not (worker.ready() and worker.assignment()):
        assert time.monotonic() < deadline_s, "the worker did not join"
        assert worker.poll(max_records=1, timeout_s=0.1) == []


def read(reader: Reader, records: int) -> list[Record]:
    """Exactly that many records, and nothing after them once all is read."""
    deadline_s = time.monotonic() + DEADLINE_S
    found: list[Record] = []
    while len(found) < records:
        assert time.monotonic() < deadline_s, f"{records} records did not come: {found}"
        found += reader.poll(timeout_s=0.2)
    while not reader.at_end():
        assert time.monotonic() < deadline_s, "the reader never reaches the end"
        found += reader.poll(timeout_s=0.2)
    found += reader.poll(timeout_s=0.2)
    assert len(found) == records, found
    return found


class Interrupted(list[Message]):
    """Messages that run an action when a commit comes to them: the middle of a transaction."""

    def __init__(self, messages: list[Message], action: Callable[[], None]) -> None:
        super().__init__(messages)
        self._action = action

    def __iter__(self) -> Iterator[Message]:
        self._action()
        return super().__iter__()


def outbox(name: bytes, *, state: list[Message] | None = None) -> Outbox:
    """One alert, one dead letter and the state of one series."""
    if state is None:
        state = [Message(b"series", name, partition=0)]
    return Outbox([Message(b"series", b"alert " + name)], [Message(None, b"dead " + name)], state)


def test_records_of_a_partition_come_in_the_order_they_were_published(
    transport: Transport,
) -> None:
    for start in (0, 100, 200):
        for partition in transport.partitions:
            publish_numbers(transport, range(start, start + 100), partition=partition)
    with working(transport) as worker:
        blocks = take(worker, 300 * len(transport.partitions), max_records=64)
    for partition in transport.partitions:
        mine = [b for b in blocks if b.partition == partition]
        assert values(mine, partition) == list(range(300))
        assert [o for b in mine for o in b.offsets] == list(range(300))
    assert max(map(len, blocks)) <= 64
    assert {b.topic for b in blocks} == {transport.topics.ticks}


def test_a_waiting_worker_gets_what_is_published_later(transport: Transport) -> None:
    with working(transport) as worker:
        wait_joined(worker)
        assert worker.poll(max_records=10, timeout_s=0.05) == []
        publish_numbers(transport, range(3))
        assert values(take(worker, 3)) == [0, 1, 2]


def test_keys_values_and_timestamps_of_ticks_arrive_as_they_were_sent(
    transport: Transport,
) -> None:
    every_byte = bytes(range(256))
    sent: list[tuple[bytes | None, bytes | None]] = [
        (b"key", b"value"), (None, b"no key"), (b"", b"empty key"), (b"null", None),
        (b"empty", b""), (every_byte, every_byte),
    ]  # fmt: skip
    before_ms = int(time.time() * 1000)
    publish(transport, transport.topics.ticks, [Message(k, v, partition=0) for k, v in sent])
    after_ms = int(time.time() * 1000)
    with working(transport) as worker:
        blocks = take(worker, len(sent))
    got = [pair for b in blocks for pair in zip(b.keys, b.values, strict=True)]
    assert got == sent
    assert all(before_ms <= t <= after_ms for b in blocks for t in b.timestamps_ms)


def test_headers_reach_a_reader_in_order_with_repeats_and_any_bytes(transport: Transport) -> None:
    headers = (("reason", b"null"), ("empty", b""), ("again", b"1"), ("again", bytes(range(256))))
    messages = [
        Message(b"k", b"v", headers, 0),
        Message(None, b"v", (("größe", b"utf-8 name"),), 0),
        Message(b"k", None, (("reason", b"null"),), 0),
        Message(b"", b"", (), 0),
    ]
    publish(transport, transport.topics.dead_letters, messages)
    with reading(transport, transport.topics.dead_letters) as reader:
        records = read(reader, 4)
    assert [(r.key, r.value, r.headers) for r in records] == [
        (m.key, m.value, m.headers) for m in messages
    ]
    assert [r.offset for r in records] == [0, 1, 2, 3]


def test_a_reopened_worker_resumes_at_the_committed_offset(transport: Transport) -> None:
    publish_numbers(transport, range(10))
    with working(transport) as worker:
        take(worker, 10)
        worker.commit(Outbox(), {0: 4})
        worker.reopen()
        blocks = take(worker, 6)
    assert values(blocks) == [4, 5, 6, 7, 8, 9]
    assert [o for b in blocks for o in b.offsets] == [4, 5, 6, 7, 8, 9]


def test_a_new_worker_resumes_at_the_committed_offset_of_each_partition(
    transport: Transport,
) -> None:
    for partition in transport.partitions:
        publish_numbers(transport, range(10), partition=partition)
    commits = {p: 3 + p for p in transport.partitions}
    with working(transport) as worker:
        take(worker, 10 * len(transport.partitions))
        worker.commit(Outbox(), commits)
    with working(transport) as worker:
        blocks = take(worker, sum(10 - offset for offset in commits.values()))
    for partition, offset in commits.items():
        assert values(blocks, partition) == list(range(offset, 10))


def test_the_last_of_several_commits_counts(transport: Transport) -> None:
    publish_numbers(transport, range(10))
    with working(transport) as worker:
        take(worker, 10)
        for offset in (2, 5, 9):
            worker.commit(Outbox(), {0: offset})
    with working(transport) as worker:
        assert values(take(worker, 1)) == [9]


def test_uncommitted_work_comes_again(transport: Transport) -> None:
    publish_numbers(transport, range(5))
    with working(transport) as worker:
        assert values(take(worker, 5)) == [0, 1, 2, 3, 4]
        worker.reopen()
        assert values(take(worker, 5)) == [0, 1, 2, 3, 4]
    with working(transport) as worker:
        assert values(take(worker, 5)) == [0, 1, 2, 3, 4]


def test_a_group_that_starts_at_the_latest_record_skips_what_was_there(
    transport: Transport,
) -> None:
    publish_numbers(transport, range(5))
    with working(transport, start="latest") as worker:
        wait_joined(worker)
        publish_numbers(transport, range(5, 8))
        assert values(take(worker, 3)) == [5, 6, 7]


def test_nothing_of_a_transaction_is_visible_before_its_commit(transport: Transport) -> None:
    publish_numbers(transport, range(2))
    topics = transport.topics
    with ExitStack() as stack:
        alerts = stack.enter_context(reading(transport, topics.alerts))
        letters = stack.enter_context(reading(transport, topics.dead_letters))
        worker = stack.enter_context(working(transport))
        take(worker, 2)
        early: list[Record] = []

        def look() -> None:
            early.extend(alerts.poll(timeout_s=0.5))
            early.extend(letters.poll(timeout_s=0.1))

        work = outbox(b"1")
        work.state = Interrupted(work.state, look)
        worker.commit(work, {0: 2})
        assert early == []
        assert [r.value for r in read(alerts, 1)] == [b"alert 1"]
        assert [r.value for r in read(letters, 1)] == [b"dead 1"]
        assert worker.load_state([0]) == {0: {b"series": b"1"}}


def test_a_failed_transaction_leaves_nothing(transport: Transport) -> None:
    publish_numbers(transport, range(4))
    topics = transport.topics
    with ExitStack() as stack:
        alerts = stack.enter_context(reading(transport, topics.alerts))
        letters = stack.enter_context(reading(transport, topics.dead_letters))
        worker = stack.enter_context(working(transport))
        take(worker, 4)
        worker.commit(outbox(b"good"), {0: 1})
        bad = outbox(
            b"bad", state=[Message(b"series", b"bad", partition=0), transport.unwritable()]
        )
        with pytest.raises(TransactionError):
            worker.commit(bad, {0: 4})
        worker.reopen()
        assert values(take(worker, 3)) == [1, 2, 3]
        assert worker.load_state([0]) == {0: {b"series": b"good"}}
        worker.commit(outbox(b"after"), {0: 4})
        assert [r.value for r in read(alerts, 2)] == [b"alert good", b"alert after"]
        assert [r.value for r in read(letters, 2)] == [b"dead good", b"dead after"]
        assert worker.load_state([0]) == {0: {b"series": b"after"}}


def die_in_commit(transport: Transport) -> None:
    """Runs in a process of its own: killed when the alerts are written and the state is not."""
    with working(transport) as worker:
        take(worker, 4)
        work = outbox(b"killed")
        work.state = Interrupted(work.state, lambda: os.kill(os.getpid(), signal.SIGKILL))
        worker.commit(work, {0: 4})


def test_a_worker_killed_inside_a_transaction_leaves_nothing(transport: Transport) -> None:
    publish_numbers(transport, range(4))
    process = multiprocessing.get_context("spawn").Process(target=die_in_commit, args=(transport,))
    process.start()
    try:
        process.join(DEADLINE_S)
        assert process.exitcode == -signal.SIGKILL
    finally:
        process.kill()
        process.join()
    topics = transport.topics
    with ExitStack() as stack:
        worker = stack.enter_context(working(transport))
        assert values(take(worker, 4)) == [0, 1, 2, 3]
        assert worker.load_state([0]) == {0: {}}
        worker.commit(outbox(b"next"), {0: 4})
        for topic, value in ((topics.alerts, b"alert next"), (topics.dead_letters, b"dead next")):
            reader = stack.enter_context(reading(transport, topic))
            assert [r.value for r in read(reader, 1)] == [value]


def test_a_dead_letter_without_key_and_value_keeps_its_headers(transport: Transport) -> None:
    """Producers in other languages may write such a record, so it may have to be buried."""
    headers = (("reason", b"null"), ("offset", b"7"))
    with working(transport) as worker:
        wait_joined(worker)
        worker.commit(Outbox(dead_letters=[Message(None, None, headers)]), {})
    with reading(transport, transport.topics.dead_letters) as reader:
        assert [r.headers for r in read(reader, 1)] == [headers]


def test_two_readers_see_the_same_alerts_in_the_same_order(transport: Transport) -> None:
    keys = [b"a", b"b", b"c", b"d"]
    with ExitStack() as stack:
        early = stack.enter_context(reading(transport, transport.topics.alerts))
        worker = stack.enter_context(working(transport))
        wait_joined(worker)
        for n in range(20):
            worker.commit(Outbox([Message(k, b"%d" % n, (("n", b"%d" % n),)) for k in keys]), {})
        late = stack.enter_context(reading(transport, transport.topics.alerts))
        seen = [read(reader, 80) for reader in (early, late)]
    for partition in {r.partition for r in seen[0]}:
        first, second = ([r for r in records if r.partition == partition] for records in seen)
        assert first == second
        assert [r.offset for r in first] == sorted({r.offset for r in first})
    for key in keys:
        assert [int(r.value or b"-1") for r in seen[0] if r.key == key] == list(range(20))


def test_a_reader_from_now_sees_only_what_comes_and_one_from_the_beginning_all(
    transport: Transport,
) -> None:
    topic = transport.topics.alerts
    publish(transport, topic, [Message(b"k", b"old", partition=0)])
    with (
        reading(transport, topic, from_beginning=False) as now,
        reading(transport, topic, from_beginning=True) as whole,
    ):
        assert now.at_end()
        assert not whole.at_end()
        publish(transport, topic, [Message(b"k", b"new", partition=0)])
        assert [r.value for r in read(now, 1)] == [b"new"]
        assert [r.value for r in read(whole, 2)] == [b"old", b"new"]
        assert now.at_end()
        assert whole.at_end()


def test_a_reader_from_now_sees_a_transaction_that_ends_after_it_came(
    transport: Transport,
) -> None:
    topic = transport.topics.alerts
    with working(transport) as worker:
        wait_joined(worker)
        worker.commit(outbox(b"old"), {})
        with reading(transport, topic, from_beginning=False) as now:
            assert now.at_end()
            worker.commit(outbox(b"new"), {})
            assert [r.value for r in read(now, 1)] == [b"alert new"]


def test_lag_counts_the_records_not_yet_polled(transport: Transport) -> None:
    for partition in transport.partitions:
        publish_numbers(transport, range(10), partition=partition)
    everything = 10 * len(transport.partitions)
    with working(transport) as worker:
        read_so_far = 0
        while read_so_far < everything:
            blocks = worker.poll(max_records=4, timeout_s=0.2)
            read_so_far += sum(map(len, blocks))
            lag = worker.lag()
            for block in blocks:
                assert lag[block.partition] == 10 - (block.offsets[-1] + 1)
        assert worker.lag() == dict.fromkeys(transport.partitions, 0)


def test_state_is_what_was_committed_last_deletes_included(transport: Transport) -> None:
    def put(key: bytes, value: bytes | None) -> Message:
        return Message(key, value, partition=0)

    with working(transport) as worker:
        wait_joined(worker)
        assert worker.load_state(transport.partitions) == {p: {} for p in transport.partitions}
        worker.commit(
            Outbox(state=[put(b"kept", b"1"), put(b"changed", b"1"), put(b"gone", b"1")]), {}
        )
        worker.commit(Outbox(state=[put(b"changed", b"2"), put(b"gone", None)]), {})
        worker.commit(Outbox(state=[put(b"\x00\xff", bytes(range(256))), put(b"void", b"")]), {})
        expected = {
            b"kept": b"1", b"changed": b"2", b"\x00\xff": bytes(range(256)), b"void": b"",
        }  # fmt: skip
        assert worker.load_state([0]) == {0: expected}
    with working(transport) as worker:
        wait_joined(worker)
        assert worker.load_state([0]) == {0: expected}
        worker.commit(Outbox(state=[put(b"gone", b"back")]), {})
        assert worker.load_state([0]) == {0: expected | {b"gone": b"back"}}


def test_state_is_kept_apart_by_partition(transport: Transport) -> None:
    with working(transport) as worker:
        wait_joined(worker)
        messages = [Message(b"series", b"%d" % p, partition=p) for p in (0, 1)]
        worker.commit(Outbox(state=messages), {})
        assert worker.load_state([1]) == {1: {b"series": b"1"}}
        assert worker.load_state([0, 1]) == {0: {b"series": b"0"}, 1: {b"series": b"1"}}
        worker.commit(Outbox(state=[Message(b"series", None, partition=1)]), {})
        assert worker.load_state([0, 1]) == {0: {b"series": b"0"}, 1: {}}


def test_everything_can_be_closed_twice_and_a_worker_before_it_was_opened(
    transport: Transport,
) -> None:
    worker = transport.broker().worker(transport.topics)
    worker.close()
    worker.open()
    publisher = transport.broker().publisher()
    reader = transport.broker().reader(transport.topics.alerts, from_beginning=True)
    for opened in (worker, publisher, reader):
        opened.close()
        opened.close()
    worker.open()
    try:
        wait_joined(worker)
    finally:
        worker.close()


def test_prepare_creates_what_is_missing_and_leaves_what_is_there(transport: Transport) -> None:
    publish_numbers(transport, range(3))
    prepare(transport)
    with working(transport) as worker:
        assert values(take(worker, 3)) == [0, 1, 2]
    more = replace(transport.topics, alerts=f"{transport.topics.alerts}-more")
    transport.broker().prepare(more, partitioned=())
    publish(transport, more.alerts, [Message(None, b"x")])
    with reading(transport, more.alerts) as reader:
        assert [r.value for r in read(reader, 1)] == [b"x"]


# -- what only Kafka has


@pytest.mark.kafka
def test_prepare_refuses_missing_topics_by_name_when_it_may_not_create_them(
    kafka: KafkaNode,
) -> None:
    transport = kafka_transport(kafka)
    broker = KafkaBroker(replace(transport.settings, create_topics=False))
    with pytest.raises(BrokerError) as refused:
        broker.prepare(transport.topics, partitioned=())
    for name in (transport.topics.ticks, transport.topics.alerts, transport.topics.dead_letters):
        assert name in str(refused.value)
    assert "topics.create" in str(refused.value)
    prepare(transport)
    broker.prepare(transport.topics, partitioned=())


@pytest.mark.kafka
def test_prepare_gives_partitions_to_the_partitioned_and_compacts_the_state(
    kafka: KafkaNode,
) -> None:
    transport = kafka_transport(kafka)
    topics = transport.topics
    assert topics.state is not None
    transport.broker().prepare(topics, partitioned=(topics.ticks, topics.state))
    admin: Any = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        names = [topics.ticks, topics.alerts, topics.dead_letters, topics.state]
        found = {t["name"]: len(t["partitions"]) for t in admin.describe_topics(names)}
    finally:
        admin.close()
    assert [found[name] for name in names] == [2, 1, 1, 2]


@pytest.mark.kafka
def test_a_worker_that_lost_its_transactional_id_to_another_cannot_commit(
    kafka: KafkaNode,
) -> None:
    transport = kafka_transport(kafka)
    prepare(transport)
    publish_numbers(transport, range(4))
    with working(transport) as old:
        take(old, 4)
        with working(transport), pytest.raises(TransactionError):
            old.commit(outbox(b"zombie"), {0: 4})
    with working(transport) as worker, reading(transport, transport.topics.alerts) as alerts:
        assert values(take(worker, 4)) == [0, 1, 2, 3]
        worker.commit(outbox(b"new"), {0: 4})
        assert [r.value for r in read(alerts, 1)] == [b"alert new"]


@pytest.mark.kafka
def test_two_workers_of_one_group_share_the_partitions(kafka: KafkaNode) -> None:
    transport = kafka_transport(kafka)
    prepare(transport)
    other = Kafka(
        replace(transport.settings, transactional_id=f"{transport.settings.transactional_id}-2"),
        transport.topics,
    )
    seen: dict[str, list[tuple[int, int]]] = {"first": [], "second": []}
    assigned: dict[str, frozenset[int]] = {}
    done = threading.Event()

    def work(name: str, member: Kafka) -> None:
        with working(member) as worker:
            while not done.is_set():
                for block in worker.poll(max_records=1000, timeout_s=1.0):
                    seen[name] += [(block.partition, offset) for offset in block.offsets]
                    worker.commit(Outbox(), {block.partition: block.offsets[-1] + 1})
                assigned[name] = worker.assignment()

    threads = [
        threading.Thread(target=work, args=pair)
        for pair in (("first", transport), ("second", other))
    ]
    try:
        for thread in threads:
            thread.start()
        both = ({0}, {1})
        wait_for(
            lambda: sorted(map(set, assigned.values()), key=sorted) == list(both),
            "each worker has one of the two partitions",
        )
        for partition in transport.partitions:
            publish_numbers(transport, range(5), partition=partition)
        wait_for(lambda: sum(map(len, seen.values())) >= 10, "all ten records arrive")
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert sorted(seen["first"] + seen["second"]) == [(p, n) for p in (0, 1) for n in range(5)]
    for records in seen.values():
        assert len({partition for partition, _ in records}) == 1
