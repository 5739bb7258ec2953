"""Which series have changed since their state was last written, and when each is written again.

State is not written with every transaction: each series that changed is written once an
interval, spread evenly over it. The watermark of each transaction says from where a restart must
read again (the oldest change not yet written); it processes those ticks once more, silently, and
stands where the last transaction stood. Each record of state says up to which offset it holds.
The record of a series that was forgotten is deleted with the next transaction, which writes all
that changed in its partition: a restart must not read again from before a series left, as its
place (limits.max_series) would be free too early.

A transaction ends some time after it was begun, and ticks are processed meanwhile. It writes the
state of the moment when it begins; what changes after that is the next one's. If it fails, nothing
of this is left: every partition is restored.
"""

from __future__ import annotations

import uuid
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.pipeline import BatchResult, Pipeline
from detector.core.records import Message
from detector.core.state import (
    MUTES_KEY,
    VERSION,
    VERSION_WITH_EXTRAS,
    WATERMARK_KEY,
    Deployment,
    Judge,
    SavedPartition,
    StateCodec,
    Watermark,
    series_key,
)
from detector.core.ticks import Bool, Int64
from detector.service.partitions import Partition, Partitions

#: Spreads successive slots evenly over the interval (the golden ratio).
_SPREAD = 0.6180339887498949
_CLEAN = -1
#: Records of state in one transaction, but for the last of a partition: a client needs some
#: twenty microseconds for each, and a transaction must not outlive its time.
MOST_RECORDS = 10_000


@dataclass(frozen=True, slots=True)
class Restored:
    """Series by what became of them: with their windows, without, or without room
    (limits.max_series)."""

    resumed: int
    warming: int
    no_room: int


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """What goes into one transaction. moved: the partitions it moves, as they were held when it
    began; by: what its watermarks call it."""

    state: list[Message]
    watermarks: list[Message]
    moved: tuple[Partition, ...]
    positions: dict[int, int]
    needed_from: dict[int, int]
    by: str

    def state_bytes(self) -> int:
        return sum(len(m.value or b"") for m in (*self.state, *self.watermarks))


