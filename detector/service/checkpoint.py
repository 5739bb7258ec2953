"""Which series have changed since their state was last written, and when each is written again.

State is not written with every transaction: each series that changed is written once an
interval, spread evenly over it. The watermark of each transaction says from where a restart must
read again (the oldest change not yet written); it processes those ticks once more, silently, and
stands where the last transaction stood. Each record of state says up to which offset it holds.
"""

from __future__ import annotations

import uuid
from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from detector.core.pipeline import Pipeline
from detector.core.state import (
    VERSION,
    WATERMARK_KEY,
    SavedPartition,
    StateCodec,
    Watermark,
    series_key,
)
from detector.core.ticks import Bool, Int64, TickBatch
from detector.transport.broker import Message

#: Spreads successive slots evenly over the interval (the golden ratio).
_SPREAD = 0.6180339887498949
_CLEAN = -1


@dataclass(frozen=True, slots=True)
class Deployment:
    """Who writes the state: another one must not go on with it."""

    group: str
    alerts: str


@dataclass(slots=True)
class _Partition:
    """committed: up to where results are written. boundaries: (offset, event time) of the
    commits from the oldest unsaved change on. windowless: state to write again without its
    windows, as ticks that follow it are missing."""

    committed: int
    boundaries: deque[tuple[int, int | None]]
    windowless: list[Message] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Restored:
    """Series by what became of them: with their windows, without, or without room
    (limits.max_series)."""

    resumed: int
    warming: int
    no_room: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What goes into one transaction, and what done() needs afterwards. by: what its watermarks
    call it."""

    state: list[Message]
    watermarks: list[Message]
    positions: dict[int, int]
    needed_from: dict[int, int]
    slots: Int64
    by: str
    rewritten: tuple[int, ...]

    def state_bytes(self) -> int:
        return sum(len(m.value or b"") for m in (*self.state, *self.watermarks))


class Checkpoints:
    """interval_s: how long a change may stay unwritten; 0 writes with every transaction."""

    def __init__(
        self,
        pipeline: Pipeline,
        deployment: Deployment,
        *,
        interval_s: float,
    ) -> None:
        self.codec = StateCodec(pipeline)
        self._pipeline, self._deployment = pipeline, deployment
        self._interval_s = interval_s
        self._process, self._made = uuid.uuid4().hex[:12], 0
        self._partitions: dict[int, _Partition] = {}
        self._since = np.empty(0, np.int64)  # by slot: the commit before its change, or clean
        self._of = np.empty(0, np.int64)  # by slot: its partition
        self._as_of = np.empty(0, np.int64)  # by slot: what the restored state already holds
        self._written_s = 0.0

    # -- partitions come and go

    def begin(self, partition: int, *, position: int, committed: int, event_ns: int | None) -> None:
        """A partition whose restored state stands at position, where its event time is
        event_ns; the results up to committed are written."""
        self._partitions[partition] = _Partition(committed, deque([(position, event_ns)]))

    def restore(self, partition: int, saved: SavedPartition) -> Restored:
        """Put the saved series of a partition that began into the pipeline. A series whose window
        has a hole from now on (ticks were lost, or there is no room for it) is written again
        without it in the next transaction: a later restart must not take it for whole."""
        resumed, warming, no_room = 0, 0, 0
        inside = self._partitions[partition]
        for state, as_of, whole in (
            (saved.same, saved.same_as_of, True),
            (saved.foreign, saved.foreign_as_of, False),
        ):
            if not state.series:
                continue
            slots = self._pipeline.restore(state)
            room = slots >= 0
            self._reserve(int(slots.max()) + 1)
            self._as_of[slots[room]] = as_of[room]
            self._of[slots[room]] = partition
            resumed += int(room.sum()) if whole else 0
            warming += 0 if whole else int(room.sum())
            no_room += int((~room).sum())
            for i in np.flatnonzero(~room | saved.ticks_lost).tolist():
                name = state.series[i][1]
                head = self.codec.without_window(saved.heads[name])
                inside.windowless.append(Message(series_key(name), head, partition=partition))
        return Restored(resumed, warming, no_room)

    def forget(self, partition: int) -> None:
        if self._partitions.pop(partition, None) is not None:
            gone = self._of == partition
            self._since[gone] = _CLEAN
            self._as_of[gone] = 0

    def forget_all(self) -> None:
        self._partitions.clear()
        self._since[:] = _CLEAN
        self._as_of[:] = 0

    # -- ticks

    def held(self, batch: TickBatch) -> Bool:
        """(n,) whether the restored state of its series holds a tick already."""
        if len(batch) == 0:
            return np.empty(0, np.bool_)
        self._reserve(int(batch.slot.max()) + 1)
        held: Bool = (batch.slot >= 0) & (batch.offset < self._as_of[np.maximum(batch.slot, 0)])
        return held

    def touch(self, slots: Int64) -> None:
        """These series have changed."""
        if len(slots) == 0:
            return
        self._reserve(int(slots.max()) + 1)
        for slot in slots[self._since[slots] == _CLEAN].tolist():
            partition = self._pipeline.series.partition(slot)
            self._since[slot] = self._partitions[partition].boundaries[-1][0]
            self._of[slot] = partition

    def dirty(self) -> bool:
        return bool((self._since != _CLEAN).any())

    # -- transactions

    def overdue(self, now_s: float) -> bool:
        """Whether changes wait although no transaction came along to take them."""
        return now_s - self._written_s >= self._interval_s and self.dirty()

    def prepare(
        self,
        positions: Mapping[int, int],
        *,
        now_s: float,
        flush: Iterable[int] = (),
        exclude: Iterable[int] = (),
    ) -> Checkpoint:
        """State and watermarks of a transaction that moves to positions. flush: partitions of
        which everything is written; exclude: those still being restored, which stay as they
        are."""
        changed = np.flatnonzero(self._since != _CLEAN)
        of = self._of[changed]
        due = self._due(changed, now_s) | np.isin(of, list(flush))
        due &= ~np.isin(of, list(exclude))
        slots = changed[due]
        target = {p: s.committed for p, s in self._partitions.items()} | dict(positions)
        moved = set(positions) | set(np.unique(of[due]).tolist())
        as_of = np.array([target[p] for p in self._of[slots].tolist()], np.int64)

        state = self._pipeline.snapshot(slots)
        messages = [
            Message(series_key(name), value, partition=partition)
            for (partition, name), value in zip(
                state.series, self.codec.encode(state, as_of), strict=True
            )
        ]
        self._made += 1
        identity = f"{self._process}-{self._made}"
        watermarks, needed_from = [], {}
        for partition in sorted(moved):
            unsaved = self._since[changed[~due & (of == partition)]]
            needed = int(unsaved.min()) if len(unsaved) else target[partition]
            needed_from[partition] = needed
            mark = Watermark(
                version=VERSION,
                committed=target[partition],
                needed_from=needed,
                event_ns=self._event_ns(partition, needed, target[partition]),
                group=self._deployment.group,
                alerts=self._deployment.alerts,
                model=self._pipeline.policy.model_version,
                by=identity,
            )
            watermarks.append(Message(WATERMARK_KEY, mark.encode(), partition=partition))
        self._written_s = now_s
        positions = {p: target[p] for p in moved}
        rewritten = tuple(sorted(moved - set(exclude)))
        # First: a series that has ticks again is among the messages too, and the last one counts.
        holes = [m for p in rewritten for m in self._partitions[p].windowless]
        return Checkpoint(
            holes + messages, watermarks, positions, needed_from, slots, identity, rewritten
        )

    def done(self, checkpoint: Checkpoint) -> None:
        """The transaction is committed."""
        self._since[checkpoint.slots] = _CLEAN
        for partition in checkpoint.rewritten:
            self._partitions[partition].windowless.clear()
        for partition, position in checkpoint.positions.items():
            inside = self._partitions[partition]
            inside.committed = position
            boundary = (position, self._pipeline.event_ns(partition))
            if inside.boundaries[-1][0] == position:
                inside.boundaries[-1] = boundary
            else:
                inside.boundaries.append(boundary)
            while inside.boundaries[0][0] < checkpoint.needed_from[partition]:
                inside.boundaries.popleft()

    def _event_ns(self, partition: int, needed: int, target: int) -> int | None:
        if needed == target:
            return self._pipeline.event_ns(partition)
        boundaries = self._partitions[partition].boundaries
        return next(event_ns for offset, event_ns in boundaries if offset == needed)

    def _due(self, slots: Int64, now_s: float) -> Bool:
        """Those whose turn came since the last transaction."""
        if now_s - self._written_s >= self._interval_s:
            return np.ones(len(slots), np.bool_)
        begin, end = self._written_s / self._interval_s % 1.0, now_s / self._interval_s % 1.0
        phase = slots * _SPREAD % 1.0
        inside: Bool = (
            (phase >= begin) & (phase < end) if begin <= end else (phase >= begin) | (phase < end)
        )
        return inside

    def _reserve(self, slots: int) -> None:
        more = slots - len(self._since)
        if more > 0:
            more = max(more, len(self._since), 64)
            self._since = np.concatenate([self._since, np.full(more, _CLEAN)])
            self._of = np.concatenate([self._of, np.zeros(more, np.int64)])
            self._as_of = np.concatenate([self._as_of, np.zeros(more, np.int64)])
