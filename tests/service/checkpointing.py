"""Checkpoints of a pipeline, and the log that a restart would find."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from detector.core.pipeline import Pipeline
from detector.core.state import WATERMARK_KEY, Watermark, decode_watermark
from detector.service.checkpoint import Checkpoint, Checkpoints
from detector.service.partitions import Partition, Partitions, Phase
from tests.core.making import pipeline_of
from tests.core.reference import Tick, batch_of
from tests.core.streams import START_NS
from tests.service.driving import FEATURES, OURS, make_policy, scorer

INTERVAL_S = 1.0


#: Exact in binary, so that no rounding blurs a border.
STEP_S = 1 / 64


def make_checkpoints(
    *, interval_s: float = INTERVAL_S, max_series: int = 10_000, forget_after_s: float | None = None
) -> tuple[Pipeline, Partitions, Checkpoints]:
    rules = make_policy(max_series=max_series, forget_after_s=forget_after_s)
    pipeline, partitions = pipeline_of(rules, FEATURES, scorer()), Partitions()
    return pipeline, partitions, Checkpoints(pipeline, partitions, OURS, interval_s=interval_s)


def begin(
    partitions: Partitions,
    number: int,
    *,
    position: int = 0,
    committed: int = 0,
    event_ns: int | None = None,
) -> Partition:
    """A partition that runs, as the loop would have begun it."""
    partitions.gain([number])
    partition = partitions[number]
    partition.written, partition.phase = committed, Phase.RUNNING
    partition.boundaries.append((position, event_ns))
    return partition


@dataclass
class Log:
    """What ticks there were, what is saved, and what must hold of the two."""

    interval_s: float = INTERVAL_S
    forget_after_s: float | None = None
    now_s: float = 0.0
    ticks: dict[int, list[Tick]] = field(default_factory=dict)
    saved: dict[tuple[int, str], int] = field(default_factory=dict)  # as of which offset
    deleted: set[tuple[int, str]] = field(default_factory=set)
    marks: dict[int, Watermark] = field(default_factory=dict)
    writes: dict[tuple[int, str], list[float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.pipeline, self.partitions, self.checkpoints = make_checkpoints(
            interval_s=self.interval_s, forget_after_s=self.forget_after_s
        )
        for partition in range(3):
            self.ticks[partition] = []
            begin(self.partitions, partition)

    def feed(self, batch: Sequence[tuple[int, str]]) -> None:
        """One tick for each (partition, series)."""
        ticks = []
        for partition, name in batch:
            offset = len(self.ticks[partition])
            time_ns = START_NS + offset * 10**9
            tick = Tick(name, time_ns, (1.0, 2.0), offset, partition)
            self.ticks[partition].append(tick)
            self.partitions[partition].pending = offset + 1
            ticks.append(tick)
        self.checkpoints.note(self.pipeline.process(batch_of(self.pipeline, ticks)))

    def commit(self, *, flush: Sequence[int] = ()) -> Checkpoint:
        made = self.begin(flush=flush)
        self.checkpoints.committed(made)
        return made

    def begin(self, *, flush: Sequence[int] = ()) -> Checkpoint:
        """A transaction that is under way; it will be committed."""
        pending = self.partitions.pending()
        stood = {p.number: self.position(p.number) for p in self.partitions}
        made = self.checkpoints.begin(now_s=self.now_s, flush=flush)
        assert self.partitions.pending().keys().isdisjoint(made.positions)
        for message in made.state:
            assert message.key is not None
            assert message.partition is not None
            if message.value is None:
                series = (message.partition, message.key.decode().removeprefix("series:"))
                self.saved.pop(series, None)
                self.deleted.add(series)
                continue
            table = {message.key: message.value}
            saved = self.checkpoints.codec.decode(message.partition, table, "state")
            (series,), (as_of,) = saved.same.series, saved.same_as_of.tolist()
            changed = [t.offset for t in self.ticks[series[0]] if t.series == series[1]]
            assert max(changed) >= self.saved.get(series, 0), "only what changed is written"
            assert as_of == stood[series[0]]
            self.saved[series] = as_of
            self.writes.setdefault(series, []).append(self.now_s)
        assert {m.partition for m in made.watermarks} == set(made.positions)
        assert set(pending) <= set(made.positions)
        for message in made.watermarks:
            assert message.key == WATERMARK_KEY
            assert message.partition is not None
            mark = decode_watermark(message.value or b"", "state")
            assert mark.committed == made.positions[message.partition]
            assert mark.committed == stood[message.partition]
            assert mark.needed_from == made.needed_from[message.partition]
            self.marks[message.partition] = mark
            self.assert_nothing_is_missing(message.partition)
        return made

    def position(self, partition: int) -> int:
        held = self.partitions[partition]
        return held.written if held.pending is None else held.pending

    def assert_nothing_is_missing(self, partition: int) -> None:
        """Every tick below needed_from is in the saved state of its series."""
        mark = self.marks[partition]
        assert 0 <= mark.needed_from <= mark.committed
        below = self.ticks[partition][: mark.needed_from]
        for tick in below:
            series = (partition, tick.series)
            assert tick.offset < self.saved.get(series, 0) or series in self.deleted
        times = [t.time_ns for t in below]
        assert mark.event_ns == (max(times) if times else None)
