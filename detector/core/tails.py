"""What a series makes of its calibration: evidence that keeps its word while the world drifts.

Of calibrated evidence one window in ten is above 1, and what is above is exponential, a factor of
ten for each unit. A series of its own (busier, heavier in the tail, quieter than those the model
was trained on) has another rate and another mean excess; both are followed, and evidence is read in
their light: 4 goes on to mean about one window in ten thousand, of this series, of late. It starts
from the calibration, which counts as much as the first PRIOR blocks. How rare a window is below
_START was not measured, and hardly changes.

An incident must not teach it: a block in which many windows stand out is not learned from. When it
has lasted for PATIENCE blocks, the next ones are.
"""

from __future__ import annotations

import math

import numpy as np

from detector.core.blocks import BLOCK, Blocks, Ends, in_blocks
from detector.core.slots import SlotColumns
from detector.core.survival import MOST_EVIDENCE
from detector.core.ticks import Float64, Int64

#: Where the tail begins, in decades, and how much of an excess counts.
_START, _MOST = 1.0, 3.0
#: The mean excess of calibrated evidence, and how far that of a series may be from it.
_SCALE = 1 / math.log(10)
_LEAST_SCALE, _MOST_SCALE = _SCALE / 4, 4 * _SCALE
#: The rarest that a series may hold a window above _START to be: what is below is stretched by it.
_LEAST_RATE = 0.05
#: Excesses that the calibrated mean counts for, as a share of those that a block should have.
_STEADY = 0.1
#: Blocks that the calibration counts for, and the half-life, in lengths of the window.
PRIOR = 32
HALF_LIFE = 80
#: Windows of its own after which they count for as much as the calibration.
SETTLED = PRIOR * BLOCK
#: An incident: this share of a block has a score above this.
_SHARE, _STANDS_OUT = 0.25, 1.75
#: So many blocks of an incident are not learned from; the next ones are.
PATIENCE = 4

_RATE = 10.0**-_START
_EXCESS = _RATE * _SCALE * (1 - 10.0**-_MOST)
#: The mean of an exponential excess that is cut off at _MOST, and the scale behind it.
_SCALES = np.geomspace(_SCALE / 32, 32 * _SCALE, 1024)
_MEANS = _SCALES * (1 - np.exp(-_MOST / _SCALES))


def pace(*, length: int, stride: int) -> float:
    """Weight of a block: what was HALF_LIFE windows' ticks ago counts half; never so much that the
    calibration would count for less than PRIOR blocks."""
    return min(float(1 - 0.5 ** (BLOCK * stride / (HALF_LIFE * length))), 1 / PRIOR)


def blocks_of(windows: int) -> int:
    """Whole blocks that so many windows are part of."""
    return -(-windows // BLOCK)


class Tails:
    """Of every series. patience: blocks of an incident that are not learned from."""

    def __init__(self, pace: float, *, patience: int = PATIENCE) -> None:
        self._pace, self._patience = pace, patience
        self.state = SlotColumns(
            {
                # Rate and mean excess, as differences to those of calibrated evidence.
                "tail": ((2,), np.float64),
                # Of the block that is not full yet: windows in the tail, excess, standing out.
                "sums": ((3,), np.float64),
                "windows": ((), np.int64),
                "incident": ((), np.int32),
            }
        )

    def adjust(self, slot: Int64, evidence: Float64) -> tuple[Float64, Ends]:
        """evidence: (w,) of windows grouped by slot, in order within each -> (w,) the same in the
        light of what each series was like before its block; and where blocks ended, (b,), for how
        many blocks an incident has lasted then beyond the patience: 0 where it has not, 1 where it
        is learned from for the first time. Learns from it."""
        ends: list[Ends] = []
        result = np.empty_like(evidence)
        if len(slot):
            self.state.reserve(int(slot[-1]) + 1)
            parts = in_blocks(slot, self.state["windows"])
            ends = [self._advance(part, evidence, result) for part in parts]
        return result, Ends.joined(ends)

    def seen(self, slots: Int64) -> Int64:
        """(k,) -> (k,) windows that these series had so far."""
        self.state.reserve(int(slots.max(initial=-1)) + 1)
        windows: Int64 = self.state["windows"][slots]
        return windows

    def _advance(self, part: Blocks, evidence: Float64, result: Float64) -> Ends:
        seen = part.of(evidence)  # (most, g)
        tail = self.state["tail"][part.slot]
        rate, excess = _RATE + tail[:, 0], _EXCESS + tail[:, 1]
        mean = (excess + _STEADY * _EXCESS) / (rate + _STEADY * _RATE)
        scale = np.interp(mean, _MEANS, _SCALES).clip(_LEAST_SCALE, _MOST_SCALE)
        start = -np.log10(rate.clip(_LEAST_RATE, 0.999))
        above = seen - _START
        far = start + above * (_SCALE / scale)
        adjusted = np.where(above > 0, far, seen * (start / _START))
        adjusted = np.minimum(adjusted, MOST_EVIDENCE)
        part.put(result, adjusted)
        sums = np.empty((part.most + 1, 3, len(part.slot)))
        sums[0] = self.state["sums"][part.slot].T
        sums[1:, 0] = above > 0
        sums[1:, 1] = above.clip(0.0, _MOST)
        sums[1:, 2] = adjusted > _STANDS_OUT
        total = part.sums(sums).T  # (g, 3)
        full, beyond = part.full(), np.empty(0)
        if len(full):
            beyond = self._learn(part.slot[full], part.after[full], total[full] / BLOCK)
            total[full] = 0
        self.state["sums"][part.slot] = total
        return Ends(part.ends(full), beyond)

    def _learn(self, slot: Int64, windows: Int64, means: Float64) -> Float64:
        """From whole blocks; for how many an incident has lasted beyond the patience. means: (g, 3)
        of the sums."""
        lasting = np.where(means[:, 2] > _SHARE, self.state["incident"][slot] + 1, 0)
        most = 10**9  # blocks: it may last for years
        self.state["incident"][slot] = np.minimum(lasting, most)
        weight = np.maximum(self._pace, 1 / (windows // BLOCK + PRIOR))
        weight = np.where((lasting == 0) | (lasting > self._patience), weight, 0.0)[:, None]
        tail = self.state["tail"][slot]
        self.state["tail"][slot] = tail + weight * (means[:, :2] - [_RATE, _EXCESS] - tail)
        beyond: Float64 = np.maximum(lasting - self._patience, 0).astype(np.float64)
        return beyond
