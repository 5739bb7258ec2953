"""The scores of every series over the last minutes, coarsely: enough to draw what led to an alert.

A point is the highest score within EVERY_S of event time. It stands in a row of the series' own, at
the number of its stretch of time modulo POINTS: no pointer has to move. POINTS is prime, so that a
series whose windows come every so many stretches fills its row all the same, and then remembers
further back.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.slots import SlotColumns
from detector.core.ticks import Bool, Float32, Float64, Int64

EVERY_S = 4
POINTS = 61
#: Series beyond have none: 488 bytes each, 64 MB at most.
MOST_SERIES = 131_072
_EVERY_NS = EVERY_S * 10**9
_LAST = int(np.iinfo(np.int32).max)


@dataclass(frozen=True, slots=True)
class Points:
    """time_s: (k,) ascending, seconds since the epoch, when each stretch of EVERY_S begins; score:
    (k,) the highest in it."""

    time_s: Int64
    score: Float32

    def with_newer(self, newer: Points, *, most: int) -> Points:
        """These, then those of newer that are not before their last; the last `most` of all."""
        if not len(newer.time_s):
            return self
        kept = self.time_s < newer.time_s[0]
        return Points(
            np.concatenate([self.time_s[kept], newer.time_s])[-most:],
            np.concatenate([self.score[kept], newer.score])[-most:],
        )


class ScoreHistory:
    def __init__(self) -> None:
        # Stretch 0 is that of the epoch: no point.
        self._state = SlotColumns(
            {"stretch": ((POINTS,), np.int32), "score": ((POINTS,), np.float32)}
        )

    def record(self, slot: Int64, time_ns: Int64, score: Float64) -> None:
        """Of w windows, grouped by slot, in order within each."""
        if not len(slot):
            return
        stretch = np.minimum(np.maximum(time_ns // _EVERY_NS, 0), _LAST)
        # One row for each series and stretch: times never go back within a series.
        other = (slot[1:] != slot[:-1]) | (stretch[1:] != stretch[:-1])
        if not other.all():
            first = np.append(0, np.flatnonzero(other) + 1)
            score = np.maximum.reduceat(score, first)
            slot, stretch = slot[first], stretch[first]
        highest = score.astype(np.float32)
        keep = self._kept(slot, stretch)
        if not keep.all():
            slot, stretch, highest = slot[keep], stretch[keep], highest[keep]
            if not len(slot):
                return
        self._state.reserve(int(slot[-1]) + 1)
        stretches = self._state["stretch"].reshape(-1)
        scores = self._state["score"].reshape(-1)
        at = slot * POINTS + stretch % POINTS
        same = stretches[at] == stretch
        scores[at] = np.where(same, np.maximum(scores[at], highest), highest)
        stretches[at] = stretch

    def _kept(self, slot: Int64, stretch: Int64) -> Bool:
        """(r,) those that a later one of the same batch does not push out."""
        mine: Bool = slot < MOST_SERIES
        again = slot[1:] == slot[:-1]
        if again.any():
            last = np.append(np.flatnonzero(~again), len(slot) - 1)
            newest = np.repeat(stretch[last], np.diff(np.append(-1, last)))
            mine &= stretch > newest - POINTS
        return mine

    def points(self, slot: int) -> Points:
        """Of one series, oldest first."""
        if slot >= MOST_SERIES:
            return Points(np.empty(0, np.int64), np.empty(0, np.float32))
        self._state.reserve(slot + 1)
        stretch, score = self._state["stretch"][slot], self._state["score"][slot]
        used = np.flatnonzero(stretch)
        used = used[np.argsort(stretch[used])]
        return Points(stretch[used].astype(np.int64) * EVERY_S, score[used])

    def clear(self, slots: Int64) -> None:
        """These series left."""
        self._state.clear(slots)
