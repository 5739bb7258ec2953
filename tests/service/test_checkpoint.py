"""When state is written, and from where a restart reads again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.pipeline import Pipeline
from detector.core.state import WATERMARK_KEY, SavedPartition, Watermark, decode_watermark
from detector.core.ticks import TickBatch
from detector.service.checkpoint import Checkpoint, Checkpoints
from tests.core.reference import Tick, batch_of
from tests.core.streams import START_NS
from tests.service.driving import FEATURES, OURS, make_policy, scorer

INTERVAL_S = 1.0
#: Exact in binary, so that no rounding blurs a border.
STEP_S = 1 / 64


def make_checkpoints(
    pipeline: Pipeline | None = None, *, interval_s: float = INTERVAL_S
) -> tuple[Pipeline, Checkpoints]:
    pipeline = pipeline or Pipeline(make_policy(max_series=10_000), FEATURES, scorer())
    made = Checkpoints(pipeline, OURS, interval_s=interval_s)
    return pipeline, made


@dataclass
class Log:
    """What ticks there were, what is saved, and what must hold of the two."""

    interval_s: float = INTERVAL_S
    now_s: float = 0.0
    ticks: dict[int, list[Tick]] = field(default_factory=dict)
    saved: dict[tuple[int, str], int] = field(default_factory=dict)  # as of which offset
    marks: dict[int, Watermark] = field(default_factory=dict)
    writes: dict[tuple[int, str], list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pipeline, self.checkpoints = make_checkpoints(interval_s=self.interval_s)
        self.pending: dict[int, int] = {}
        for partition in range(3):
            self.ticks[partition] = []
            self.checkpoints.begin(partition, position=0, committed=0, event_ns=None)

    def feed(self, batch: Sequence[tuple[int, str]]) -> None:
        """One tick for each (partition, series)."""
        ticks = []
        for partition, name in batch:
            offset = len(self.ticks[partition])
            # Times that go back now and then: those ticks are late, and change the series too.
            time_ns = START_NS + (offset - 3 * (offset % 5 == 4)) * 10**9
            tick = Tick(name, time_ns, (1.0, 2.0), offset, partition)
            self.ticks[partition].append(tick)
            self.pending[partition] = offset + 1
            ticks.append(tick)
        found = batch_of(self.pipeline, ticks)
        assert not self.checkpoints.held(found).any()
        self.checkpoints.touch(self.pipeline.process(found).changed)

    def commit(self, *, flush: Sequence[int] = (), exclude: Sequence[int] = ()) -> Checkpoint:
        made = self.checkpoints.prepare(
            self.pending, now_s=self.now_s, flush=flush, exclude=exclude
        )
        for message in made.state:
            assert message.value is not None
            assert message.key is not None
            assert message.partition is not None
            table = {message.key: message.value}
            saved = self.checkpoints.codec.decode(message.partition, table, "state")
            (series,), (as_of,) = saved.same.series, saved.same_as_of.tolist()
            changed = [t.offset for t in self.ticks[series[0]] if t.series == series[1]]
            assert max(changed) >= self.saved.get(series, 0), "only what changed is written"
            assert as_of == self.position(series[0])
            self.saved[series] = as_of
            self.writes.setdefault(series, []).append(self.now_s)
        assert {m.partition for m in made.watermarks} == set(made.positions)
        assert set(self.pending) <= set(made.positions)
        for message in made.watermarks:
            assert message.key == WATERMARK_KEY
            assert message.partition is not None
            mark = decode_watermark(message.value or b"", "state")
            assert mark.committed == made.positions[message.partition]
            assert mark.committed == self.position(message.partition)
            assert mark.needed_from == made.needed_from[message.partition]
            self.marks[message.partition] = mark
            self.assert_nothing_is_missing(message.partition)
        self.checkpoints.done(made)
        self.pending = {}
        return made

    def position(self, partition: int) -> int:
        committed = self.marks[partition].committed if partition in self.marks else 0
        return self.pending.get(partition, committed)

    def assert_nothing_is_missing(self, partition: int) -> None:
        """Every tick below needed_from is in the saved state of its series."""
        mark = self.marks[partition]
        assert 0 <= mark.needed_from <= mark.committed
        below = self.ticks[partition][: mark.needed_from]
        for tick in below:
            assert tick.offset < self.saved.get((partition, tick.series), 0)
        times = [t.time_ns for t in below]
        assert mark.event_ns == (max(times) if times else None)


_BATCHES = st.lists(
    st.tuples(
        st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcde")), max_size=6),
        st.sampled_from([0, 1, 5, 30, 64, 200]),
        st.sets(st.integers(0, 2), max_size=1),
    ),
    max_size=25,
)


@given(_BATCHES, st.sampled_from([0.0, 0.25, 1.0, 100.0]))
@settings(deadline=None, max_examples=150)
def test_no_restart_would_miss_a_change(
    batches: list[tuple[list[tuple[int, str]], int, set[int]]],
    interval_s: float,
) -> None:
    log = Log(interval_s)
    for batch, steps, flush in batches:
        log.feed(batch)
        log.now_s += steps * STEP_S
        log.commit(flush=tuple(flush))
        for partition in flush:
            mark = log.marks.get(partition)
            if mark is not None:
                assert mark.needed_from == mark.committed, "flushed: nothing to read again"
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


def test_a_series_without_ticks_is_not_written_again() -> None:
    log = Log(interval_s=0.0)
    log.feed([(0, "a"), (0, "b")])
    log.commit()
    log.feed([(0, "b")])
    assert [m.key for m in log.commit().state] == [b"series:b"]


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
    del log.pending[1]
    made = log.commit(exclude=(1,))
    assert (set(made.positions), len(made.state)) == ({0}, 1)
    assert log.checkpoints.dirty()
    log.pending[1] = 1
    assert [m.partition for m in log.commit().state] == [1]


# -- restored partitions


def saved_state(names: Sequence[str], *, partition: int, as_of: int) -> SavedPartition:
    """What a worker left that had read some ticks of these series."""
    pipeline, checkpoints = make_checkpoints()
    ticks = [Tick(n, START_NS + i, (1.0, 2.0), i, partition) for i, n in enumerate(names)]
    pipeline.process(batch_of(pipeline, ticks))
    state = pipeline.snapshot(pipeline.series.of_partition(partition))
    values = checkpoints.codec.encode(state, np.full(len(names), as_of))
    table = {b"series:" + n.encode(): v for (_, n), v in zip(state.series, values, strict=True)}
    return checkpoints.codec.decode(partition, table, "state")


def unseen(checkpoints: Checkpoints, batch: TickBatch) -> TickBatch:
    return batch.select(~checkpoints.held(batch))


def batch_at(pipeline: Pipeline, name: str, offsets: Sequence[int], partition: int) -> TickBatch:
    ticks = [Tick(name, START_NS + 10**10 + o, (1.0, 2.0), o, partition) for o in offsets]
    return batch_of(pipeline, ticks)


def test_ticks_that_the_restored_state_holds_are_not_seen_again() -> None:
    pipeline, checkpoints = make_checkpoints()
    checkpoints.begin(0, position=40, committed=60, event_ns=START_NS)
    checkpoints.restore(0, saved_state(["a"], partition=0, as_of=50))
    known = batch_at(pipeline, "a", [40, 49, 50, 60], 0)
    assert unseen(checkpoints, known).offset.tolist() == [50, 60]
    new = batch_at(pipeline, "b", [40, 49, 50], 0)
    assert unseen(checkpoints, new).offset.tolist() == [40, 49, 50]
    assert len(unseen(checkpoints, known.select(np.zeros(4, np.bool_)))) == 0


def test_ticks_beyond_the_limit_of_series_are_never_held_by_a_state() -> None:
    small = Pipeline(make_policy(max_series=1), FEATURES, scorer())
    pipeline, checkpoints = make_checkpoints(small)
    checkpoints.begin(0, position=0, committed=60, event_ns=START_NS)
    checkpoints.restore(0, saved_state(["a", "b"], partition=0, as_of=50))
    assert unseen(checkpoints, batch_at(pipeline, "b", [1, 2], 0)).slot.tolist() == [-1, -1]


def test_a_forgotten_partition_leaves_nothing_to_write() -> None:
    log = Log(interval_s=0.0)
    log.feed([(0, "a"), (1, "a")])
    log.pipeline.forget(0)
    log.checkpoints.forget(0)
    del log.pending[0]
    assert [m.partition for m in log.commit().state] == [1]
    assert not log.checkpoints.dirty()
    log.checkpoints.forget(0)  # once more harms nobody


def test_a_slot_that_is_given_out_again_knows_nothing_of_the_state_restored_before() -> None:
    """A partition may come and go without a single tick."""
    pipeline, checkpoints = make_checkpoints()
    checkpoints.begin(1, position=1000, committed=1000, event_ns=START_NS)
    checkpoints.restore(1, saved_state(["a"], partition=1, as_of=1000))
    pipeline.forget(1)
    checkpoints.forget(1)
    checkpoints.begin(2, position=0, committed=0, event_ns=None)
    fresh = batch_at(pipeline, "b", [1, 2, 3], 2)
    assert unseen(checkpoints, fresh).offset.tolist() == [1, 2, 3]


@pytest.mark.parametrize("gone", [0, 2])
def test_forgetting_one_partition_leaves_what_another_has_restored(gone: int) -> None:
    pipeline, checkpoints = make_checkpoints()
    for partition in (gone, 1):
        checkpoints.begin(partition, position=40, committed=60, event_ns=START_NS)
        checkpoints.restore(partition, saved_state(["a"], partition=partition, as_of=50))
    pipeline.forget(gone)
    checkpoints.forget(gone)
    found = unseen(checkpoints, batch_at(pipeline, "a", [40, 49, 50], 1))
    assert found.offset.tolist() == [50]


def test_forgetting_everything_leaves_nothing() -> None:
    log = Log()
    log.feed([(0, "a"), (1, "b")])
    log.checkpoints.restore(2, saved_state(["c"], partition=2, as_of=50))
    log.pipeline.forget_all()
    log.checkpoints.forget_all()
    assert not log.checkpoints.dirty()
    assert len(unseen(log.checkpoints, batch_at(log.pipeline, "c", [1, 2], 2))) == 2
