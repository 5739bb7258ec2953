"""Series that leave: not heard while the clock of their partition moved on by forget_after_s.

Looked for where the clock passes a line, of which there are LINES in forget_after_s: a series goes
with the first tick past such a line at which it is due, so a little later than it could. A line is
a multiple of a fixed time, and the clock a function of the log, so a replay forgets the same series
at the same ticks, however it is cut into batches.
"""

from __future__ import annotations

import numpy as np

from detector.core.clock import PartitionClock
from detector.core.ticks import Int64

#: Names may churn by the thousand a second: each line costs a look at the partition's series.
LINES = 64


class Forgetting:
    """forget_after_s: None for never."""

    def __init__(self, *, forget_after_s: float | None) -> None:
        self._limit_ns = 0 if forget_after_s is None else round(min(forget_after_s * 1e9, 4e18))
        self._step_ns = max(1, self._limit_ns // LINES)

    def borders(self, clock: PartitionClock, time_ns: Int64) -> Int64:
        """Which of some usable ticks of a partition, (k,) in order of arrival, pass a line while a
        series may be due. The clock has not moved to them yet."""
        if not self._limit_ns or not len(time_ns):
            return np.empty(0, np.int64)
        if int(time_ns.max()) - clock.oldest_ns <= self._limit_ns:
            return np.empty(0, np.int64)
        before_ns = int(time_ns[0]) if clock.event_ns is None else clock.event_ns
        if int(time_ns.max()) // self._step_ns <= before_ns // self._step_ns:
            return np.empty(0, np.int64)  # no line is passed
        event = np.maximum(np.maximum.accumulate(time_ns), before_ns)
        line = np.concatenate([[before_ns // self._step_ns], event // self._step_ns])
        passes = line[1:] > line[:-1]
        # Python's integers: a clock near the end of 64 bits does not wrap.
        due_from_ns = min(clock.oldest_ns + self._limit_ns, int(np.iinfo(np.int64).max))
        return np.flatnonzero(passes & (event > due_from_ns))

    def due(self, clock: PartitionClock, heard_ns: Int64) -> Int64:
        """Positions of the series that are due now, of all series of the partition: (k,) when each
        was heard. The clock learns what it may be spared."""
        if not len(heard_ns) or clock.event_ns is None:
            return np.empty(0, np.int64)
        limit_ns = max(clock.event_ns - self._limit_ns, int(np.iinfo(np.int64).min))
        due = heard_ns < limit_ns
        left = heard_ns[~due]
        clock.oldest_ns = int(left.min()) if len(left) else clock.event_ns
        return np.flatnonzero(due)
