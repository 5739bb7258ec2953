"""What both transports promise of the commands topic: the newest of every key stays, for whoever
looks from the beginning, and those who follow hear of what comes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from detector.core.commands import decode_mute, encode_mute, mute_key
from detector.core.mutes import Mute
from detector.core.records import Message
from detector.errors import BrokerError
from detector.service.commands import CommandThread
from detector.transport.broker import Outbox
from tests.contracts.transports import (
    Embedded,
    Transport,
    commit,
    prepare,
    publish,
    publish_numbers,
    read_values,
    started,
    state_of,
    take,
)
from tests.processes import wait_for


def give(transport: Transport, *mutes: Mute) -> None:
    publish(
        transport,
        transport.topics.commands,
        [Message(mute_key(one.id), encode_mute(one)) for one in mutes],
    )


def take_back(transport: Transport, identity: str) -> None:
    publish(transport, transport.topics.commands, [Message(mute_key(identity), None)])


class Follower:
    """What somebody knows who applies each record."""

    def __init__(self, transport: Transport) -> None:
        broker, topic = transport.broker(), transport.topics.commands
        self.thread = CommandThread(lambda: broker.reader(topic, from_beginning=True))
        self.known: dict[str, Mute] = {}
        self.position = self.records = 0
        self.thread.open()

    def look(self) -> dict[str, Mute]:
        records, position = self.thread.news()
        assert position >= self.position
        self.position = position
        self.records += len(records)
        for record in records:
            identity, mute = decode_mute(record.key, record.value)
            if mute is None:
                self.known.pop(identity, None)
            else:
                self.known[identity] = mute
        return self.known

    def wait(self, *identities: str) -> None:
        wait_for(
            lambda: self.look().keys() == set(identities) and self.thread.caught_up,
            f"{identities} are known",
        )


A, B = Mute(id="a", series="pump-*"), Mute(id="b", series="x", until_ns=5)


def test_whoever_looks_from_the_beginning_finds_what_is_given_and_hears_of_more(
    transport: Transport,
) -> None:
    give(transport, A, B)
    take_back(transport, "a")
    first, second = Follower(transport), Follower(transport)
    try:
        for one in (first, second):
            one.wait("b")
            assert one.known == {"b": B}
        give(transport, A)
        first.wait("a", "b")
        second.wait("a", "b")
        assert first.position == second.position, "two of the same log stand at the same place"
        take_back(transport, "b")
        first.wait("a")
    finally:
        first.thread.close()
        second.thread.close()


def test_an_empty_topic_is_caught_up_with(transport: Transport) -> None:
    follower = Follower(transport)
    try:
        wait_for(lambda: follower.look() == {} and follower.thread.caught_up, "its end")
        assert follower.position == 0
    finally:
        follower.thread.close()


def test_the_topic_is_asked_for_and_created_with_the_others(bare: Transport) -> None:
    topics = bare.topics
    assert topics.commands in bare.broker().missing(topics)
    prepare(bare)
    assert bare.broker().missing(topics) == []
    other = replace(topics, commands=f"{topics.commands}-other")
    with pytest.raises(BrokerError, match=other.commands):
        bare.broker().prepare(other, partitioned=(), create=False)


def test_what_is_saved_can_be_looked_at_while_a_worker_runs(transport: Transport) -> None:
    publish_numbers(transport, range(3))
    with started(transport) as worker:
        take(worker, 3)
        state = [Message(b"mutes", b"1", partition=0)]
        marks = [Message(b"watermark", b"2", partition=0)]
        commit(worker, Outbox(state=state, watermarks=marks), {0: 3})
        expected = {b"mutes": b"1", b"watermark": b"2"}
        wait_for(lambda: transport.broker().saved(transport.topics)[0] == expected, "it is visible")
        assert state_of(worker, [0])[0] == expected


def test_a_file_keeps_the_newest_command_of_each_key_however_old(
    tmp_path: Path,
) -> None:
    """A retention that deletes ticks within a moment deletes no mute that is in force."""
    transport = Embedded(tmp_path / "broker.sqlite")
    prepare(transport)
    give(transport, A, B, A)
    take_back(transport, "b")
    give(transport, Mute(id="c", series="y"))
    broker = transport.broker()
    broker._settings = replace(broker._settings, retention_s=0.0, retention_records=1)
    worker = broker.worker(transport.topics)
    publish_numbers(transport, range(5))
    worker.open(lambda _: None)
    worker.start({0: 0})
    take(worker, 5)
    worker.commit(Outbox(), {0: 5}, {0: 5})
    worker.close()
    left = read_values(transport, transport.topics.commands, 2)
    assert left == [encode_mute(A), encode_mute(Mute(id="c", series="y"))]
    follower = Follower(transport)
    try:
        follower.wait("a", "c")
        assert follower.position == 5
    finally:
        follower.thread.close()
