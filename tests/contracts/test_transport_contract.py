"""What every transport promises, asked of each: the embedded file and a real Kafka.

Ticks, commits and topics; the saved state is in test_state_contract.py.
"""

from __future__ import annotations

import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from detector.core.records import Message
from detector.errors import BrokerError
from detector.transport.broker import Outbox, Standing
from tests.contracts.transports import (
    Transport,
    begin,
    commit,
    gain,
    keep,
    offsets,
    outbox,
    prepare,
    publish,
    publish_numbers,
    read,
    read_values,
    reading,
    standing,
    started,
    take,
    values,
    working,
)
from tests.processes import wait_for

# -- a partition comes


def test_a_partition_is_gained_once_and_not_read_before_start(transport: Transport) -> None:
    for partition in transport.partitions:
        publish_numbers(transport, range(5), partition=partition)
    with working(transport) as worker:
        assert gain(worker, transport.partitions) == frozenset()
        for _ in range(5):
            assert worker.poll(max_records=10, max_bytes=10**7, timeout_s=0.2) == []
            assert worker.changes() == (frozenset(), frozenset())
        assert worker.lag() == {}
        first, *others = transport.partitions
        worker.start({first: 0})
        blocks = take(worker, 5)
        assert values(blocks, first) == [0, 1, 2, 3, 4]
        assert worker.poll(max_records=10, max_bytes=10**7, timeout_s=0.5) == []
        for other in others:
            worker.start({other: 0})
            assert values(take(worker, 5), other) == [0, 1, 2, 3, 4]
        assert worker.changes() == (frozenset(), frozenset())


@pytest.mark.parametrize("position", [0, 1, 7, 10])
def test_reading_starts_at_the_position_that_start_names(
    transport: Transport, position: int
) -> None:
    publish_numbers(transport, range(10))
    with working(transport) as worker:
        gain(worker, transport.partitions)
        worker.start({0: position})
        assert worker.position(0) == position
        blocks = take(worker, 10 - position)
        assert offsets(blocks) == values(blocks) == list(range(position, 10))
        assert worker.position(0) == 10
        publish_numbers(transport, range(10, 12))
        assert values(take(worker, 2)) == [10, 11]


def test_a_partition_may_start_before_what_is_committed(transport: Transport) -> None:
    """A replay reads ticks again whose results are committed; the commits stay."""
    publish_numbers(transport, range(10))
    with started(transport) as worker:
        take(worker, 10)
        commit(worker, outbox(b"1"), {0: 8}, {0: 3})
    with working(transport) as worker:
        gain(worker, transport.partitions)
        worker.start({0: 3})
        assert values(take(worker, 7)) == [3, 4, 5, 6, 7, 8, 9]
        assert standing(worker, [0])[0].committed == 8


def test_standing_tells_what_is_committed_and_where_the_log_begins_and_ends(
    transport: Transport,
) -> None:
    with working(transport) as worker:
        gain(worker, transport.partitions)
        assert standing(worker, transport.partitions) == dict.fromkeys(
            transport.partitions, Standing(None, 0, 0)
        )
        publish_numbers(transport, range(5))
        assert standing(worker, [0]) == {0: Standing(None, 0, 5)}
        begin(worker, transport.partitions)
        take(worker, 5)
        commit(worker, Outbox(), {0: 0}, {0: 0})  # nothing done is not the same as never committed
        assert standing(worker, [0]) == {0: Standing(0, 0, 5)}
        commit(worker, Outbox(), {0: 4}, {0: 4})
        assert standing(worker, [0]) == {0: Standing(4, 0, 5)}
        for other in transport.partitions[1:]:
            assert standing(worker, [other]) == {other: Standing(None, 0, 0)}
    with working(transport) as worker:
        gain(worker, transport.partitions)
        assert standing(worker, [0]) == {0: Standing(4, 0, 5)}


def test_an_open_and_joined_worker_is_ready_and_may_commit(transport: Transport) -> None:
    with started(transport) as worker:
        assert worker.ready()
        assert worker.may_commit()


# -- ticks


def test_records_of_a_partition_come_in_the_order_they_were_published(
    transport: Transport,
) -> None:
    for start in (0, 100, 200):
        for partition in transport.partitions:
            publish_numbers(transport, range(start, start + 100), partition=partition)
    with started(transport) as worker:
        blocks = take(worker, 300 * len(transport.partitions), max_records=64)
    for partition in transport.partitions:
        assert values(blocks, partition) == offsets(blocks, partition) == list(range(300))
    assert max(map(len, blocks)) <= 64
    assert {b.topic for b in blocks} == {transport.topics.ticks}


