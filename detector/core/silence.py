"""Event time of a partition, and the series that fall silent in it.

The event time of a partition is the newest time of its accepted ticks so far: a function of
the log alone. A series is heard when a tick of it is accepted; it is silent once the event time
has moved on by more than silence_s since. So a replay finds the same silences at the same
ticks, whatever the wall clock says. Where every series of a partition stops, its time stands
still, and so does this.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.intake import Accepted
from detector.core.slots import SeriesTable, SlotColumns
from detector.core.ticks import Bool, Int64, TickBatch

_FIRST_NS, _LAST_NS = np.iinfo(np.int64).min, np.iinfo(np.int64).max
_NOBODY = -1


@dataclass(frozen=True, slots=True)
class SilenceChange:
    """A series that fell silent (opened) or was heard again, at a row of the batch.

    silent_ns: how far the event time had moved on since the series was heard
    """

    slot: int
    row: int
    opened: bool
    silent_ns: int


@dataclass(frozen=True, slots=True)
class _Ticks:
    """Ticks of one partition in order of arrival; those of nobody only move the time."""

    row: Int64
    slot: Int64
    known: Bool
    time_ns: Int64


class SilenceWatch:
    """Follows event time per partition. silence_s None: only that."""

    def __init__(self, *, silence_s: float | None) -> None:
        self._limit_ns = None if silence_s is None else round(min(silence_s * 1e9, 4e18))
        self.state = SlotColumns({"heard_ns": ((), np.int64), "silent": ((), np.bool_)})
        self._event_ns: dict[int, int] = {}
        # No series of the partition that is not silent was heard before this.
        self._oldest_ns: dict[int, int] = {}

    def event_ns(self, partition: int) -> int | None:
        """The newest accepted time of a partition; None before its first tick."""
        return self._event_ns.get(partition)

    def set_event_ns(self, partition: int, event_ns: int) -> None:
        self._event_ns[partition] = event_ns
        self._oldest_ns[partition] = _FIRST_NS  # looked up at the next tick

    def forget(self, partition: int) -> None:
        self._event_ns.pop(partition, None)
        self._oldest_ns.pop(partition, None)

    def update(
        self, batch: TickBatch, accepted: Accepted, series: SeriesTable
    ) -> list[SilenceChange]:
        """Advance by the accepted ticks of a batch; changes in no particular order. Held ticks
        move the event time, as they did the first time, and nothing else."""
        if len(accepted.row) + len(accepted.held) == 0:
            return []
        self.state.reserve(series.capacity)
        row = np.concatenate([accepted.row, accepted.held])
        order = np.argsort(row)
        row = row[order]
        slot = np.concatenate([accepted.slot, np.full(len(accepted.held), _NOBODY)])[order]
        known = np.concatenate([accepted.known, np.ones(len(accepted.held), np.bool_)])[order]
        partition = batch.partition[row]
        changes: list[SilenceChange] = []
        for one in np.unique(partition).tolist():
            own = partition == one
            ticks = _Ticks(row[own], slot[own], known[own], batch.time_ns[row[own]])
            changes += self._advance(one, ticks, accepted.seen, series)
        return changes

    def _advance(
        self, partition: int, ticks: _Ticks, seen: Bool, series: SeriesTable
    ) -> list[SilenceChange]:
        """seen: (slots,) the series seen so far."""
        before_ns = self._event_ns.get(partition, int(ticks.time_ns[0]))
        event = np.maximum(np.maximum.accumulate(ticks.time_ns), before_ns)
        now_ns = int(event[-1])
        self._event_ns[partition] = now_ns

        heard, silent = self.state["heard_ns"], self.state["silent"]
        mine = np.flatnonzero(ticks.slot != _NOBODY)
        slot = ticks.slot[mine]
        fresh = mine[~ticks.known[mine]]  # a series' first tick ever: heard from here on
        heard[ticks.slot[fresh]] = event[fresh]
        changes: list[SilenceChange] = []
        if self._limit_ns is not None:
            limit_ns = self._limit_ns
            oldest_ns = min(self._oldest_ns.get(partition, _FIRST_NS), before_ns)
            if now_ns - oldest_ns > limit_ns:
                inside = series.of_partition(partition)
                inside = inside[inside < len(seen)]
                inside = inside[seen[inside]]
                due = inside[silent[inside] | (heard[inside] < max(now_ns - limit_ns, _FIRST_NS))]
                for one in due.tolist():
                    own = np.flatnonzero(ticks.slot == one)
                    changes += self._follow(one, own, event, ticks.row, limit_ns)
                heard[slot] = np.maximum(heard[slot], event[mine])
                awake = inside[~silent[inside]]
                self._oldest_ns[partition] = int(heard[awake].min()) if len(awake) else now_ns
                return changes
        for at in mine[silent[slot]].tolist():  # heard again, even if nobody watches any more
            one = int(ticks.slot[at])
            if silent[one]:
                silent[one] = False
                waited = int(event[at] - heard[one])
                changes.append(SilenceChange(one, int(ticks.row[at]), False, waited))
        # The last assignment of a repeated slot is that of its newest tick.
        heard[slot] = event[mine]
        return changes

    def _follow(
        self, slot: int, own: Int64, event: Int64, row: Int64, limit_ns: int
    ) -> list[SilenceChange]:
        """One series through the batch. own: positions of its ticks among the partition's."""
        heard, silent = self.state["heard_ns"], self.state["silent"]
        changes: list[SilenceChange] = []
        for at in [*own.tolist(), len(event)]:
            if not silent[slot]:
                until_ns = min(int(heard[slot]) + limit_ns, _LAST_NS)
                begins = int(np.searchsorted(event, until_ns, side="right"))
                if begins < at:
                    silent[slot] = True
                    waited = int(event[begins] - heard[slot])
                    changes.append(SilenceChange(slot, int(row[begins]), True, waited))
            if at < len(event):
                if silent[slot]:
                    silent[slot] = False
                    waited = int(event[at] - heard[slot])
                    changes.append(SilenceChange(slot, int(row[at]), False, waited))
                heard[slot] = event[at]
        return changes
