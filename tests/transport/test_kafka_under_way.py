"""A commit to a real Kafka that is under way while its worker polls, joins, sleeps and leaves."""

from __future__ import annotations

import threading
import time

import pytest

from detector.errors import TransactionError
from detector.transport.broker import Outbox
from tests.contracts.transports import (
    Interrupted,
    Kafka,
    begin,
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
)
from tests.processes import DEADLINE_S, wait_for
from tests.transport.members import polling

pytestmark = pytest.mark.kafka


class Held:
    """Holds up a commit in its middle until it is let go."""

    def __init__(self) -> None:
        self.reached, self._go = threading.Event(), threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self._go.wait(DEADLINE_S), "nobody let it go"

    def let_go(self) -> None:
        self._go.set()


def held_up(name: bytes, held: Held, *, partition: int = 0) -> Outbox:
    """An outbox whose commit is held up when all but the watermark is written."""
    work = outbox(name, partition=partition)
    work.watermarks = Interrupted(work.watermarks, held)
    return work


@pytest.mark.parametrize("exactly_once", [True, False])
def test_a_worker_polls_while_its_commit_is_under_way(transport: Kafka, exactly_once: bool) -> None:
    publish_numbers(transport, range(2))
    held = Held()
    with started(transport.but(exactly_once=exactly_once)) as worker:
        take(worker, 2)
        worker.begin_commit(held_up(b"1", held), {0: 2}, {0: 2})
        assert held.reached.wait(DEADLINE_S)
        publish_numbers(transport, range(2, 5))
        assert values(take(worker, 3)) == [2, 3, 4]
        assert worker.end_commit(timeout_s=0.0) is None
        assert worker.end_commit(timeout_s=0.01) is None
        held.let_go()
        assert worker.end_commit(timeout_s=None) is not None
        wait_state(worker, {0: saved(b"1")})


def test_a_member_does_not_ask_to_join_while_its_commit_is_under_way(transport: Kafka) -> None:
    """When all have asked the group is a generation on, and would refuse the offsets. What it
    gives up is released after that, and the release may commit."""
    both = frozenset(transport.partitions)
    for partition in both:
        publish_numbers(transport, range(3), partition=partition)
    held = Held()
    ended: list[float | None] = []

    def release(partitions: frozenset[int]) -> None:
        if not first.ended:
            ended.append(worker.end_commit(timeout_s=None))
            (p,) = partitions
            worker.begin_commit(outbox(b"2", partition=p), {p: 3}, {p: 3})
            ended.append(worker.end_commit(timeout_s=None))

    with polling(transport, release) as first:
        worker = first._worker
        first.wait(lambda: first.held == both, "it has both partitions")
        first.do(lambda w: begin(w, both))
        first.wait(lambda: all(first.values(p) == [0, 1, 2] for p in both), "it reads both")
        work = held_up(b"1", held)
        first.do(lambda w: w.begin_commit(work, dict.fromkeys(both, 2), dict.fromkeys(both, 2)))
        assert held.reached.wait(DEADLINE_S)
        with polling(transport.member(2)) as second:
            wait_for(lambda: not worker.may_commit(), "it is about to ask")
            time.sleep(1.0)  # the group would go on without this commit, if it could
            held.let_go()
            second.wait(lambda: second.held, "the second gains a partition")
            (p,) = second.held
            assert [one is not None for one in ended] == [True, True]
            assert first.failures == []
            assert second.do(lambda w: standing(w, [p]))[p].committed == 3
            second.do(lambda w: wait_state(w, {p: saved(b"2")}))
            (kept,) = both - {p}
            assert first.do(lambda w: standing(w, [kept]))[kept].committed == 2
    alerts = read_values(transport, transport.topics.alerts, 2)
    assert alerts == [b"alert 1", b"alert 2"]


def test_a_poll_after_a_sleep_does_not_excuse_a_commit_from_before_it(transport: Kafka) -> None:
    """Without transactions: the partitions may have been another's since."""
    loose = transport.but(exactly_once=False, session_timeout_ms=1500)
    publish_numbers(loose, range(3))
    held = Held()
    work = outbox(b"late")
    work.state = Interrupted(work.state, held)
    with started(loose) as worker:
        take(worker, 3)
        worker.begin_commit(work, {0: 3}, {0: 3})
        assert held.reached.wait(DEADLINE_S)
        time.sleep(loose.settings.session_timeout_ms / 1000 + 0.1)
        assert worker.poll(max_records=1, max_bytes=10**7, timeout_s=0.0) == []
        held.let_go()
        with pytest.raises(TransactionError) as lost:
            worker.end_commit(timeout_s=None)
        assert not lost.value.begun
        # It was in the middle of the state; what counts on it is not written.
        assert b"watermark" not in state_of(worker, [0])[0]


def test_a_worker_that_leaves_is_not_asked_for_its_partitions(transport: Kafka) -> None:
    """It has nothing any more with which to commit."""
    released: list[frozenset[int]] = []
    with started(transport, released.append) as worker:
        worker.begin_commit(outbox(b"1"), {0: 0}, {0: 0})
    assert released == []
    with started(transport) as worker:
        assert standing(worker, [0])[0].committed == 0, "what was under way had time to end"


def test_a_worker_leaves_although_its_commit_hangs(transport: Kafka) -> None:
    held = Held()
    with started(transport) as worker:
        worker.begin_commit(held_up(b"1", held), {0: 0}, {0: 0})
        assert held.reached.wait(DEADLINE_S)
    held.let_go()
    with started(transport) as worker:
        assert standing(worker, [0])[0].committed is None
        assert state_of(worker, [0]) == {0: {}}
