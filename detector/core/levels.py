"""How a series has been of late: the level from which its views are judged, and how far they stray.

A series that leaves the world its model was trained in (a busier season, a replaced sensor) is
strange in every window from then on; what matters is what is strange even for it. The log evidence
of each view has a level and a spread of its own in each series, exponential moving averages over
its windows; what counts of a window is by how many spreads it stands above the level. They move
after every block of windows of the series, all of which were judged before, and no window pulls by
more than STEP, so a short incident hardly moves them. A series never seen before begins where the
model was calibrated; its own first block is its level then, whatever it is, and after a few more it
is judged by itself alone.
"""

from __future__ import annotations

import numpy as np

from detector.core.blocks import BLOCK, Blocks, Ends, in_blocks
from detector.core.slots import SlotColumns
from detector.core.ticks import Float64, Int64

#: Of levels and spreads, in lengths of the window.
HALF_LIFE = 20
#: The farthest a window pulls, as if it were no farther from the level (log1p of evidence), but in
#: the first block of a series, whose own level is not known yet.
STEP = 2.0
#: Added to a spread: a series that stands still is not strange for the smallest move.
LEAST_SPREAD = 0.2


def pace(*, length: int, stride: int) -> float:
    """Weight of a block: what was HALF_LIFE windows' ticks ago counts half, a block a quarter at
    most."""
    return min(float(1 - 0.5 ** (BLOCK * stride / (HALF_LIFE * length))), 0.25)


class Levels:
    """level, spread: (v,) where those of each view begin; kept of a series is the difference to
    them, so that one never seen starts there."""

    def __init__(self, level: Float64, spread: Float64, pace: float) -> None:
        self._level, self._spread = level.astype(np.float64), spread.astype(np.float64)
        self._pace = pace
        self.state = SlotColumns(
            {
                # Level, spread, and the sums of both over the block that is not full yet.
                "levels": ((4, len(level)), np.float64),
                "windows": ((), np.int64),
            }
        )

    def excess(self, slot: Int64, seen: Float64) -> tuple[Float64, Ends]:
        """seen: (w, v) of windows grouped by slot, in order within each -> (w, v), by how many
        spreads each stands above its level, never below 0; and where blocks ended, (b, v), by how
        many calibrated spreads the level of the series stands above the calibrated one then. Moves
        both."""
        ends: list[Ends] = []
        result = np.empty_like(seen)
        if len(slot):
            self.state.reserve(int(slot[-1]) + 1)
            parts = in_blocks(slot, self.state["windows"])
            ends = [self._advance(part, seen, result) for part in parts]
        return result, Ends.joined(ends, (len(self._level),))

    def displaced(self, slots: Int64) -> Float64:
        """(k,) -> (k, v), by how many calibrated spreads the levels of these series stand above the
        calibrated ones now."""
        self.state.reserve(int(slots.max(initial=-1)) + 1)
        return self._displaced(self.state["levels"][slots, 0])

    def _displaced(self, level: Float64) -> Float64:
        result: Float64 = np.maximum(level, 0.0) / (self._spread + LEAST_SPREAD)
        return result

    def _advance(self, part: Blocks, seen: Float64, result: Float64) -> Ends:
        own = self.state["levels"][part.slot]  # (g, 4, v), a copy
        above = part.of(seen) - (self._level + own[:, 0])  # (most, g, v)
        spread = self._spread + own[:, 1]
        part.put(result, np.maximum(above, 0.0) / (spread + LEAST_SPREAD))
        sums = np.empty((part.most + 1, 2, *above.shape[1:]))
        sums[0] = own[:, 2:].swapaxes(0, 1)
        np.minimum(above, self._most(part), out=sums[1:, 0])
        np.minimum(np.abs(above, out=above), STEP, out=sums[1:, 1])
        own[:, 2:] = part.sums(sums).swapaxes(0, 1)
        full = part.full()
        if len(full):
            blocks = (part.after[full] // BLOCK)[:, None]
            weight = np.maximum(self._pace, 1 / blocks)
            own[full, 0] += weight * (own[full, 2] / BLOCK)
            # In its first block a series has no level of its own from which it could stray.
            weight = np.where(blocks > 1, weight, 0.0)
            own[full, 1] += weight * (own[full, 3] / BLOCK - spread[full])
            own[full, 2:] = 0
        self.state["levels"][part.slot] = own
        return Ends(part.ends(full), self._displaced(own[full, 0]))

    def _most(self, part: Blocks) -> float | Float64:
        """How far the windows of each series pull, at most."""
        if int(part.before.min()) >= BLOCK:
            return STEP
        return np.where(part.before < BLOCK, np.inf, STEP)[:, None]
