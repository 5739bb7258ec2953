"""What every transport promises, asked of each: the embedded file and a real Kafka.

Ticks, commits and topics; the saved state is in test_state_contract.py.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from contextlib import ExitStack
from dataclasses import replace

import pytest

from detector.errors import BrokerError, TransactionError
from detector.transport.broker import Message, Outbox, Record, Standing
from tests.contracts.transports import (
    DEADLINE_S,
    Interrupted,
    Transport,
    begin,
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
    saved,
    standing,
    started,
    state_of,
    take,
    values,
    wait_state,
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
            assert worker.poll(max_records=10, timeout_s=0.2) == []
            assert worker.changes() == (frozenset(), frozenset())
        assert worker.lag() == {}
        first, *others = transport.partitions
        worker.start({first: 0})
        blocks = take(worker, 5)
        assert values(blocks, first) == [0, 1, 2, 3, 4]
        assert worker.poll(max_records=10, timeout_s=0.5) == []
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
        worker.commit(outbox(b"1"), {0: 8}, {0: 3})
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
        worker.commit(Outbox(), {0: 0}, {0: 0})  # nothing done is not the same as never committed
        assert standing(worker, [0]) == {0: Standing(0, 0, 5)}
        worker.commit(Outbox(), {0: 4}, {0: 4})
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


def test_a_waiting_worker_gets_what_is_published_later(transport: Transport) -> None:
    with started(transport) as worker:
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
            blocks = worker.poll(max_records=4, timeout_s=0.2)
            read_so_far += sum(map(len, blocks))
            lag = worker.lag()
            for block in blocks:
                assert lag[block.partition] == 10 - (block.offsets[-1] + 1)
        assert worker.lag() == dict.fromkeys(transport.partitions, 0)


# -- commits


def test_a_new_worker_resumes_at_the_committed_offset_of_each_partition(
    transport: Transport,
) -> None:
    for partition in transport.partitions:
        publish_numbers(transport, range(10), partition=partition)
    commits = {p: 3 + p for p in transport.partitions}
    with started(transport) as worker:
        take(worker, 10 * len(transport.partitions))
        worker.commit(Outbox(), commits, commits)
    with started(transport) as worker:
        blocks = take(worker, sum(10 - offset for offset in commits.values()))
    for partition, offset in commits.items():
        assert values(blocks, partition) == list(range(offset, 10))


def test_the_last_of_several_commits_counts(transport: Transport) -> None:
    publish_numbers(transport, range(10))
    with started(transport) as worker:
        take(worker, 10)
        for offset in (2, 5, 9):
            worker.commit(Outbox(), {0: offset}, {0: offset})
    with started(transport) as worker:
        assert values(take(worker, 1)) == [9]


def test_reopen_gives_every_partition_as_lost_and_gained_and_uncommitted_ticks_again(
    transport: Transport,
) -> None:
    for partition in transport.partitions:
        publish_numbers(transport, range(10), partition=partition)
    everything = frozenset(transport.partitions)
    with started(transport) as worker:
        take(worker, 10 * len(everything))
        worker.commit(Outbox(), {0: 4}, {0: 4})
        worker.reopen()
        assert worker.changes() == (everything, everything)
        assert worker.changes() == (frozenset(), frozenset())
        for _ in range(3):
            assert worker.poll(max_records=10, timeout_s=0.2) == []
        begin(worker, everything)
        blocks = take(worker, 6 + 10 * (len(everything) - 1))
        assert values(blocks) == offsets(blocks) == [4, 5, 6, 7, 8, 9]
        for other in everything - {0}:
            assert values(blocks, other) == list(range(10))
        worker.commit(outbox(b"after"), {0: 10}, {0: 10})
        assert standing(worker, [0])[0].committed == 10


def test_uncommitted_work_comes_again_to_the_next_worker(transport: Transport) -> None:
    publish_numbers(transport, range(5))
    for _ in range(2):
        with started(transport) as worker:
            assert values(take(worker, 5)) == [0, 1, 2, 3, 4]


def test_all_of_a_commit_becomes_visible_at_once_and_nothing_before(transport: Transport) -> None:
    publish_numbers(transport, range(2))
    topics = transport.topics
    with ExitStack() as stack:
        alerts = stack.enter_context(reading(transport, topics.alerts))
        letters = stack.enter_context(reading(transport, topics.dead_letters))
        worker = stack.enter_context(started(transport))
        take(worker, 2)
        early: list[Record] = []
        looks = 0

        def look() -> None:
            nonlocal looks
            looks += 1
            early.extend(alerts.poll(timeout_s=0.5))
            early.extend(letters.poll(timeout_s=0.1))

        work = outbox(b"1")
        work.state = Interrupted(work.state, look)
        work.watermarks = Interrupted(work.watermarks, look)
        worker.commit(work, {0: 2}, {0: 2})
        assert (looks, early) == (2, [])
        assert [r.value for r in read(alerts, 1)] == [b"alert 1"]
        assert [r.value for r in read(letters, 1)] == [b"dead 1"]
        wait_state(worker, {0: saved(b"1")})
        assert standing(worker, [0])[0].committed == 2


def test_a_failed_transaction_leaves_nothing(transport: Transport) -> None:
    publish_numbers(transport, range(4))
    topics = transport.topics
    with ExitStack() as stack:
        alerts = stack.enter_context(reading(transport, topics.alerts))
        letters = stack.enter_context(reading(transport, topics.dead_letters))
        worker = stack.enter_context(started(transport))
        take(worker, 4)
        worker.commit(outbox(b"good"), {0: 1}, {0: 1})
        bad = outbox(b"bad")
        bad.watermarks.append(transport.unwritable())
        with pytest.raises(TransactionError):
            worker.commit(bad, {0: 4}, {0: 4})
        worker.reopen()
        assert worker.changes() == (frozenset(transport.partitions),) * 2
        begin(worker, transport.partitions)
        assert values(take(worker, 3)) == [1, 2, 3]
        assert state_of(worker, [0]) == {0: saved(b"good")}
        worker.commit(outbox(b"after"), {0: 4}, {0: 4})
        assert [r.value for r in read(alerts, 2)] == [b"alert good", b"alert after"]
        assert [r.value for r in read(letters, 2)] == [b"dead good", b"dead after"]
        wait_state(worker, {0: saved(b"after")})


def die_in_commit(transport: Transport) -> None:
    """Runs in a process of its own: killed when all but the watermark is written."""
    with started(transport) as worker:
        take(worker, 4)
        work = outbox(b"killed")
        work.watermarks = Interrupted(work.watermarks, lambda: os.kill(os.getpid(), signal.SIGKILL))
        worker.commit(work, {0: 4}, {0: 4})


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
    with started(transport) as worker:
        assert values(take(worker, 4)) == [0, 1, 2, 3]
        assert state_of(worker, [0]) == {0: {}}
        worker.commit(outbox(b"next"), {0: 4}, {0: 4})
    assert read_values(transport, topics.alerts, 1) == [b"alert next"]
    assert read_values(transport, topics.dead_letters, 1) == [b"dead next"]


def test_a_dead_letter_without_key_and_value_keeps_its_headers(transport: Transport) -> None:
    """Producers in other languages may write such a record, so it may have to be buried."""
    headers = (("reason", b"null"), ("offset", b"7"))
    with started(transport) as worker:
        worker.commit(Outbox(dead_letters=[Message(None, None, headers)]), {}, {})
    with reading(transport, transport.topics.dead_letters) as reader:
        assert [r.headers for r in read(reader, 1)] == [headers]


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
            worker.commit(Outbox(alerts), {}, {})
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
        worker.commit(outbox(b"old"), {}, {})
        with reading(transport, topic, from_beginning=False) as now:
            wait_for(now.at_end, "a reader from now is at the end")
            worker.commit(outbox(b"new"), {}, {})
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
