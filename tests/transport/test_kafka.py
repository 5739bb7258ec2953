"""What only Kafka has: groups that share partitions, fencing, sessions, topics that grow."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from functools import partial
from multiprocessing.connection import Connection
from typing import Any

import pytest
from kafka import KafkaProducer

from detector.core.records import Message
from detector.errors import DetectorError, FencedError, TransactionError
from detector.transport.broker import Outbox, Worker
from tests.contracts.transports import (
    Interrupted,
    Kafka,
    begin,
    commit,
    offsets,
    outbox,
    publish_numbers,
    read_values,
    saved,
    standing,
    started,
    state_of,
    take,
    values,
    wait_state,
    working,
)
from tests.processes import DEADLINE_S, Deadline, wait_for
from tests.transport.members import Member, administering, polling, reads

pytestmark = pytest.mark.kafka


# -- partitions move


def test_a_partition_that_goes_is_released_first_and_what_is_committed_then_counts(
    transport: Kafka,
) -> None:
    both = frozenset(transport.partitions)
    for p in both:
        publish_numbers(transport, range(4), partition=p)
    released: list[frozenset[int]] = []

    def release(partitions: frozenset[int]) -> None:
        """On the client's thread, while the first worker polls."""
        if not first.ended:
            released.append(partitions)
            (p,) = partitions
            commit(worker, outbox(b"last", partition=p), {p: 3}, {p: 3})

    with working(transport, release) as worker:
        first = Member(worker)
        first.wait(lambda: first.held == both, "the first has both partitions")
        first.do(lambda w: begin(w, both))
        first.wait(lambda: all(first.values(p) == [0, 1, 2, 3] for p in both), "it reads both")
        with polling(transport.member(2)) as second:
            second.wait(lambda: second.held, "the second gains a partition")
            (gone,) = released
            (p,), (kept,) = gone, both - gone
            assert (first.lost[1:], first.gained[1:]) == ([gone], [frozenset()])
            assert (second.lost, second.gained) == ([frozenset()], [gone])
            assert read_values(transport, transport.topics.alerts, 1) == [b"alert last"]
            assert second.do(lambda w: standing(w, gone))[p].committed == 3
            second.do(lambda w: wait_state(w, {p: saved(b"last")}))
            assert second.blocks == [], "nothing is read before start"
            second.do(lambda w: begin(w, gone))
            second.wait(lambda: second.values(p) == [3], "it goes on where the first stopped")
            # Each goes on with its own, and only with that.
            for each in both:
                publish_numbers(transport, range(4, 6), partition=each)
            first.wait(lambda: first.values(kept) == [0, 1, 2, 3, 4, 5], "the first goes on")
            second.wait(lambda: second.values(p) == [3, 4, 5], "the second goes on")
            assert first.values(p) == [0, 1, 2, 3]
            assert second.values(kept) == []
            first.do(lambda w: commit(w, outbox(b"1", partition=kept), {kept: 6}, {kept: 6}))
            second.do(lambda w: commit(w, outbox(b"2", partition=p), {p: 6}, {p: 6}))
        first.wait(lambda: first.held == both, "the first has back what the second leaves")
        assert (first.lost[2:], first.gained[2:]) == ([frozenset()], [gone])
        assert {q: s.committed for q, s in first.do(lambda w: standing(w, both)).items()} == {
            0: 6, 1: 6,
        }  # fmt: skip
        first.do(lambda w: wait_state(w, {kept: saved(b"1"), p: saved(b"2")}))
        assert first.failures == []
        first.end()


def test_a_release_that_fails_is_a_failed_transaction_for_who_polls(transport: Kafka) -> None:
    def release(_: frozenset[int]) -> None:
        raise TransactionError("no commit is possible")

    both = frozenset(transport.partitions)
    with polling(transport, release) as first:
        first.wait(lambda: first.held == both, "the first has both partitions")
        with polling(transport.member(2)) as second:
            second.wait(lambda: second.held, "the second gains a partition all the same")
            # The first hears of it when its poll returns, and that waits for the group.
            wait_for(
                lambda: first.held.isdisjoint(second.held) and first.held | second.held == both,
                "each has one",
            )
            assert [str(e) for e in first.failures] == ["no commit is possible"]
            for member in (first, second):
                member.do(partial(begin, partitions=member.held))
            for partition in both:
                publish_numbers(transport, range(2), partition=partition)
            for member in (first, second):
                (p,) = member.held
                wait_for(partial(reads, member, p, [0, 1]), "it reads")


