"""What every transport promises of a commit, asked of each: the embedded file and a real Kafka."""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import ExitStack

import pytest

from detector.core.records import Message, Record
from detector.errors import TransactionError
from detector.transport.broker import Outbox
from tests.contracts.transports import (
    Interrupted,
    Transport,
    begin,
    commit,
    offsets,
    outbox,
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
)
from tests.processes import DEADLINE_S, wait_for


def test_a_new_worker_resumes_at_the_committed_offset_of_each_partition(
    transport: Transport,
) -> None:
    for partition in transport.partitions:
        publish_numbers(transport, range(10), partition=partition)
    commits = {p: 3 + p for p in transport.partitions}
    with started(transport) as worker:
        take(worker, 10 * len(transport.partitions))
        commit(worker, Outbox(), commits, commits)
    with started(transport) as worker:
        blocks = take(worker, sum(10 - offset for offset in commits.values()))
    for partition, offset in commits.items():
        assert values(blocks, partition) == list(range(offset, 10))


def test_the_last_of_several_commits_counts(transport: Transport) -> None:
    publish_numbers(transport, range(10))
    with started(transport) as worker:
        take(worker, 10)
        for offset in (2, 5, 9):
            commit(worker, Outbox(), {0: offset}, {0: offset})
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
        commit(worker, Outbox(), {0: 4}, {0: 4})
        worker.reopen()
        assert worker.changes() == (everything, everything)
        assert worker.changes() == (frozenset(), frozenset())
        for _ in range(3):
            assert worker.poll(max_records=10, max_bytes=10**7, timeout_s=0.2) == []
        begin(worker, everything)
        blocks = take(worker, 6 + 10 * (len(everything) - 1))
        assert values(blocks) == offsets(blocks) == [4, 5, 6, 7, 8, 9]
        for other in everything - {0}:
            assert values(blocks, other) == list(range(10))
        commit(worker, outbox(b"after"), {0: 10}, {0: 10})
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
        commit(worker, work, {0: 2}, {0: 2})
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
        commit(worker, outbox(b"good"), {0: 1}, {0: 1})
        bad = outbox(b"bad")
        bad.watermarks.append(transport.unwritable())
        with pytest.raises(TransactionError):
            commit(worker, bad, {0: 4}, {0: 4})
        worker.reopen()
        assert worker.changes() == (frozenset(transport.partitions),) * 2
        begin(worker, transport.partitions)
        assert values(take(worker, 3)) == [1, 2, 3]
        assert state_of(worker, [0]) == {0: saved(b"good")}
        commit(worker, outbox(b"after"), {0: 4}, {0: 4})
        assert [r.value for r in read(alerts, 2)] == [b"alert good", b"alert after"]
        assert [r.value for r in read(letters, 2)] == [b"dead good", b"dead after"]
        wait_state(worker, {0: saved(b"after")})


def test_a_commit_that_fails_is_told_when_it_ends_and_not_when_it_begins(
    transport: Transport,
) -> None:
    publish_numbers(transport, range(4))
    with started(transport) as worker:
        take(worker, 2, max_records=2)
        bad = outbox(b"bad")
        bad.watermarks.append(transport.unwritable())
        worker.begin_commit(bad, {0: 2}, {0: 2})
        beside = take(worker, 2)
        with pytest.raises(TransactionError) as failed:
            worker.end_commit(timeout_s=None)
        assert failed.value.begun
        worker.reopen()
        worker.changes()
        begin(worker, transport.partitions)
        assert values(beside) == [2, 3]
        assert values(take(worker, 4)) == [0, 1, 2, 3], "what was done beside it comes again, too"
        commit(worker, outbox(b"good"), {0: 4})
    assert read_values(transport, transport.topics.alerts, 1) == [b"alert good"]


def test_a_commit_tells_once_that_it_has_ended_and_what_is_polled_meanwhile_is_the_next_ones(
    transport: Transport,
) -> None:
    publish_numbers(transport, range(6))
    with started(transport) as worker:
        assert values(take(worker, 2, max_records=2)) == [0, 1]
        worker.begin_commit(outbox(b"1"), {0: 2}, {0: 2})
        assert values(take(worker, 4)) == [2, 3, 4, 5]
        wait_for(lambda: worker.end_commit(timeout_s=0.0) is not None, "it ends")
        assert standing(worker, [0])[0].committed == 2
        worker.begin_commit(outbox(b"2"), {0: 6}, {0: 6})
        assert worker.end_commit(timeout_s=None) is not None
        assert standing(worker, [0])[0].committed == 6
        wait_state(worker, {0: saved(b"2")})


def test_a_worker_that_is_reopened_ends_first_what_is_under_way(transport: Transport) -> None:
    publish_numbers(transport, range(4))
    with started(transport) as worker:
        take(worker, 4)
        worker.begin_commit(outbox(b"1"), {0: 2}, {0: 2})
        worker.reopen()
        worker.changes()
        assert standing(worker, [0])[0].committed == 2
        begin(worker, transport.partitions)
        assert values(take(worker, 2)) == [2, 3]
        commit(worker, outbox(b"2"), {0: 4})


def die_in_commit(transport: Transport) -> None:
    """Runs in a process of its own: killed when all but the watermark is written."""
    with started(transport) as worker:
        take(worker, 4)
        work = outbox(b"killed")
        work.watermarks = Interrupted(work.watermarks, lambda: os.kill(os.getpid(), signal.SIGKILL))
        commit(worker, work, {0: 4}, {0: 4})


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
        commit(worker, outbox(b"next"), {0: 4}, {0: 4})
    assert read_values(transport, topics.alerts, 1) == [b"alert next"]
    assert read_values(transport, topics.dead_letters, 1) == [b"dead next"]


def test_a_dead_letter_without_key_and_value_keeps_its_headers(transport: Transport) -> None:
    """Producers in other languages may write such a record, so it may have to be buried."""
    headers = (("reason", b"null"), ("offset", b"7"))
    with started(transport) as worker:
        commit(worker, Outbox(dead_letters=[Message(None, None, headers)]), {}, {})
    with reading(transport, transport.topics.dead_letters) as reader:
        assert [r.headers for r in read(reader, 1)] == [headers]
