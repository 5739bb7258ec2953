"""When state is written, and from where a restart reads again."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.service.checkpoint import Checkpoint
from detector.service.partitions import Phase
from tests.core.reference import Tick, batch_of
from tests.core.streams import START_NS
from tests.service.checkpointing import INTERVAL_S, STEP_S, Log

_BATCHES = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcde")), max_size=6),
        st.sampled_from([0, 1, 5, 30, 64, 200]),
        st.sets(st.integers(0, 2), max_size=1),
        st.booleans(),
    ),
    max_size=25,
)


@given(_BATCHES, st.sampled_from([0.0, 0.25, 1.0, 100.0]))
@settings(deadline=None, max_examples=150)
def test_no_restart_would_miss_a_change(
    batches: list[tuple[list[tuple[int, str]], int, set[int], bool]],
    interval_s: float,
) -> None:
    """Also of a change that comes while a transaction is under way."""
    log = Log(interval_s)
    under_way: Checkpoint | None = None
    for batch, steps, flush, beside in batches:
        if under_way is not None and not beside:
            log.checkpoints.committed(under_way)
        log.feed(batch)
        log.now_s += steps * STEP_S
        if under_way is not None and beside:
            log.checkpoints.committed(under_way)
        under_way = log.begin(flush=tuple(flush))
        for partition in flush:
            mark = log.marks.get(partition)
            if mark is not None:
                assert mark.needed_from == mark.committed, "flushed: nothing to read again"
    if under_way is not None:
        log.checkpoints.committed(under_way)
    log.commit(flush=(0, 1, 2))
    assert not log.checkpoints.dirty()


@given(st.integers(1, 60), st.integers(1, 40), st.data())
@settings(deadline=None, max_examples=60)
def test_a_series_is_written_once_an_interval_and_never_later_than_one_and_a_commit(
    every: int, series: int, data: st.DataObject
) -> None:
    names = [f"s{i}" for i in range(series)]
    log = Log()
    before_s, waiting = 0.0, dict[str, float]()
    for _ in range(200 // every + 2):
        changing = data.draw(st.sets(st.sampled_from(names))) if series < 4 else set(names)
        for name in changing:
            waiting.setdefault(name, before_s)
        log.feed([(0, name) for name in sorted(changing)])
        log.now_s += every * STEP_S
        for message in log.commit().state:
            waiting.pop((message.key or b"").decode().removeprefix("series:"))
        for name, since_s in waiting.items():
            assert log.now_s - since_s < INTERVAL_S, f"{name} is overdue"
        before_s = log.now_s
    for times in log.writes.values():
        pauses = np.diff(times)
        assert (pauses >= INTERVAL_S - every * STEP_S).all(), "written too often"
        periods = np.floor(np.array(times) / INTERVAL_S)
        assert np.bincount(periods.astype(int)).max() <= 2


def test_the_writes_of_an_interval_are_spread_over_its_commits() -> None:
    log = Log()
    names = [f"s{i}" for i in range(640)]
    sizes = []
    for _ in range(64):
        log.feed([(0, name) for name in names])
        log.now_s += STEP_S
        sizes.append(len(log.commit().state))
    assert sum(sizes) == 640
    assert max(sizes) <= 2 * 640 / 64


def test_an_interval_of_zero_writes_every_change_with_its_transaction() -> None:
    log = Log(interval_s=0.0)
    for _ in range(3):
        log.feed([(0, "a"), (0, "b"), (1, "a")])
        made = log.commit()
        assert len(made.state) == 3
        assert made.needed_from == made.positions
        assert made.state_bytes() > 3 * log.checkpoints.codec.record_bytes


def test_what_changes_while_a_transaction_is_under_way_is_written_by_the_next() -> None:
    log = Log(interval_s=0.0)
    log.feed([(0, "a"), (0, "b")])
    first = log.begin()
    log.feed([(0, "b"), (0, "c")])
    log.checkpoints.committed(first)
    assert (first.positions, first.needed_from) == ({0: 2}, {0: 2})
    assert log.checkpoints.dirty()
    second = log.commit()
    assert [m.key for m in second.state] == [b"series:b", b"series:c"]
    assert (second.positions, second.needed_from) == ({0: 4}, {0: 4})
    assert not log.checkpoints.dirty()


def test_a_change_beside_a_transaction_is_read_again_from_where_that_one_ends() -> None:
    log = Log(interval_s=100.0)
    log.now_s = 1000.0
    log.feed([(0, "a"), (0, "a")])
    first = log.begin(flush=(0,))
    log.feed([(0, "b")])
    log.checkpoints.committed(first)
    log.now_s += STEP_S
    assert log.commit().needed_from == {0: 2}


def test_a_series_without_ticks_is_not_written_again() -> None:
    log = Log(interval_s=0.0)
    log.feed([(0, "a"), (0, "b")])
    log.commit()
    log.feed([(0, "b")])
    assert [m.key for m in log.commit().state] == [b"series:b"]


def test_a_late_tick_changes_nothing_that_is_written() -> None:
    log = Log(interval_s=0.0)
    log.feed([(0, "a"), (0, "a")])
    log.commit()
    late = Tick("a", START_NS, (1.0, 2.0), 2)
    log.checkpoints.note(log.pipeline.process(batch_of(log.pipeline, [late])))
    assert not log.checkpoints.dirty()


def test_changes_are_overdue_after_an_interval_without_a_transaction() -> None:
    log = Log(interval_s=1.0)
    log.feed([(0, "first"), (0, "second")])
    log.now_s = 10.0
    log.commit()
    assert not log.checkpoints.overdue(99.0), "nothing waits"
    log.feed([(0, "second")])
    log.now_s += STEP_S / 4
    assert log.commit().state == [], "its turn is later"
    assert not log.checkpoints.overdue(10.5)
    assert log.checkpoints.overdue(11.25)
    log.now_s = 11.25
    made = log.commit()
    assert [m.key for m in made.state] == [b"series:second"]
    assert made.positions == {0: 3}, "the offset stays where it is"


def test_a_partition_that_is_being_restored_is_left_as_it_is() -> None:
    log = Log(interval_s=0.0)
    log.feed([(0, "a"), (1, "a")])
    log.partitions[1].pending = None
    log.partitions[1].phase = Phase.REPLAYING
    made = log.commit()
    assert (set(made.positions), len(made.state)) == ({0}, 1)
    assert log.checkpoints.dirty()
    log.partitions[1].pending, log.partitions[1].phase = 1, Phase.RUNNING
    assert [m.partition for m in log.commit().state] == [1]


# -- series that were forgotten


def keys(made: Checkpoint) -> tuple[list[bytes | None], list[bytes | None]]:
    """Deleted and written."""
    deleted = [m.key for m in made.state if m.value is None]
    return deleted, [m.key for m in made.state if m.value is not None]


def test_what_is_saved_of_a_forgotten_series_is_deleted_with_the_next_transaction() -> None:
    log = Log(interval_s=100.0, forget_after_s=5.0)
    log.feed([(0, "gone"), (1, "gone")])
    log.now_s = 1000.0
    log.commit()
    log.feed([(0, "stays")] * 8)
    log.now_s += 1.0
    made = log.commit()
    assert keys(made)[0] == [b"series:gone"]
    assert {m.partition for m in made.state if m.value is None} == {0}
    log.feed([(0, "stays")])
    assert keys(log.commit())[0] == []


def test_a_forgotten_series_that_comes_back_is_deleted_before_it_is_written() -> None:
    log = Log(interval_s=0.0, forget_after_s=5.0)
    log.feed([(0, "back")])
    log.commit()
    log.feed([(0, "stays")] * 8 + [(0, "back")])
    made = log.commit()
    assert [m.value is None for m in made.state if m.key == b"series:back"] == [True, False]
    log.feed([(0, "stays")])
    assert keys(log.commit()) == ([], [b"series:stays"])


def test_a_restart_does_not_read_again_from_before_a_series_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its place would be free too early."""
    monkeypatch.setattr("detector.service.checkpoint.MOST_RECORDS", 3)
    log = Log(interval_s=100.0, forget_after_s=20.0)
    log.feed([(0, f"s{i}") for i in range(10)] + [(1, "other")])
    log.now_s = 1000.0
    log.commit(flush=(0,))
    log.feed([(0, "early"), (1, "other")])
    log.now_s += 1.0
    assert log.commit().needed_from[0] == 10
    log.feed([(0, "stays")] * 40 + [(1, "other")])
    log.now_s += 1.0
    made = log.commit()
    deleted, written = keys(made)
    assert set(deleted) == {b"series:early", *(b"series:s%d" % i for i in range(10))}
    assert written == [b"series:stays"]
    assert made.needed_from[0] == made.positions[0] == 51
    assert made.needed_from[1] < made.positions[1], "other partitions wait for their turn"


def test_a_series_that_is_forgotten_while_its_record_is_written_is_deleted_by_the_next() -> None:
    log = Log(interval_s=0.0, forget_after_s=5.0)
    log.feed([(0, "gone")])
    first = log.begin()
    log.feed([(0, "stays")] * 8)
    log.checkpoints.committed(first)
    assert keys(first) == ([], [b"series:gone"])
    assert keys(log.commit()) == ([b"series:gone"], [b"series:stays"])


@pytest.mark.parametrize("back", [0, 9])
def test_a_record_that_was_written_again_is_not_deleted_later(
    monkeypatch: pytest.MonkeyPatch, back: int
) -> None:
    monkeypatch.setattr("detector.service.checkpoint.MOST_RECORDS", 3)
    log = Log(interval_s=0.0, forget_after_s=20.0)
    log.feed([(0, f"s{i}") for i in range(10)])
    log.commit(flush=(0,))
    log.feed([(0, "stays")] * 40 + [(0, f"s{back}")])
    while log.checkpoints.dirty():
        log.commit()
    assert (0, f"s{back}") in log.saved
    assert log.saved.keys() == {(0, f"s{back}"), (0, "stays")}
