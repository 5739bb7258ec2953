"""Topics of a real Kafka: created, grown, refused."""

from __future__ import annotations

import time
from functools import partial

import pytest
from kafka.admin import ConfigResource, ConfigResourceType

from detector.core.records import Message
from detector.errors import ConfigError, StateError
from detector.transport.broker import Outbox
from detector.transport.kafka.worker import KafkaWorker
from tests.contracts.transports import (
    Kafka,
    begin,
    commit,
    gain,
    outbox,
    prepare,
    publish_numbers,
    saved,
    started,
    state_of,
    take,
    values,
    wait_state,
    working,
)
from tests.processes import wait_for
from tests.transport.members import administering

pytestmark = pytest.mark.kafka


def partitions_of(transport: Kafka, *names: str) -> list[int]:
    with administering(transport) as admin:
        found = {t["name"]: len(t["partitions"]) for t in admin.describe_topics(list(names))}
    return [found[name] for name in names]


def test_prepare_gives_partitions_to_the_partitioned_and_those_of_the_ticks_to_the_state(
    bare: Kafka,
) -> None:
    topics = bare.topics
    names = (topics.ticks, topics.alerts, topics.dead_letters, topics.state)
    bare.broker().prepare(topics, partitioned=(topics.ticks,), create=True)
    assert partitions_of(bare, *names) == [2, 1, 1, 2]


def test_the_state_topic_is_compacted_and_copies_the_partitions_of_a_ticks_topic_that_is_there(
    bare: Kafka,
) -> None:
    topics = bare.topics
    assert bare.settings.partitions == 2
    with administering(bare) as admin:
        admin.create_topics(
            {topics.ticks: {"num_partitions": 5, "replication_factor": 1}}, wait_for_metadata=True
        )
    prepare(bare)
    assert partitions_of(bare, topics.ticks, topics.state, topics.alerts) == [5, 5, 2]
    with administering(bare) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, topics.state)
        found = admin.describe_configs([resource])
        settings = next(iter(found.values()))[topics.state]
    assert settings["cleanup.policy"]["value"] == "compact"


def test_a_ticks_topic_that_grew_is_refused_until_the_state_has_grown_too(
    transport: Kafka,
) -> None:
    topics, broker = transport.topics, transport.broker()
    with started(transport) as worker:
        commit(worker, outbox(b"1"), {}, {})
        wait_state(worker, {0: saved(b"1")})
    with administering(transport) as admin:
        admin.create_partitions({topics.ticks: 3})
    wait_for(lambda: partitions_of(transport, topics.ticks) == [3], "the ticks topic has grown")
    for create in (True, False):
        with pytest.raises(StateError, match="detector state grow") as refused:
            broker.prepare(topics, partitioned=(), create=create)
        assert all(word in str(refused.value) for word in (topics.ticks, topics.state, "3", "2"))
    assert broker.grow_state(topics) == (2, 3)
    wait_for(lambda: partitions_of(transport, topics.state) == [3], "the state topic has grown")
    broker.prepare(topics, partitioned=(), create=False)
    assert broker.grow_state(topics) == (3, 3)
    with working(transport) as worker:
        gain(worker, range(3))
        assert state_of(worker, range(3)) == {0: saved(b"1"), 1: {}, 2: {}}
        begin(worker, range(3))
        commit(worker, outbox(b"2", partition=2), {}, {})
        wait_state(worker, {2: saved(b"2")})


def test_the_state_of_a_partition_that_has_none_says_that_it_must_grow(transport: Kafka) -> None:
    with working(transport) as worker, pytest.raises(StateError, match="detector state grow"):
        worker.read_state([7])


def test_a_state_topic_with_a_retention_is_refused(bare: Kafka) -> None:
    """It would delete the state of quiet series while their alerts are open."""
    with administering(bare) as admin:
        admin.create_topics(
            {
                bare.topics.state: {
                    "num_partitions": 2,
                    "replication_factor": 1,
                    "configs": {"cleanup.policy": "compact,delete"},
                }
            },
            wait_for_metadata=True,
        )
    for ask in (partial(prepare, bare), partial(bare.broker().missing, bare.topics)):
        with pytest.raises(StateError, match=r"cleanup\.policy=compact,delete.*Set it to compact"):
            ask()


def test_a_record_larger_than_the_broker_takes_is_named(transport: Kafka) -> None:
    publish_numbers(transport, range(2))
    large = Outbox([Message(b"series", bytes(2_000_000))])
    with started(transport) as worker:
        take(worker, 2)
        words = rf"{transport.topics.alerts}: a record of 2000006 bytes .*max\.message\.bytes"
        with pytest.raises(ConfigError, match=words):
            commit(worker, large, {0: 2}, {0: 2})
    with started(transport) as worker:
        assert values(take(worker, 2)) == [0, 1]


def test_a_worker_of_short_polls_gains_the_partitions_of_a_topic_that_grows(
    transport: Kafka,
) -> None:
    """The client begins to join in one poll, has joined before the next, and knows of neither."""
    with started(transport) as worker:
        assert isinstance(worker, KafkaWorker)
        metadata = worker._consumer._cluster
        with administering(transport) as admin:
            admin.create_partitions({transport.topics.ticks: 4})
        wait_for(lambda: partitions_of(transport, transport.topics.ticks) == [4], "it has grown")
        metadata.request_update()
        wait_for(
            lambda: len(metadata.partitions_for_topic(transport.topics.ticks)) == 4,
            "the client knows of it",
        )
        gained: set[int] = set()

        def gains() -> bool:
            worker.poll(max_records=100, max_bytes=10**6, timeout_s=0.0)
            time.sleep(0.2)  # what a round of the loop may take: the join ends meanwhile
            gained.update(worker.changes()[1])
            return gained >= {2, 3}

        wait_for(gains, "it has all four")
        wait_for(worker.may_commit, "it may commit")
