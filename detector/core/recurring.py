"""Windows of time that come again: a cron expression says when one begins, by the clocks of a time
zone, and a duration, by the same clocks, how long it lasts: from 22:00 for 8h ends at 06:00, also
in the night in which clocks are changed. A function of the moment asked for alone, so a replay
finds the same windows.

A window whose beginning the clocks skip begins when they have; one whose beginning comes twice
begins the first time, unless its minute or hour is a star (as Debian's cron has it). Where the end
falls into the hour that comes twice, it is in that in which the window began.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import numpy as np
from cronsim import CronSim, CronSimError

from detector.core.ticks import Bool, Int64

DAY_NS = 86_400 * 10**9
#: Half open, nanoseconds since the epoch.
Span = tuple[int, int]
MOST_S = 31 * 86_400
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
#: Clocks of two zones differ by less; so much earlier a window may begin than its UTC day says.
_ZONES = timedelta(hours=27)
_KEPT_DAYS = 512


def time_zone(name: str) -> ZoneInfo:
    """Raises ValueError if nobody knows it."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise ValueError(f"{name!r} is no time zone like Europe/Zurich or UTC") from None


class Recurring:
    """cron: five fields; lasts_s: whole seconds. Raises ValueError where they are none."""

    def __init__(self, cron: str, lasts_s: int, zone: str) -> None:
        self._zone, self._cron = time_zone(zone), cron
        if not 60 <= lasts_s <= MOST_S:
            raise ValueError("a window lasts from one minute to 31 days")
        if len(cron.split()) != 5:
            raise ValueError(f"{cron!r} is no cron expression of five fields like 0 22 * * 1-5")
        self._lasts = timedelta(seconds=lasts_s)
        try:
            next(CronSim(cron, datetime(2000, 1, 1, tzinfo=UTC)))
        except (CronSimError, StopIteration) as error:
            raise ValueError(
                f"{cron!r} is no cron expression ({error or 'it never comes'})"
            ) from None
        self._days: dict[int, tuple[Span, ...]] = {}

    def of_day(self, day: int) -> tuple[Span, ...]:
        """What of a UTC day (its number since the epoch) is inside: disjoint spans, ascending."""
        found = self._days.get(day)
        if found is None:
            if len(self._days) >= _KEPT_DAYS:
                self._days.clear()
            found = self._days[day] = self._find(day)
        return found

    def inside(self, time_ns: int) -> bool:
        return within(self.of_day(time_ns // DAY_NS), time_ns)

    def inside_of(self, times_ns: Int64) -> Bool:
        """(n,) of each of n moments."""
        result = np.zeros(len(times_ns), np.bool_)
        days = times_ns // DAY_NS
        for day in np.unique(days).tolist():
            for begin, end in self.of_day(day):
                result |= (times_ns >= begin) & (times_ns < end) & (days == day)
        return result

    def _find(self, day: int) -> tuple[Span, ...]:
        begin = _EPOCH + timedelta(days=day)
        end = begin + timedelta(days=1)
        spans = []
        try:
            first = (begin - self._lasts - _ZONES).astimezone(self._zone)
            # Of what has a star each minute is looked at: begin where minutes are whole.
            for start in CronSim(self._cron, first.replace(second=0, microsecond=0)):
                if start >= end:
                    break
                spans.append((max(_ns(start), _ns(begin)), min(_ns(self._end(start)), _ns(end))))
        except (OverflowError, StopIteration):  # before the year 1, or past 9999
            pass
        return merged([span for span in spans if span[0] < span[1]])

    def _end(self, start: datetime) -> datetime:
        local = start.replace(tzinfo=None) + self._lasts
        end = local.replace(tzinfo=self._zone, fold=start.fold)
        return max(end.astimezone(UTC), start.astimezone(UTC))


def within(spans: Sequence[Span], time_ns: int) -> bool:
    """Whether one of some disjoint, ascending spans holds the moment."""
    at = bisect_right(spans, time_ns, key=lambda span: span[0]) - 1
    return at >= 0 and time_ns < spans[at][1]


def merged(spans: Sequence[Span]) -> tuple[Span, ...]:
    """The same moments as disjoint spans, ascending."""
    result: list[Span] = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((begin, end))
    return tuple(result)


def _ns(when: datetime) -> int:
    since = when.astimezone(UTC) - _EPOCH
    return (since.days * 86_400 + since.seconds) * 10**9 + since.microseconds * 1000
