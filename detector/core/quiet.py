"""When it is expected that some series are quiet: the clock by which silence is told stands still
then. A series is silent once more than a limit has passed outside of the quiet since it was heard.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

import numpy as np

from detector.core.clock import NEVER_NS
from detector.core.patterns import Pattern
from detector.core.recurring import DAY_NS, Recurring, Span, merged
from detector.core.slots import SlotColumns
from detector.core.ticks import Int64

#: Farther from a moment nobody looks: so long a silence is expected, whatever follows.
_MOST_DAYS = 800


class Expected:
    """Windows in which the series of a pattern may be quiet."""

    def __init__(self, pattern: Pattern, windows: Recurring) -> None:
        self.pattern, self.windows = pattern, windows


class Calendar:
    """Several of them, for one series."""

    def __init__(self, windows: Sequence[Recurring]) -> None:
        self._windows = windows

    def _quiet(self, day: int) -> tuple[Span, ...]:
        return merged(list(chain.from_iterable(one.of_day(day) for one in self._windows)))

    def last_ns(self, heard_ns: int, limit_ns: int) -> int:
        """The last moment at which a series heard then is not silent yet."""
        left, at_ns = limit_ns, heard_ns
        first = heard_ns // DAY_NS
        for day in range(first, first + _MOST_DAYS):
            for begin, end in (*self._quiet(day), ((day + 1) * DAY_NS,) * 2):
                if begin > at_ns:
                    if begin - at_ns > left:
                        return at_ns + left
                    left -= begin - at_ns
                at_ns = max(at_ns, end)
        return at_ns

    def first_ns(self, now_ns: int, limit_ns: int) -> int:
        """The first moment at which a series was heard that is not silent now."""
        left, at_ns = limit_ns, now_ns
        last = now_ns // DAY_NS
        for day in range(last, last - _MOST_DAYS, -1):
            for begin, end in ((day * DAY_NS,) * 2, *self._quiet(day))[::-1]:
                if end < at_ns:
                    if at_ns - end > left:
                        return at_ns - left
                    left -= at_ns - end
                at_ns = min(at_ns, begin)
        return NEVER_NS


class Quiet:
    """The calendar of every series. name: of a slot."""

    def __init__(self, expected: Sequence[Expected], name: Callable[[int], str]) -> None:
        self._expected, self._name = expected, name
        self._calendars: list[Calendar] = []
        self._numbers: dict[tuple[int, ...], int] = {}
        #: One more than the number of a slot's calendar; 0: not looked up yet.
        self.state = SlotColumns({"calendar": ((), np.int32)})

    def of(self, slot: int) -> Calendar:
        return self._calendars[int(self._look_up(np.array([slot]))[0])]

    def first_ns(self, slots: Int64, now_ns: int, limit_ns: int) -> Int64:
        """(k,) of each slot: see Calendar."""
        number = self._look_up(slots)
        first = np.full(len(self._calendars), NEVER_NS)
        for one in np.unique(number).tolist():
            first[one] = self._calendars[one].first_ns(now_ns, limit_ns)
        return first[number]

    def _look_up(self, slots: Int64) -> Int64:
        number = self.state.rows(slots, "calendar")
        for at in np.flatnonzero(number == 0).tolist():
            name = self._name(int(slots[at]))
            which = tuple(i for i, one in enumerate(self._expected) if one.pattern.matches(name))
            if which not in self._numbers:
                self._numbers[which] = len(self._calendars)
                self._calendars.append(Calendar([self._expected[i].windows for i in which]))
            number[at] = self._numbers[which] + 1
        self.state.put(slots, {"calendar": number})
        found: Int64 = number.astype(np.int64) - 1
        return found
