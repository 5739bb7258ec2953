"""The rules of time, and features: which ticks of a batch are accepted, and as what.

Per series, in order of arrival: a tick that is not finite is rejected; one older than the
newest is late; one that repeats the newest (same time, same values) is a duplicate; a gap
above max_gap_s makes the tick the first of a new run. A tick whose time is more than
max_future_s past the broker's timestamp of its record is rejected: accepted, it would make
every later tick of its series late. The only state is the newest tick of each series, so any
split of a stream into batches gives the same result.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.core.features import FeatureSet
from detector.core.slots import SlotColumns
from detector.core.ticks import Bool, Float32, Int64, Outcome, TickBatch


@dataclass(frozen=True, slots=True)
class Accepted:
    """The m accepted ticks of a batch, grouped by slot, in order of arrival within each.

    row: (m,) where each stands in the batch
    slot: (m,)
    restart: (m,) whether the tick begins a new run of its series
    features: (m, features) float32; NaN in a run's first tick if a feature looks back
    known: (m,) whether its series was seen before it
    seen: (slots,) the series seen so far, this batch included
    gaps: how many ticks begin a new run because of max_gap_s
    outcome: (n,) of every tick of the batch; SCORED stands for accepted
    reason: row of a rejected tick -> one of REJECT_REASONS
    late: (l,) rows of late ticks
    held: (h,) rows of usable ticks that the state of their series holds already
    """

    row: Int64
    slot: Int64
    restart: Bool
    features: Float32
    known: Bool
    seen: Bool
    gaps: int
    outcome: NDArray[np.uint8]
    reason: dict[int, str]
    late: Int64
    held: Int64


class Intake:
    """Accepts ticks batch by batch. max_gap_s, max_future_s: None for no limit."""

    def __init__(
        self, features: FeatureSet, *, max_gap_s: float | None, max_future_s: float | None = None
    ) -> None:
        self.features = features
        self._max_future_ms = None if max_future_s is None else int(min(max_future_s * 1e3, 9e18))
        self._max_gap_ns = None if max_gap_s is None else round(min(max_gap_s * 1e9, 9.2e18))
        self.newest = SlotColumns(
            {
                "seen": ((), np.bool_),
                "time_ns": ((), np.int64),
                "values": ((len(features.fields),), np.float64),
            }
        )

    def accept(self, batch: TickBatch, held: Bool | None = None) -> Accepted:
        """Apply the rules to a batch and remember its newest ticks. held: (n,) ticks that the
        state of their series holds already; they are only looked at."""
        n = len(batch)
        outcome = np.full(n, Outcome.SCORED, np.uint8)
        operands = self.features.operands(batch.values)
        numbers = np.isfinite(operands).all(axis=1) & np.isfinite(batch.values).all(axis=1)
        finite: Bool = np.asarray(numbers, np.bool_)  # its type is too wide
        usable: Bool = finite & (batch.slot >= 0)
        if self._max_future_ms is not None:
            # Milliseconds, of whole ones: the difference cannot wrap.
            ahead_ms = batch.time_ns // 10**6 - batch.received_ms
            in_time: Bool = ahead_ms <= self._max_future_ms
            usable = usable & (in_time | (batch.received_ms < 0))  # -1: unknown
        reason: dict[int, str] = {}
        if not usable.all():
            outcome[~usable] = Outcome.REJECTED
            for bad in np.flatnonzero(~usable).tolist():
                reason[bad] = (
                    "series_limit"
                    if batch.slot[bad] < 0
                    else "far_future"
                    if finite[bad]
                    else "not_finite"
                )
        row: Int64 = np.flatnonzero(usable if held is None else usable & ~held)
        before: Int64 = np.flatnonzero(usable & held) if held is not None else row[:0]
        if len(row) == 0:
            return self._nothing(outcome, reason, before)
        row = row[np.argsort(batch.slot[row], kind="stable")]
        self.newest.reserve(int(batch.slot[row[-1]]) + 1)

        row = self._drop(row, self._late(batch, row), outcome, Outcome.LATE)
        row = self._drop(row, self._duplicate(batch, row), outcome, Outcome.DUPLICATE)
        if len(row) == 0:
            return self._nothing(outcome, reason, before)

        slot = batch.slot[row]
        first = _first_of_group(slot)
        seen = self.newest["seen"][slot]
        time_ns = batch.time_ns[row]
        previous_ns = np.concatenate([time_ns[:1], time_ns[:-1]])
        previous_ns[first] = self.newest["time_ns"][slot[first]]
        known = ~first | seen
        # Restored from another model's state the newest time is known, its values are not.
        restart = ~known | (first & np.isnan(self.newest["values"][slot]).any(axis=1))
        gaps = 0
        if self._max_gap_ns is not None:
            # Times are in order, so the difference is positive; unsigned it never wraps.
            gap_ns = time_ns.astype(np.uint64) - previous_ns.astype(np.uint64)
            gap = known & (gap_ns > np.uint64(self._max_gap_ns))
            gaps = int(np.count_nonzero(gap))
            restart |= gap

        operands = operands[row]
        previous = np.concatenate([operands[:1], operands[:-1]])
        with np.errstate(all="ignore"):  # rows of unseen series are zeros; restart masks them
            previous[first] = self.features.operands(self.newest["values"][slot[first]])
        features = self.features.compute(operands, previous, time_ns, previous_ns, ~restart)

        last = np.flatnonzero(np.append(first[1:], True))
        self.newest["seen"][slot[last]] = True
        self.newest["time_ns"][slot[last]] = time_ns[last]
        self.newest["values"][slot[last]] = batch.values[row[last]]
        late = np.flatnonzero(outcome == Outcome.LATE)
        seen = self.newest["seen"]
        return Accepted(
            row, slot, restart, features, known, seen, gaps, outcome, reason, late, before
        )

    def _nothing(self, outcome: NDArray[np.uint8], reason: dict[int, str], held: Int64) -> Accepted:
        none, no = np.empty(0, np.int64), np.empty(0, np.bool_)
        features = np.empty((0, len(self.features.names)), np.float32)
        late = np.flatnonzero(outcome == Outcome.LATE)
        seen = self.newest["seen"]
        return Accepted(none, none, no, features, no, seen, 0, outcome, reason, late, held)

    def _late(self, batch: TickBatch, row: Int64) -> Bool:
        """Older than the newest tick of its series before it."""
        slot, time_ns = batch.slot[row], batch.time_ns[row]
        first = _first_of_group(slot)
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

    def _duplicate(self, batch: TickBatch, row: Int64) -> Bool:
        """Same time and values as the tick before it in its series."""
        slot, time_ns, values = batch.slot[row], batch.time_ns[row], batch.values[row]
        first = _first_of_group(slot)
        same_time = ~first & (np.concatenate([time_ns[:1], time_ns[:-1]]) == time_ns)
        duplicate = np.zeros(len(row), np.bool_)
        again = np.flatnonzero(same_time)
        duplicate[again] = (values[again] == values[again - 1]).all(axis=1)
        begins = np.flatnonzero(first)
        stored = slot[begins]
        duplicate[begins] = (
            self.newest["seen"][stored]
            & (self.newest["time_ns"][stored] == time_ns[begins])
            & (self.newest["values"][stored] == values[begins]).all(axis=1)
        )
        return duplicate

    @staticmethod
    def _drop(row: Int64, gone: Bool, outcome: NDArray[np.uint8], why: Outcome) -> Int64:
        if not gone.any():
            return row
        outcome[row[gone]] = why
        kept: Int64 = row[~gone]
        return kept


def _first_of_group(slot: Int64) -> Bool:
    first = np.ones(len(slot), np.bool_)
    first[1:] = slot[1:] != slot[:-1]
    return first
