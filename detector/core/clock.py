"""The clock of a partition: event time, and when its series were heard.

Event time is the newest time of the partition's usable ticks so far: a function of the log alone,
whatever the wall clock says. A tick for whose series there is no room moves it too: else names that
nobody knows could never make room by the time they show. A series is heard, at the clock's reading,
when a tick of it is accepted. Where every series of a partition stops, its time stands still.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.ticks import Int64

#: Before every time there is.
NEVER_NS = int(np.iinfo(np.int64).min)


@dataclass(slots=True)
class PartitionClock:
    """event_ns: None before the first tick. oldest_ns: none of the partition's series was heard
    before this; oldest_awake_ns: the same of those that are not silent. Both may lie too far back:
    they only spare the search."""

    event_ns: int | None = None
    oldest_ns: int = NEVER_NS
    oldest_awake_ns: int = NEVER_NS

    def advance(self, time_ns: Int64) -> Int64:
        """The reading after each of some usable ticks, (k,) in order of arrival, k > 0."""
        event = np.maximum.accumulate(time_ns)
        if self.event_ns is not None:
            event = np.maximum(event, self.event_ns)
        self.event_ns = int(event[-1])
        return event