def test_a_poll_is_bounded_in_bytes_too(transport: Transport) -> None:
    """From the second one on that brings any: the first finds out how large records are. One record
    may exceed the bound, else it would never be read."""
    size, most = 40_000, 100_000
    for partition in transport.partitions:
        large = [Message(b"k", bytes(size), partition=partition) for _ in range(80)]
        publish(transport, transport.topics.ticks, large)
    everything = 80 * len(transport.partitions)
    with started(transport) as worker:
        polls: list[int] = []

        def done() -> bool:
            blocks = worker.poll(max_records=1000, max_bytes=most, timeout_s=0.2)
            polls.append(sum(map(len, blocks)))
            return sum(polls) >= everything

        wait_for(done, "all of them")
        found = [records for records in polls if records]
        assert max(found[1:]) <= most // size + 1
        publish_numbers(transport, range(1))
        wait_for(
            lambda: bool(worker.poll(max_records=1000, max_bytes=1, timeout_s=0.2)),
            "a record larger than the bound",
        )
        assert worker.lag() == dict.fromkeys(transport.partitions, 0)


def test_a_waiting_worker_gets_what_is_published_later(transport: Transport) -> None:
    with started(transport) as worker:
        assert worker.poll(max_records=10, max_bytes=10**7, timeout_s=0.05) == []
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
    with started(transport) as worker:
        blocks = take(worker, len(sent))
    got = [pair for b in blocks for pair in zip(b.keys, b.values, strict=True)]
    assert got == sent
    assert all(before_ms <= t <= after_ms for b in blocks for t in b.timestamps_ms)


def test_lag_counts_the_records_not_yet_polled(transport: Transport) -> None:
    for partition in transport.partitions:
        publish_numbers(transport, range(10), partition=partition)
    everything = 10 * len(transport.partitions)
    with started(transport) as worker:
        read_so_far = 0
        while read_so_far < everything:
            blocks = worker.poll(max_records=4, max_bytes=10**7, timeout_s=0.2)
            read_so_far += sum(map(len, blocks))
            lag = worker.lag()
            for block in blocks:
                assert lag[block.partition] == 10 - (block.offsets[-1] + 1)
        assert worker.lag() == dict.fromkeys(transport.partitions, 0)


# -- readers


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


def test_two_readers_see_the_same_alerts_in_the_same_order(transport: Transport) -> None:
    keys = [b"a", b"b", b"c", b"d"]
    with ExitStack() as stack:
        early = stack.enter_context(reading(transport, transport.topics.alerts))
        worker = stack.enter_context(started(transport))
        for n in range(20):
            alerts = [Message(k, b"%d" % n, (("n", b"%d" % n),)) for k in keys]
            commit(worker, Outbox(alerts), {}, {})
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
    with started(transport) as worker:
        commit(worker, outbox(b"old"), {}, {})
        with reading(transport, topic, from_beginning=False) as now:
            wait_for(now.at_end, "a reader from now is at the end")
            commit(worker, outbox(b"new"), {}, {})
            assert [r.value for r in read(now, 1)] == [b"alert new"]


# -- topics, opening and closing


def test_everything_can_be_closed_twice_and_a_worker_before_it_was_opened(
    transport: Transport,
) -> None:
    worker = transport.broker().worker(transport.topics)
    worker.close()
    worker.open(keep)
    publisher = transport.broker().publisher()
    reader = transport.broker().reader(transport.topics.alerts, from_beginning=True)
    for opened in (worker, publisher, reader):
        opened.close()
        opened.close()
    worker.open(keep)
    try:
        gain(worker, transport.partitions)
    finally:
        worker.close()


def test_prepare_creates_what_is_missing_and_leaves_what_is_there(transport: Transport) -> None:
    publish_numbers(transport, range(3))
    prepare(transport)
    with started(transport) as worker:
        assert values(take(worker, 3)) == [0, 1, 2]
    more = replace(transport.topics, alerts=f"{transport.topics.alerts}-more")
    assert transport.broker().missing(more) == [more.alerts]
    transport.broker().prepare(more, partitioned=(), create=True)
    assert transport.broker().missing(more) == []
    publish(transport, more.alerts, [Message(None, b"x")])
    assert read_values(transport, more.alerts, 1) == [b"x"]


def test_prepare_that_may_not_create_names_the_missing_and_creates_nothing(
    bare: Transport,
) -> None:
    topics, broker = bare.topics, bare.broker()
    missing = broker.missing(topics)
    assert {topics.ticks, topics.alerts, topics.dead_letters} <= set(missing)
    for _ in range(2):  # the first refusal created nothing
        with pytest.raises(BrokerError, match=r"topics\.create: true") as refused:
            broker.prepare(topics, partitioned=(topics.ticks,), create=False)
        assert all(name in str(refused.value) for name in missing)
        assert broker.missing(topics) == missing
    prepare(bare)
    assert broker.missing(topics) == []
    broker.prepare(topics, partitioned=(topics.ticks,), create=False)
    absent = replace(topics, dead_letters=f"{topics.dead_letters}-more")
    with pytest.raises(BrokerError) as refused:
        broker.prepare(absent, partitioned=(), create=False)
    assert absent.dead_letters in str(refused.value)
    assert topics.alerts not in str(refused.value)
