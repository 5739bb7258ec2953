"""What both brokers promise a follower: its place and its table move together, and survive it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from detector.core.records import Message, Record
from detector.errors import FencedError
from detector.transport.broker import Follower
from tests.contracts.transports import Transport, publish
from tests.processes import Deadline


@contextmanager
def following(
    transport: Transport, name: str = "one", *, from_beginning: bool = True
) -> Iterator[Follower]:
    topics = transport.topics
    follower = transport.broker().follower(
        f"{topics.alerts}-{name}", topics.alerts, kept_in=f"{topics.alerts}-kept",
        from_beginning=from_beginning, create=True,
    )  # fmt: skip
    try:
        yield follower
    finally:
        follower.close()


def take(follower: Follower, records: int) -> list[Record]:
    found: list[Record] = []
    deadline = Deadline()
    while len(found) < records:
        deadline.check(f"{len(found)} of {records} records came")
        found += follower.poll(timeout_s=0.2)
    assert len(found) == records
    return found


def alerts(transport: Transport, *numbers: int) -> None:
    messages = [Message(b"series", b"%d" % n, partition=0) for n in numbers]
    publish(transport, transport.topics.alerts, messages)


def test_a_follower_goes_on_where_the_last_one_of_its_name_has_committed(
    transport: Transport,
) -> None:
    alerts(transport, 1, 2, 3)
    with following(transport) as follower:
        assert follower.fresh
        assert follower.table() == {}
        found = take(follower, 3)
        assert [r.value for r in found] == [b"1", b"2", b"3"]
        after = found[0].offset + 1
        follower.commit([Message(b"a", b"1"), Message(b"b", b"2")], {0: after})
        follower.commit([Message(b"a", None), Message(b"c", b"3")], {})
    with following(transport) as follower:
        assert not follower.fresh
        assert follower.lost == 0
        assert dict(follower.table()) == {b"b": b"2", b"c": b"3"}
        assert follower.positions()[0] == after
        assert [r.value for r in take(follower, 2)] == [b"2", b"3"]
        assert follower.ends()[0] >= follower.positions()[0] - 1
    with following(transport, "other") as follower:
        assert follower.fresh
        assert follower.table() == {}
        take(follower, 3)


def test_one_that_begins_now_sees_what_comes(transport: Transport) -> None:
    alerts(transport, 1)
    with following(transport, from_beginning=False) as follower:
        follower.commit([], follower.positions())
    alerts(transport, 2)
    with following(transport, from_beginning=False) as follower:
        assert [r.value for r in take(follower, 1)] == [b"2"]


def test_a_name_has_one_follower(transport: Transport) -> None:
    with following(transport) as first:
        try:
            with following(transport) as second:  # takes over
                second.commit([Message(b"a", b"2")], {})
                with pytest.raises(FencedError):
                    first.commit([Message(b"a", b"1")], {})
        except FencedError:  # or is refused
            first.commit([Message(b"a", b"2")], {})
    with following(transport) as third:
        assert dict(third.table()) == {b"a": b"2"}


def test_a_topic_without_partitions_of_its_own_is_read_through_all_of_them(
    transport: Transport,
) -> None:
    keyed = [Message(b"series %d" % n, b"%d" % n) for n in range(20)]
    publish(transport, transport.topics.alerts, keyed)
    with following(transport) as follower:
        found = take(follower, 20)
        assert {r.value for r in found} == {m.value for m in keyed}
        ends = {r.partition: r.offset + 1 for r in found}
        follower.commit([], ends)
        assert {p: follower.positions()[p] for p in ends} == ends