class Checkpoints:
    """interval_s: how long a change may stay unwritten; 0 writes with every transaction."""

    def __init__(
        self,
        pipeline: Pipeline,
        partitions: Partitions,
        deployment: Deployment,
        *,
        interval_s: float,
    ) -> None:
        self.codec = StateCodec(pipeline)
        #: Who judges, for the watermarks; None: nobody asked.
        self.judge: Judge | None = None
        self._pipeline, self._partitions, self._deployment = pipeline, partitions, deployment
        self._interval_s = interval_s
        self._process, self._made = uuid.uuid4().hex[:12], 0
        self._since = np.empty(0, np.int64)  # by slot: the commit before its change, or clean
        self._of = np.empty(0, np.int64)  # by slot: the partition of what changed
        self._written_s = 0.0

    # -- series come, change and go

    def restore(self, partition: Partition, saved: SavedPartition) -> Restored:
        """Put the saved series of a partition into the pipeline. A series whose window has a hole
        from now on (ticks were lost, or there is no room for it) is written again without it in
        the next transaction: a later restart must not take it for whole."""
        resumed, warming, no_room = 0, 0, 0
        for state, as_of, whole in (
            (saved.same, saved.same_as_of, True),
            (saved.foreign, saved.foreign_as_of, False),
        ):
            slots = self._pipeline.restore(state, as_of)
            room = slots >= 0
            resumed += int(room.sum()) if whole else 0
            warming += 0 if whole else int(room.sum())
            no_room += int((~room).sum())
            for i in np.flatnonzero(~room | saved.ticks_lost).tolist():
                name = state.series[i][1]
                head = self.codec.without_window(saved.heads[name])
                message = Message(series_key(name), head, partition=partition.number)
                partition.windowless.append(message)
        return Restored(resumed, warming, no_room)

    def clean(self, slots: Int64) -> None:
        """Their series belong to another worker now."""
        self._since[slots[slots < len(self._since)]] = _CLEAN

    def note(self, result: BatchResult) -> None:
        """What a batch has changed."""
        series = self._pipeline.stream.series
        for one in result.forgotten:
            self._partitions[one.partition].forgotten.add(one.name)
            if one.slot < len(self._since):
                self._since[one.slot] = _CLEAN
        changed = result.changed
        if len(changed) == 0:
            return
        self._reserve(int(changed[-1]) + 1)
        changed = changed[self._since[changed] == _CLEAN]
        if len(changed) == 0:  # all of them are waiting to be written already
            return
        of = series.partitions_of(changed)
        self._of[changed] = of
        for number in np.unique(of).tolist():
            self._since[changed[of == number]] = self._partitions[number].boundary

    def exchanged(self) -> None:
        """The pipeline has another primary track."""
        self.codec = StateCodec(self._pipeline)

    def note_all(self, number: int) -> None:
        """Everything of a partition is to be written again."""
        slots = self._pipeline.stream.series.of_partition(number)
        if len(slots) == 0:
            return
        self._reserve(int(slots.max()) + 1)
        slots = slots[self._since[slots] == _CLEAN]
        self._of[slots] = number
        self._since[slots] = self._partitions[number].boundary

    def dirty(self) -> bool:
        waiting = any(p.forgotten or p.mutes_changed for p in self._partitions)
        return waiting or bool((self._since != _CLEAN).any())

    # -- transactions

    def overdue(self, now_s: float) -> bool:
        """Whether changes wait although no transaction came along to take them."""
        return now_s - self._written_s >= self._interval_s and self.dirty()

    def begin(
        self, *, now_s: float, flush: Iterable[int] = (), beside: Sequence[Message] = ()
    ) -> Checkpoint:
        """State and watermarks of a transaction that moves the partitions to where their work is
        done: from now on that is in it, and is not pending, changed or forgotten any more. One at
        a time. flush: partitions of which everything is written, beside those that series have
        left. Those whose ticks come again stay as they are. beside: what else is kept, of those
        that are pending."""
        moving = self._partitions.pending()
        exclude = set(self._partitions.replaying)
        deleted = [p for p in self._partitions if p.forgotten and p.number not in exclude]
        flushed = {*flush, *(p.number for p in deleted)}
        changed = np.flatnonzero(self._since != _CLEAN)
        of = self._of[changed]
        whole = _among(of, flushed)
        due = (self._due(changed, now_s) | whole) & ~_among(of, exclude)
        self._bound(due, changed, whole)
        slots, slots_of = changed[due], of[due]
        state = self._pipeline.snapshot(slots)
        also = {p.number for p in self._partitions if p.forgotten or p.mutes_changed} - exclude
        moved = sorted({*moving, *np.unique(slots_of).tolist(), *also})
        target = {number: moving.get(number, self._partitions[number].written) for number in moved}
        as_of = np.empty(len(slots), np.int64)
        for number in moved:
            as_of[slots_of == number] = target[number]
        messages = [
            Message(series_key(name), value, partition=number)
            for (number, name), value in zip(
                state.series, self.codec.encode(state, as_of), strict=True
            )
        ]
        self._made += 1
        identity = f"{self._process}-{self._made}"
        watermarks, needed_from = [], {}
        for number in moved:
            left = self._since[changed[~due & (of == number)]]
            needed_from[number] = int(left.min()) if len(left) else target[number]
            partition = self._partitions[number]
            if number not in exclude:  # what is written again tells by itself who judged
                oldest = int(left.min()) if len(left) else None
                partition.changes = [
                    c for c in partition.changes if oldest is not None and oldest <= c.until
                ]
            mark = self._mark(number, target[number], needed_from[number], identity)
            watermarks.append(Message(WATERMARK_KEY, mark.encode(), partition=number))
        self._written_s = now_s
        rewritten = [self._partitions[number] for number in moved if number not in exclude]
        # First: a series that has ticks again is among the messages too, and the last one counts.
        holes = [m for partition in rewritten for m in partition.windowless]
        holes += [
            Message(series_key(name), None, partition=partition.number)
            for partition in deleted
            for name in sorted(partition.forgotten)
        ]
        messages += self._mutes(rewritten, target)
        self._since[slots] = _CLEAN
        for partition in rewritten:
            partition.windowless.clear()
        for partition in deleted:
            partition.forgotten.clear()
        for number in moved:
            self._partitions[number].begin_move(target[number], self._pipeline.event_ns(number))
        return Checkpoint(
            [*holes, *messages, *beside],
            watermarks,
            tuple(self._partitions[number] for number in moved),
            target,
            needed_from,
            identity,
        )

    def committed(self, checkpoint: Checkpoint) -> None:
        """It is: the partitions it moved that are still held stand there."""
        for partition in checkpoint.moved:
            number = partition.number
            partition.moved(
                checkpoint.positions[number], needed_from=checkpoint.needed_from[number]
            )

    def _mutes(self, partitions: Iterable[Partition], target: Mapping[int, int]) -> list[Message]:
        """What is to be kept of the mutes of each that is moved."""
        mutes, messages = self._pipeline.stream.mutes, []
        for partition in partitions:
            number = partition.number
            if mutes.settle(number, target[number]) or partition.mutes_changed:
                partition.mutes_changed = False
                messages.append(Message(MUTES_KEY, mutes.encode(number), partition=number))
        return messages

    def _bound(self, due: Bool, changed: Int64, flushed: Bool) -> None:
        """Leave the newest changes for the next transaction where there are too many."""
        wanted = np.flatnonzero(due & ~flushed)
        if len(wanted) > MOST_RECORDS:
            oldest_first = np.argsort(self._since[changed[wanted]], kind="stable")
            due[wanted[oldest_first[MOST_RECORDS:]]] = False

    def _mark(self, number: int, target: int, needed: int, identity: str) -> Watermark:
        return Watermark(
            version=VERSION_WITH_EXTRAS if self._has_extras(number) else VERSION,
            committed=target,
            needed_from=needed,
            event_ns=self._pipeline.event_ns(number)
            if needed == target
            else self._partitions[number].clock_at(needed),
            group=self._deployment.group,
            alerts=self._deployment.alerts,
            model=self._pipeline.primary.policy.model_version,
            by=identity,
            settings=None if self.judge is None else self.judge.settings,
            judged_from=self._partitions[number].judged_from,
            changes=tuple(self._partitions[number].changes),
        )

    def _has_extras(self, number: int) -> bool:
        kept = self._pipeline.stream.mutes.kept(number)
        return bool(kept or len(self._partitions[number].kept))

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


def _among(of: Int64, partitions: Collection[int]) -> Bool:
    """(k,) which of these partitions are among the given ones."""
    if not partitions:
        return np.zeros(len(of), np.bool_)
    return np.isin(of, list(partitions))