def test_a_static_member_that_restarts_within_the_session_disturbs_nobody(
    transport: Kafka,
) -> None:
    both = frozenset(transport.partitions)
    one, two = (
        transport.member(n).but(group_instance_id=f"member-{n}", session_timeout_ms=20_000)
        for n in (1, 2)
    )
    released: list[frozenset[int]] = []
    with polling(one, lambda p: None if first.ended else released.append(p)) as first:
        first.wait(lambda: first.held == both, "the first has both partitions")
        with polling(two) as second:
            second.wait(lambda: second.held, "the second gains a partition")
            theirs = second.held
        assert released == [theirs]
        (mine,) = both - theirs
        before = (list(first.lost), list(first.gained))
        first.do(lambda w: begin(w, [mine]))
        publish_numbers(transport, range(3), partition=mine)
        first.wait(lambda: first.values(mine) == [0, 1, 2], "the first goes on meanwhile")
        first.do(lambda w: commit(w, outbox(b"1", partition=mine), {mine: 3}, {mine: 3}))
        with polling(two) as second:
            second.wait(lambda: second.held, "the second has its partition back")
            assert second.held == theirs
            assert first.do(lambda w: w.may_commit())
            first.do(lambda w: commit(w, outbox(b"2", partition=mine), {mine: 3}, {mine: 3}))
            assert (first.lost, first.gained) == before
        assert released == [theirs]
        assert first.failures == []


# -- fencing and sessions


@pytest.mark.parametrize("alerts", [0, 1, 500])
def test_the_older_of_two_workers_with_one_transactional_id_is_fenced(
    transport: Kafka, alerts: int
) -> None:
    """The client tells of it in one way or another, depending on what it is doing."""
    publish_numbers(transport, range(4))
    work = Outbox([Message(b"series", b"zombie %d" % n) for n in range(alerts)])
    with started(transport) as old:
        take(old, 4)
        with working(transport), pytest.raises(FencedError) as fenced:
            commit(old, work, {0: 4}, {0: 4})
    assert "kafka.transactional_id" in str(fenced.value)
    assert transport.settings.transactional_id in str(fenced.value)
    assert fenced.value.exit_code == 76
    with started(transport) as worker:
        assert values(take(worker, 4)) == [0, 1, 2, 3]
        commit(worker, outbox(b"new"), {0: 4}, {0: 4})
    assert read_values(transport, transport.topics.alerts, 1) == [b"alert new"]


def test_the_older_of_two_workers_with_one_group_instance_id_is_fenced(transport: Kafka) -> None:
    one = transport.but(group_instance_id="the-one")
    both = frozenset(transport.partitions)
    with polling(one.member(1)) as old:
        old.wait(lambda: old.held == both, "the older has joined")
        with polling(one.member(2)) as new:
            new.wait(lambda: new.held == both, "the newer has taken over")
            with pytest.raises(FencedError, match=r"kafka\.group_instance_id 'the-one'"):
                old.do(lambda w: commit(w, outbox(b"zombie"), {0: 0}, {0: 0}))
            new.do(lambda w: commit(w, outbox(b"new"), {0: 0}, {0: 0}))
    assert read_values(transport, transport.topics.alerts, 1) == [b"alert new"]


