"""The saved state: what every transport promises of it to workers and to its keeper."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from detector.core.records import Message
from detector.errors import BrokerError, TransactionError
from detector.transport.broker import Keeper, Outbox, Standing
from tests.contracts.transports import (
    Transport,
    begin,
    commit,
    outbox,
    publish_numbers,
    saved,
    standing,
    started,
    state_of,
    take,
    values,
    wait_equal,
    wait_state,
)


def put(key: bytes, value: bytes | None, partition: int = 0) -> Message:
    return Message(key, value, partition=partition)


@contextmanager
def keeping(transport: Transport) -> Iterator[Keeper]:
    keeper = transport.broker().keeper(transport.topics)
    try:
        yield keeper
    finally:
        keeper.close()


# -- workers read it


def test_state_is_what_was_committed_last_deletes_included(transport: Transport) -> None:
    with started(transport) as worker:
        assert state_of(worker, transport.partitions) == {p: {} for p in transport.partitions}
        several = [put(b"kept", b"1"), put(b"changed", b"1"), put(b"gone", b"1")]
        commit(worker, Outbox(state=several), {}, {})
        commit(worker, Outbox(state=[put(b"changed", b"2"), put(b"gone", None)]), {}, {})
        odd = [put(b"\x00\xff", bytes(range(256))), put(b"void", b"")]
        commit(worker, Outbox(state=odd), {}, {})
        expected = {
            b"kept": b"1", b"changed": b"2", b"\x00\xff": bytes(range(256)), b"void": b"",
        }  # fmt: skip
        wait_state(worker, {0: expected})
    with started(transport) as worker:
        assert state_of(worker, [0]) == {0: expected}
        commit(worker, Outbox(state=[put(b"gone", b"back")]), {}, {})
        wait_state(worker, {0: expected | {b"gone": b"back"}})


def test_a_watermark_is_state_that_is_written_last(transport: Transport) -> None:
    with started(transport) as worker:
        same_key = Outbox(state=[put(b"key", b"state")], watermarks=[put(b"key", b"watermark")])
        commit(worker, same_key, {}, {})
        wait_state(worker, {0: {b"key": b"watermark"}})


def test_state_is_kept_apart_by_partition(transport: Transport) -> None:
    with started(transport) as worker:
        commit(worker, Outbox(state=[put(b"series", b"%d" % p, p) for p in (0, 1)]), {}, {})
        both = {0: {b"series": b"0"}, 1: {b"series": b"1"}}
        if len(transport.partitions) > 1:
            wait_state(worker, both)
            assert state_of(worker, [1]) == {1: both[1]}
            commit(worker, Outbox(state=[put(b"series", None, 1)]), {}, {})
            wait_state(worker, {0: both[0], 1: {}})
        wait_state(worker, {0: both[0]})


def test_a_state_larger_than_one_fetch_is_read_whole(transport: Transport) -> None:
    """6000 series of 1 KiB in each partition, a third of them written again."""
    with started(transport) as worker:
        expected: dict[int, dict[bytes, bytes]] = {}
        for partition in transport.partitions:
            old = {b"series-%d" % n: b"%d" % n + bytes(1024) for n in range(6000)}
            new = {key: b"new" + value for key, value in old.items() if key.endswith(b"7")}
            for table in (old, new):
                items = [put(key, value, partition) for key, value in table.items()]
                for at in range(0, len(items), 500):
                    commit(worker, Outbox(state=items[at : at + 500]), {}, {})
            expected[partition] = old | new
        # Let the last of it become visible, then read once.
        commit(
            worker,
            Outbox(watermarks=[put(b"watermark", b"1", p) for p in transport.partitions]),
            {},
            {},
        )
        wait_equal(
            lambda: {
                p: t.get(b"watermark") for p, t in state_of(worker, transport.partitions).items()
            },
            dict.fromkeys(transport.partitions, b"1"),
        )
        found = state_of(worker, transport.partitions)
    for partition, table in expected.items():
        assert found[partition] == table | {b"watermark": b"1"}


def test_reading_ends_although_the_log_ends_in_transactions_without_state(
    transport: Transport,
) -> None:
    """Markers of transactions and aborted records take offsets that no reader is given."""
    publish_numbers(transport, range(5))
    with started(transport) as worker:
        take(worker, 5)
        commit(worker, outbox(b"good"), {0: 1}, {0: 1})
        for position in (2, 3, 4):
            deleted = Outbox(state=[put(b"no such series", None)])
            commit(worker, deleted, {0: position}, {0: position})
        bad = outbox(b"aborted")
        bad.watermarks.append(transport.unwritable())
        with pytest.raises(TransactionError):
            commit(worker, bad, {0: 5}, {0: 5})
        worker.reopen()
        for _ in range(2):
            assert state_of(worker, transport.partitions)[0] == saved(b"good")


def test_a_reader_of_state_that_came_to_the_end_looks_again(transport: Transport) -> None:
    """The offsets may be visible before the state: whoever waits for it asks on."""
    with started(transport) as worker:
        commit(worker, outbox(b"1"), {}, {})
        wait_state(worker, {0: saved(b"1")})
        reader = worker.read_state([0])
        try:
            wait_equal(lambda: reader.read(timeout_s=0.1), True)
            assert reader.tables() == {0: saved(b"1")}
            wait_equal(lambda: reader.read(timeout_s=0.1), True)
            assert reader.tables() == {0: saved(b"1")}
        finally:
            reader.close()


# -- the keeper looks at it and replaces it


def test_a_keeper_sees_where_every_partition_stands_and_its_state(transport: Transport) -> None:
    publish_numbers(transport, range(5))
    with keeping(transport) as keeper:
        untouched = dict.fromkeys(transport.partitions, Standing(None, 0, 0))
        assert keeper.standing() == untouched | {0: Standing(None, 0, 5)}
        assert keeper.tables() == {p: {} for p in transport.partitions}
    with started(transport) as worker:
        take(worker, 5)
        commit(worker, outbox(b"1"), {0: 3}, {0: 2})
    with keeping(transport) as keeper:
        assert keeper.standing() == untouched | {0: Standing(3, 0, 5)}
        empty: dict[int, dict[bytes, bytes]] = {p: {} for p in transport.partitions}
        wait_equal(keeper.tables, empty | {0: saved(b"1")})


def test_a_keeper_replaces_state_and_positions_together(transport: Transport) -> None:
    publish_numbers(transport, range(5))
    with started(transport) as worker:
        take(worker, 5)
        work = outbox(b"1")
        work.state.append(put(b"gone", b"soon"))
        commit(worker, work, {0: 4}, {0: 4})
    with keeping(transport) as keeper:
        keeper.replace([put(b"gone", None), put(b"watermark", b"mine")], {0: 2})
        wait_equal(lambda: keeper.standing()[0], Standing(2, 0, 5))
        expected = {b"series": b"1", b"watermark": b"mine"}
        wait_equal(lambda: keeper.tables()[0], expected)
    with started(transport) as worker:
        assert state_of(worker, [0]) == {0: expected}
        assert values(take(worker, 3)) == [2, 3, 4]


def test_a_keeper_may_set_the_position_of_a_group_that_never_ran(transport: Transport) -> None:
    publish_numbers(transport, range(5))
    with keeping(transport) as keeper:
        keeper.replace([put(b"watermark", b"mine")], dict.fromkeys(transport.partitions, 0))
        wait_equal(lambda: keeper.standing()[0], Standing(0, 0, 5))
        keeper.replace([], {0: 4})  # twice in a row, positions alone
        wait_equal(lambda: keeper.standing()[0], Standing(4, 0, 5))
        assert keeper.tables()[0] == {b"watermark": b"mine"}


def test_a_keeper_replaces_nothing_while_a_worker_runs(transport: Transport) -> None:
    publish_numbers(transport, range(5))
    with started(transport) as worker:
        take(worker, 5)
        commit(worker, outbox(b"1"), {0: 3}, {0: 3})
        with pytest.raises(BrokerError), keeping(transport) as keeper:
            keeper.replace([put(b"series", b"mine")], {0: 0})
    with keeping(transport) as keeper:
        assert keeper.standing()[0] == Standing(3, 0, 5)
        wait_equal(lambda: keeper.tables()[0], saved(b"1"))
        keeper.replace([put(b"series", b"mine")], {0: 0})  # it has left
        wait_equal(lambda: keeper.standing()[0], Standing(0, 0, 5))


def test_a_refused_replacement_leaves_the_running_worker_at_work(transport: Transport) -> None:
    publish_numbers(transport, range(5))
    with started(transport) as worker:
        take(worker, 5)
        commit(worker, outbox(b"1"), {0: 3}, {0: 3})
        with pytest.raises(BrokerError), keeping(transport) as keeper:
            keeper.replace([put(b"series", b"mine")], {0: 0})
        worker.poll(max_records=1, max_bytes=10**7, timeout_s=0.1)
        commit(worker, outbox(b"2"), {0: 5}, {0: 5})
        assert standing(worker, [0])[0].committed == 5
        wait_state(worker, {0: saved(b"2")})


def test_growing_the_state_of_a_topic_that_has_not_grown_changes_nothing(
    transport: Transport,
) -> None:
    partitions = len(transport.partitions)
    with started(transport) as worker:
        commit(worker, outbox(b"1"), {}, {})
        wait_state(worker, {0: saved(b"1")})
    assert transport.broker().grow_state(transport.topics) == (partitions, partitions)
    with started(transport) as worker:
        assert state_of(worker, [0]) == {0: saved(b"1")}
        worker.reopen()
        begin(worker, transport.partitions)
