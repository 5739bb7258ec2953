"""Series that fall silent: not heard while the clock of their partition moved on by more than
silence_s, outside of the times at which that is expected. So a replay finds the same silences at
the same ticks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.clock import NEVER_NS, PartitionClock
from detector.core.quiet import Expected, Quiet
from detector.core.series import NO_SLOT
from detector.core.slots import SlotColumns
from detector.core.ticks import Bool, Int64

_LAST_NS = int(np.iinfo(np.int64).max)


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
class TimedTicks:
    """Usable ticks of one partition in order of arrival; those with NO_SLOT only moved the clock.

    event_ns: (k,) the clock's reading after each; known: (k,) whether its series was seen before
    """

    row: Int64
    slot: Int64
    known: Bool
    event_ns: Int64


class SilenceWatch:
    """Remembers when each series was heard. silence_s None: only that. expected: when its series
    may be silent; name: of a slot."""

    def __init__(
        self,
        *,
        silence_s: float | None,
        expected: Sequence[Expected] = (),
        name: Callable[[int], str] = str,
    ) -> None:
        self._name = name
        self.expect(expected)
        self._limit_ns = None if silence_s is None else round(min(silence_s * 1e9, 4e18))
        self.state = SlotColumns({"heard_ns": ((), np.int64), "silent": ((), np.bool_)})

    def expect(self, expected: Sequence[Expected]) -> None:
        """From the next tick on these are the times at which its series may be silent."""
        self._quiet = Quiet(expected, self._name) if expected else None

    @property
    def looked_up(self) -> tuple[SlotColumns, ...]:
        """What is not kept, but belongs to a series."""
        return () if self._quiet is None else (self._quiet.state,)

    def update(
        self,
        clock: PartitionClock,
        before_ns: int | None,
        ticks: TimedTicks,
        all_slots: Callable[[], Int64],
    ) -> list[SilenceChange]:
        """Advance by ticks that have moved the clock from before_ns; all_slots: of the series of
        the partition, asked for where somebody may be silent. Changes in no particular order."""
        heard, silent = self.state["heard_ns"], self.state["silent"]
        mine = (ticks.slot != NO_SLOT).nonzero()[0]
        slot = ticks.slot[mine]
        fresh = mine[~ticks.known[mine]]  # a series' first tick ever: heard from here on
        heard[ticks.slot[fresh]] = ticks.event_ns[fresh]
        changes: list[SilenceChange] = []
        now_ns = int(ticks.event_ns[-1])
        if self._limit_ns is not None:
            limit_ns = self._limit_ns
            first_ns = int(ticks.event_ns[0]) if before_ns is None else before_ns
            if now_ns - min(clock.oldest_awake_ns, first_ns) > limit_ns:
                inside = all_slots()
                due = inside[silent[inside] | (heard[inside] < self._first_ns(inside, now_ns))]
                for one in due.tolist():
                    own = np.flatnonzero(ticks.slot == one)
                    changes += self._follow(one, own, ticks, limit_ns)
                heard[slot] = np.maximum(heard[slot], ticks.event_ns[mine])
                awake = inside[~silent[inside]]
                clock.oldest_awake_ns = int(heard[awake].min()) if len(awake) else now_ns
                return changes
        for at in mine[silent[slot]].tolist():  # heard again, even if nobody watches any more
            one = int(ticks.slot[at])
            if silent[one]:
                silent[one] = False
                waited = int(ticks.event_ns[at] - heard[one])
                changes.append(SilenceChange(one, int(ticks.row[at]), False, waited))
        # The last assignment of a repeated slot is that of its newest tick.
        heard[slot] = ticks.event_ns[mine]
        return changes

    def _first_ns(self, inside: Int64, now_ns: int) -> Int64 | int:
        """Those heard before are silent now: (k,) of each slot, or of all."""
        assert self._limit_ns is not None
        if self._quiet is None:
            return max(now_ns - self._limit_ns, NEVER_NS)
        return self._quiet.first_ns(inside, now_ns, self._limit_ns)

    def _last_ns(self, slot: int, heard_ns: int, limit_ns: int) -> int:
        """The last moment at which a series heard then is not silent yet."""
        if self._quiet is None:
            return heard_ns + limit_ns
        return self._quiet.of(slot).last_ns(heard_ns, limit_ns)

    def _follow(
        self, slot: int, own: Int64, ticks: TimedTicks, limit_ns: int
    ) -> list[SilenceChange]:
        """One series through the batch. own: positions of its ticks among the partition's."""
        heard, silent = self.state["heard_ns"], self.state["silent"]
        event, row = ticks.event_ns, ticks.row
        changes: list[SilenceChange] = []
        for at in [*own.tolist(), len(event)]:
            if not silent[slot]:
                until_ns = min(self._last_ns(slot, int(heard[slot]), limit_ns), _LAST_NS)
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