def work_past_the_session(transport: Kafka, pipe: Connection) -> None:
    """Runs in a process of its own, stopped between its poll and its commit."""
    with started(transport) as worker:
        take(worker, 4)
        pipe.send("polled")
        assert pipe.recv() == "go on"
        try:
            commit(worker, outbox(b"zombie"), {0: 4}, {0: 4})
            pipe.send("committed")
        except DetectorError as error:
            pipe.send(type(error).__name__)
        worker.reopen()
        worker.changes()
        deadline = Deadline()
        held: frozenset[int] = frozenset()
        while not (held == frozenset(transport.partitions) and worker.may_commit()):
            deadline.check(f"gained only {held}")
            assert worker.poll(max_records=10, max_bytes=10**7, timeout_s=0.1) == []
            lost, gained = worker.changes()
            held = (held - lost) | gained
        begin(worker, transport.partitions)
        pipe.send(values(take(worker, 4)))
        commit(worker, outbox(b"again"), {0: 4}, {0: 4})
        pipe.send("committed again")


def test_a_worker_whose_session_expired_cannot_commit_and_comes_back(transport: Kafka) -> None:
    publish_numbers(transport, range(4))
    group = transport.settings.group
    context = multiprocessing.get_context("spawn")
    pipe, other_end = context.Pipe()
    member = transport.but(session_timeout_ms=1500)
    process = context.Process(target=work_past_the_session, args=(member, other_end))

    def heard() -> Any:
        assert pipe.poll(DEADLINE_S), "the worker says nothing"
        return pipe.recv()

    process.start()
    other_end.close()
    try:
        assert heard() == "polled"
        os.kill(process.pid or 0, signal.SIGSTOP)
        with administering(transport) as admin:
            wait_for(lambda: members_of(admin, group) == [], "the group has given the worker up")
        pipe.send("go on")
        os.kill(process.pid or 0, signal.SIGCONT)
        assert heard() == "TransactionError"
        assert heard() == [0, 1, 2, 3]
        assert heard() == "committed again"
        process.join(DEADLINE_S)
        assert process.exitcode == 0
    finally:
        process.kill()
        process.join()
    assert read_values(transport, transport.topics.alerts, 1) == [b"alert again"]


def members_of(admin: Any, group: str) -> list[Any]:
    found = admin.describe_groups([group])
    described = found[group] if isinstance(found, dict) else found[0]
    members = described["members"] if isinstance(described, dict) else described.members
    return list(members)


# -- without transactions


def test_at_least_once_everything_is_safe_before_the_watermark_that_counts_on_it(
    transport: Kafka,
) -> None:
    publish_numbers(transport, range(3))
    topics, at_least_once = transport.topics, transport.but(exactly_once=False)
    seen: list[list[bytes | None]] = []
    with started(at_least_once) as worker:
        take(worker, 3)

        def look() -> None:
            seen.append(read_values(transport, topics.alerts, 1))
            seen.append(read_values(transport, topics.dead_letters, 1))

        work = outbox(b"1")
        work.state = Interrupted(work.state, look)
        work.watermarks = Interrupted(
            work.watermarks, lambda: wait_state(worker, {0: {b"series": b"1"}})
        )
        commit(worker, work, {0: 3}, {0: 3})
        assert seen == [[b"alert 1"], [b"dead 1"]]
        wait_state(worker, {0: saved(b"1")})
        # The offsets follow, for the tools that watch the group.
        wait_for(lambda: standing(worker, [0])[0].committed == 3, "the offset is committed")


def test_at_least_once_a_commit_whose_state_is_refused_writes_no_watermark(
    transport: Kafka,
) -> None:
    with started(transport.but(exactly_once=False)) as worker:
        bad = outbox(b"bad")
        bad.state.append(transport.unwritable())
        with pytest.raises(TransactionError):
            commit(worker, bad, {0: 0}, {0: 0})
        worker.reopen()
        assert worker.changes() == (frozenset(transport.partitions),) * 2
        begin(worker, transport.partitions)
        assert worker.poll(max_records=1, max_bytes=10**7, timeout_s=0.1) == []
        commit(worker, Outbox(state=[Message(b"after", b"1", partition=0)]), {}, {})
        # The refused record takes the others of its batch along, or not.
        wait_for(lambda: b"after" in state_of(worker, [0])[0], "the later state is there")
        assert b"watermark" not in state_of(worker, [0])[0]


