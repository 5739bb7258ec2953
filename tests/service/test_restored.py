"""What a pipeline and its checkpoints make of a restored partition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from detector.core.pipeline import Pipeline
from detector.core.state import SavedPartition
from detector.core.ticks import TickBatch
from tests.core.reference import Tick, batch_of
from tests.core.streams import START_NS
from tests.service.checkpointing import Log, begin, make_checkpoints


def saved_state(names: Sequence[str], *, partition: int, as_of: int) -> SavedPartition:
    """What a worker left that had read some ticks of these series."""
    pipeline, _, checkpoints = make_checkpoints()
    ticks = [Tick(n, START_NS + i, (1.0, 2.0), i, partition) for i, n in enumerate(names)]
    pipeline.process(batch_of(pipeline, ticks))
    state = pipeline.snapshot(pipeline.stream.series.of_partition(partition))
    values = checkpoints.codec.encode(state, np.full(len(names), as_of))
    table = {b"series:" + n.encode(): v for (_, n), v in zip(state.series, values, strict=True)}
    return checkpoints.codec.decode(partition, table, "state")


def unseen(pipeline: Pipeline, batch: TickBatch) -> int:
    """How many ticks are processed, and not only looked at."""
    return len(pipeline.process(batch).outcome)


def batch_at(pipeline: Pipeline, name: str, offsets: Sequence[int], partition: int) -> TickBatch:
    ticks = [Tick(name, START_NS + 10**10 + o, (1.0, 2.0), o, partition) for o in offsets]
    return batch_of(pipeline, ticks)


def test_ticks_that_the_restored_state_holds_are_not_seen_again() -> None:
    pipeline, partitions, checkpoints = make_checkpoints()
    checkpoints.restore(begin(partitions, 0), saved_state(["a"], partition=0, as_of=50))
    assert unseen(pipeline, batch_at(pipeline, "a", [40, 49, 50, 60], 0)) == 2
    assert unseen(pipeline, batch_at(pipeline, "b", [40, 49, 50], 0)) == 3
    assert unseen(pipeline, batch_at(pipeline, "a", [], 0)) == 0


def test_a_rejected_tick_that_the_restored_state_holds_is_not_seen_again() -> None:
    pipeline, partitions, checkpoints = make_checkpoints()
    checkpoints.restore(begin(partitions, 0), saved_state(["a"], partition=0, as_of=50))
    bad = [Tick("a", START_NS, (float("nan"), 2.0), offset) for offset in (49, 50)]
    result = pipeline.process(batch_of(pipeline, bad))
    assert [r.offset for r in result.rejects] == [50]


def test_ticks_beyond_the_limit_of_series_are_never_held_by_a_state() -> None:
    pipeline, partitions, checkpoints = make_checkpoints(max_series=1)
    checkpoints.restore(begin(partitions, 0), saved_state(["a", "b"], partition=0, as_of=50))
    result = pipeline.process(batch_at(pipeline, "b", [1, 2], 0))
    assert [r.reason for r in result.rejects] == ["series_limit"] * 2


def test_a_partition_that_left_leaves_nothing_to_write() -> None:
    log = Log(interval_s=0.0)
    log.feed([(0, "a"), (1, "a")])
    log.checkpoints.clean(log.pipeline.forget(0))
    log.partitions.lose(0)
    assert [m.partition for m in log.commit().state] == [1]
    assert not log.checkpoints.dirty()


def test_a_slot_that_is_given_out_again_knows_nothing_of_the_state_restored_before() -> None:
    """A partition may come and go without a single tick."""
    pipeline, partitions, checkpoints = make_checkpoints()
    checkpoints.restore(begin(partitions, 1), saved_state(["a"], partition=1, as_of=1000))
    checkpoints.clean(pipeline.forget(1))
    begin(partitions, 2)
    assert unseen(pipeline, batch_at(pipeline, "b", [1, 2, 3], 2)) == 3


@pytest.mark.parametrize("gone", [0, 2])
def test_losing_one_partition_leaves_what_another_has_restored(gone: int) -> None:
    pipeline, partitions, checkpoints = make_checkpoints()
    for number in (gone, 1):
        saved = saved_state(["a"], partition=number, as_of=50)
        checkpoints.restore(begin(partitions, number), saved)
    checkpoints.clean(pipeline.forget(gone))
    assert unseen(pipeline, batch_at(pipeline, "a", [40, 49, 50], 1)) == 1
