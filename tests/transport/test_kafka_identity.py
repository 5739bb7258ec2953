"""A worker finds out at its start whether another one has its transactional id."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kafka import KafkaConsumer
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor

from detector.errors import FencedError
from detector.transport.kafka.identity import (
    Member,
    Process,
    client_id,
    read_member,
    require_alone,
)
from tests.contracts.transports import Kafka, working
from tests.processes import wait_for

HERE = Process.ours()


#: The first process of another machine, in the namespace that every machine has.
ELSEWHERE = "0123456789abcdef" * 2 + "-" + HERE.pids.split("-")[1]


def ended() -> int:
    """The number of a process that is no more."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait(120)
    return process.pid


@given(
    st.text(min_size=1, max_size=20),
    st.text(st.characters(exclude_characters="/", codec="utf-8"), max_size=10),
    st.integers(0, 2**22),
    st.from_regex(r"([0-9a-f]{32}-[0-9]{1,10})?", fullmatch=True),
)
def test_a_client_id_says_who_it_is(name: str, host: str, pid: int, pids: str) -> None:
    process = Process(host, pid, pids)
    described = {
        "client_id": client_id(name, process),
        "client_host": "/10.0.0.7",
        "group_instance_id": None,
    }
    assert read_member(described) == Member(name, process, "10.0.0.7", None)


@pytest.mark.parametrize("text", ["kafka-python-3.0.12", "a/b/c/d", "a/b/1", "", "a/b/1/-2"])
def test_a_client_id_of_another_program_is_one_all_the_same(text: str) -> None:
    found = read_member({"client_id": text, "client_host": "/::1", "group_instance_id": "i"})
    assert found == Member(text, None, "::1", "i")
    assert found.where == "::1"


def test_a_process_is_known_to_be_gone_only_where_it_can_be_looked_for() -> None:
    dead = ended()
    assert replace(HERE, pid=dead).gone(HERE)
    assert not replace(HERE, pid=os.getppid()).gone(HERE)
    assert not Process("elsewhere", dead, HERE.pids).gone(HERE)
    assert not replace(HERE, pids=ELSEWHERE).gone(HERE), "another machine of that name"
    assert not replace(HERE, pid=dead, pids=HERE.pids + "1").gone(HERE)
    assert replace(HERE, pid=dead, pids="").gone(replace(HERE, pids="")) is False


# -- on a real Kafka


def member(transport: Kafka, process: Process, **options: Any) -> KafkaConsumer:
    """Somebody in the group who says that he is this process."""
    consumer = joining(transport, process, **options)
    # A poll shorter than the joining would throw it away.
    wait_for(lambda: bool(consumer.poll(timeout_ms=1000) or consumer.assignment()), "it has joined")
    return consumer


def joining(transport: Kafka, process: Process, **options: Any) -> Any:
    settings = transport.settings
    consumer = KafkaConsumer(
        transport.topics.ticks,
        bootstrap_servers=settings.bootstrap_servers,
        group_id=settings.group,
        client_id=client_id(settings.transactional_id, process),
        session_timeout_ms=settings.session_timeout_ms,
        heartbeat_interval_ms=500,
        **options,
    )
    # The member that joins first hands out the partitions; of a topic it does not know, none.
    wait_for(lambda: consumer.partitions_for_topic(transport.topics.ticks), "it knows the topic")
    return consumer


@pytest.mark.kafka
def test_a_second_worker_is_refused_with_the_host_of_the_first(transport: Kafka) -> None:
    other = member(transport, Process("machine-7", 4711, ELSEWHERE))
    before = other.assignment()
    try:
        with pytest.raises(FencedError, match=r"worker on host machine-7, process 4711 .*its own"):
            transport.broker().worker(transport.topics).open(lambda _: None)
        other.poll(timeout_ms=100)
        assert other.assignment() == before, "the first goes on undisturbed"
        neighbour = transport.but(transactional_id="another")
        with working(neighbour) as worker:
            assert worker is not None
    finally:
        other.close()


@pytest.mark.kafka
def test_a_dead_worker_of_this_machine_is_not_waited_for_and_one_elsewhere_only_so_long(
    transport: Kafka,
) -> None:
    """A member whose process has ended; then one that leaves while it is waited for."""
    consumer = member(transport, replace(HERE, pid=ended()))
    require_alone(transport.settings, sleep=_never)
    consumer.close()
    consumer = member(transport, Process("machine-7", 1, ELSEWHERE))
    slept: list[float] = []

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            consumer.close()

    require_alone(transport.settings, sleep=sleep)
    assert len(slept) <= 3


@pytest.mark.kafka
def test_two_that_start_at_once_see_each_other_once_they_have_joined(transport: Kafka) -> None:
    """Neither was in the group when the other looked."""
    with working(transport) as worker:
        strategy = {"partition_assignment_strategy": [CooperativeStickyAssignor]}
        twin = joining(transport, Process("machine-7", 4711, ELSEWHERE), **strategy)
        try:

            def refused() -> bool:
                twin.poll(timeout_ms=50)
                gained, _ = worker.changes()
                worker.start(dict.fromkeys(gained, 0))
                try:
                    worker.poll(max_records=10, max_bytes=10**6, timeout_s=0.05)
                except FencedError as error:
                    return "on host machine-7, process 4711" in str(error)
                return False

            wait_for(refused, "it ends")
        finally:
            twin.close()


@pytest.mark.kafka
def test_a_static_member_takes_its_place_over(transport: Kafka) -> None:
    one = transport.but(group_instance_id="the-one")
    consumer = member(one, Process("machine-7", 1, ELSEWHERE), group_instance_id="the-one")
    try:
        require_alone(one.settings, sleep=_never)
    finally:
        consumer.close()


@pytest.mark.kafka
def test_the_wait_ends_with_the_session_of_a_dead_one(transport: Kafka) -> None:
    consumer = member(transport, Process("machine-7", 1, ELSEWHERE))
    try:
        now_s = [1000.0]

        def sleep(seconds: float) -> None:
            now_s[0] += seconds
            consumer.poll(timeout_ms=0)

        with pytest.raises(FencedError, match="does not start"):
            require_alone(transport.settings, monotonic_s=lambda: now_s[0], sleep=sleep)
        waited_s = now_s[0] - 1000
        session_s = transport.settings.session_timeout_ms / 1000
        assert session_s < waited_s <= session_s + 2
    finally:
        consumer.close()


def _never(_: float) -> None:
    raise AssertionError("it must not wait")