# -- ticks that somebody writes in transactions


def publish_in_transactions(transport: Kafka, runs: Sequence[tuple[range, bool]]) -> None:
    """Each run is one transaction, committed or aborted, in partition 0."""
    producer: Any = KafkaProducer(
        bootstrap_servers=transport.settings.bootstrap_servers,
        transactional_id=f"{transport.settings.group}-publisher",
    )
    try:
        producer.init_transactions()
        for numbers, good in runs:
            producer.begin_transaction()
            for n in numbers:
                producer.send(transport.topics.ticks, key=b"series", value=b"%d" % n, partition=0)
            producer.flush()
            (producer.commit_transaction if good else producer.abort_transaction)()
    finally:
        producer.close()


def test_ticks_written_in_transactions_are_read_right_and_the_position_passes_the_markers(
    transport: Kafka,
) -> None:
    # Offsets: 0-2 and a marker, 4-5 aborted and a marker, 7-8 and a marker, 10 aborted, a marker.
    runs = [(range(3), True), (range(90, 92), False), (range(3, 5), True), (range(92, 93), False)]
    publish_in_transactions(transport, runs)
    with started(transport) as worker:
        wait_for(lambda: standing(worker, [0])[0].end == 12, "the last marker is written")
        blocks = take(worker, 5)
        assert values(blocks) == [0, 1, 2, 3, 4]
        assert offsets(blocks) == [0, 1, 2, 7, 8]
        passed(worker, 12)
        assert worker.lag()[0] == 0
        commit(worker, outbox(b"1"), {0: 9}, {0: 1})
        # As after a restart: a replay up to the committed offset ends, with nothing to read too.
        for position, expected in ((1, [1, 2, 3, 4]), (8, [4]), (9, []), (4, [3, 4])):
            worker.reopen()
            worker.changes()
            begin(worker, transport.partitions)
            worker.start({0: position})
            assert values(take(worker, len(expected))) == expected
            passed(worker, 9)


def passed(worker: Worker, position: int) -> None:
    """Poll until the position is there; no more records may come."""
    deadline = Deadline()
    while worker.position(0) < position:
        deadline.check(f"the position stays at {worker.position(0)}")
        assert worker.poll(max_records=10, max_bytes=10**7, timeout_s=0.1) == []


def test_ticks_in_a_producers_open_transaction_wait_and_cannot_be_read(transport: Kafka) -> None:
    """They are no sign that the worker is stuck."""
    servers = transport.settings.bootstrap_servers
    producer: Any = KafkaProducer(
        bootstrap_servers=servers, transactional_id=f"{transport.settings.group}-ticks"
    )
    with started(transport) as worker:
        producer.init_transactions()
        producer.begin_transaction()
        for n in range(3):
            producer.send(transport.topics.ticks, b"%d" % n, partition=0)
        producer.flush()
        assert worker.poll(max_records=10, max_bytes=10**7, timeout_s=1.0) == []
        wait_for(
            lambda: (
                bool(worker.poll(max_records=1, max_bytes=10**7, timeout_s=0.1)) or waits(worker)
            ),
            "lag",
        )
        assert worker.readable() == 0
        producer.commit_transaction()
        producer.close()
        wait_for(lambda: worker.readable() >= 3, "they can be read")
        assert values(take(worker, 3)) == [0, 1, 2]


def waits(worker: Worker) -> bool:
    return sum(worker.lag().values()) > 0


def test_without_transactions_a_worker_that_slept_past_its_session_writes_no_state(
    transport: Kafka,
) -> None:
    """Nothing fences it: it must not overwrite what the next owner saved."""
    loose = transport.but(exactly_once=False)
    publish_numbers(loose, range(3))
    with started(loose) as worker:
        take(worker, 3)
        time.sleep(loose.settings.session_timeout_ms / 1000 + 0.1)
        with pytest.raises(TransactionError) as lost:
            commit(worker, outbox(b"late"), {0: 3}, {0: 3})
        assert not lost.value.begun
