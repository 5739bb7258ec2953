"""The rules of time: which usable ticks are accepted, and where a series begins anew.

Per series, in order of arrival: a tick older than the newest is late; one that repeats the newest
(same time, same values) is a duplicate; a gap above max_gap_s makes the tick the first of a new
run. The only state is the newest tick of each series, so any split of a stream into batches gives
the same result. Knows nothing of models: what a tick's values are good for is theirs to say.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.core.slots import SlotColumns
from detector.core.ticks import Bool, Float64, Int64, Outcome, TickBatch


@dataclass(frozen=True, slots=True)
class Accepted:
    """The m accepted ticks of a batch, grouped by slot, in order of arrival within each.

    row: (m,) where each stands in the batch
    slot: (m,)
    first: (m,) whether it is the first of its series in the batch
    known: (m,) whether its series was seen before it
    restart: (m,) whether the tick begins a new run of its series
    time_ns, previous_ns: (m,) of the tick, and of the one before it in its series
    values_before: (series, fields) the newest values of each series before the batch; NaN where
        they are not known, zeros of a series not seen
    gaps: how many ticks begin a new run because of max_gap_s
    """

    row: Int64
    slot: Int64
    first: Bool
    known: Bool
    restart: Bool
    time_ns: Int64
    previous_ns: Int64
    values_before: Float64
    gaps: int

    def __len__(self) -> int:
        return len(self.row)


@dataclass(frozen=True, slots=True)
class _Beside:
    """Ticks grouped by slot; begins: (series,) where each begins, the others as in Accepted."""

    first: Bool
    begins: Int64
    known: Bool
    time_ns: Int64
    previous_ns: Int64


class Intake:
    """Accepts ticks batch by batch. max_gap_s: None for no limit."""

    def __init__(self, *, fields: int, max_gap_s: float | None) -> None:
        self._max_gap_ns = None if max_gap_s is None else round(min(max_gap_s * 1e9, 9.2e18))
        self._fields = fields
        self.newest = SlotColumns(
            {
                "seen": ((), np.bool_),
                "time_ns": ((), np.int64),
                "values": ((fields,), np.float64),
            }
        )

    def read_other_fields(self, fields: int) -> None:
        """From now on a tick has other raw values: the newest ones are not known any more."""
        self._fields, before = fields, self.newest
        self.newest = SlotColumns(
            {
                "seen": ((), np.bool_),
                "time_ns": ((), np.int64),
                "values": ((fields,), np.float64),
            }
        )
        self.newest.adopt(before)
        # Of the same number, too, they are others.
        self.newest.put(
            np.arange(len(self.newest["seen"])),
            {"values": np.full((len(self.newest["seen"]), fields), np.nan)},
        )

    def accept(
        self, batch: TickBatch, row: Int64, slot: Int64, outcome: NDArray[np.uint8]
    ) -> Accepted:
        """Apply the rules to some ticks of a batch and remember the newest. row: (k,) which ones,
        ascending; slot: (k,) of each; outcome: (n,) of the batch, where late ones and duplicates
        are noted."""
        if len(row) == 0:
            return self._nothing()
        order = by_slot(slot)
        if order is not None:
            row, slot = row[order], slot[order]
        self.newest.reserve(int(slot[-1]) + 1)
        ticks = self._beside(batch, row, slot)
        if (ticks.known & (ticks.time_ns <= ticks.previous_ns)).any():
            late = self._late(batch, row, slot)
            row, slot = _drop(row, slot, late, outcome, Outcome.LATE)
            again = self._duplicate(batch, row, slot)
            row, slot = _drop(row, slot, again, outcome, Outcome.DUPLICATE)
            if len(row) == 0:
                return self._nothing()
            ticks = self._beside(batch, row, slot)
        # Otherwise every tick is newer than the one before it: the usual batch.

        known, time_ns, previous_ns = ticks.known, ticks.time_ns, ticks.previous_ns
        restart, gaps = ~known, 0
        if self._max_gap_ns is not None:
            # Times are in order, so the difference is positive; unsigned it never wraps.
            gap_ns = time_ns.view(np.uint64) - previous_ns.view(np.uint64)
            gap = known & (gap_ns > np.uint64(self._max_gap_ns))
            gaps = int(np.count_nonzero(gap))
            restart |= gap
        begins, series = ticks.begins, slot[ticks.begins]
        values_before = self.newest["values"][series]

        last = np.append(begins[1:], len(row)) - 1
        self.newest["seen"][series] = True
        self.newest["time_ns"][series] = time_ns[last]
        self.newest["values"][series] = batch.values[row[last]]
        first = ticks.first
        return Accepted(row, slot, first, known, restart, time_ns, previous_ns, values_before, gaps)

    def _beside(self, batch: TickBatch, row: Int64, slot: Int64) -> _Beside:
        """Ticks grouped by slot, beside the newest before the batch."""
        first = first_of_group(slot)
        begins = first.nonzero()[0]
        series = slot[begins]
        time_ns = batch.time_ns[row]
        previous_ns = np.empty_like(time_ns)
        previous_ns[1:] = time_ns[:-1]
        previous_ns[begins] = self.newest["time_ns"][series]
        known = np.ones(len(slot), np.bool_)
        known[begins] = self.newest["seen"][series]
        return _Beside(first, begins, known, time_ns, previous_ns)

    def _nothing(self) -> Accepted:
        none, no = np.empty(0, np.int64), np.empty(0, np.bool_)
        return Accepted(none, none, no, no, no, none, none, np.empty((0, self._fields)), 0)

    def _late(self, batch: TickBatch, row: Int64, slot: Int64) -> Bool:
        """Older than the newest tick of its series before it."""
        time_ns = batch.time_ns[row]
        first = first_of_group(slot)
        seen = self.newest["seen"][slot]
        floor = np.where(seen, self.newest["time_ns"][slot], time_ns)
        backwards = ~first & (np.concatenate([time_ns[:1], time_ns[:-1]]) > time_ns)
        if not backwards.any():  # in order within the batch: the usual case
            late: Bool = time_ns < floor
            return late
        # The newest so far, per group: a running maximum over (group, rank of time).
        rank = np.unique(np.maximum(time_ns, floor), return_inverse=True)[1].reshape(-1)
        group = np.cumsum(first)
        key = group * (len(row) + 1) + rank
        newest_so_far = np.maximum.accumulate(key)
        before = np.concatenate([key[:1], newest_so_far[:-1]])
        before[first] = key[first]
        return (key < before) | (time_ns < floor)

    def _duplicate(self, batch: TickBatch, row: Int64, slot: Int64) -> Bool:
        """Same time and values as the tick before it in its series."""
        time_ns, values = batch.time_ns[row], batch.values[row]
        first = first_of_group(slot)
        same_time = ~first & (np.concatenate([time_ns[:1], time_ns[:-1]]) == time_ns)
        duplicate = np.zeros(len(row), np.bool_)
        again = same_time.nonzero()[0]
        duplicate[again] = (values[again] == values[again - 1]).all(axis=1)
        begins = first.nonzero()[0]
        stored = slot[begins]
        duplicate[begins] = (
            self.newest["seen"][stored]
            & (self.newest["time_ns"][stored] == time_ns[begins])
            & (self.newest["values"][stored] == values[begins]).all(axis=1)
        )
        return duplicate


def by_slot(slot: Int64) -> Int64 | None:
    """(k,) -> (k,), what groups ticks by slot and keeps them in order within each; None: they are.
    Sixteen bits at a time NumPy sorts in a time that grows with k alone."""
    if (slot[1:] >= slot[:-1]).all():
        return None
    order = np.argsort(slot.astype(np.uint16), kind="stable")
    if int(slot.max()) >= 1 << 16:
        high = (slot >> 16).astype(np.uint16)
        order = order[np.argsort(high[order], kind="stable")]
    return order


def first_of_group(slot: Int64) -> Bool:
    """(m,) grouped slots -> whether each is the first of its group."""
    first = np.ones(len(slot), np.bool_)
    first[1:] = slot[1:] != slot[:-1]
    return first


def _drop(
    row: Int64, slot: Int64, gone: Bool, outcome: NDArray[np.uint8], why: Outcome
) -> tuple[Int64, Int64]:
    if not gone.any():
        return row, slot
    outcome[row[gone]] = why
    return row[~gone], slot[~gone]
