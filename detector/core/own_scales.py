"""Features in the scale of their own series.

What is ordinary for the busiest of several series would hide what is impossible for the quietest,
and a sensor that stands higher than the others would be strange for ever. So a model of several
series knows a centre and a scale of each feature in each of them, and sees every series moved and
stretched to a common centre and scale. A series it never saw is seen as it is: as if it were one of
the middle. What people are told (what was observed and expected) is in the features' own units.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detector.core.slots import SlotColumns
from detector.core.ticks import Float32, Float64, Int64

#: Of a value in the common scale: as for any feature, room to subtract a centre.
_LIMIT = np.finfo(np.float32).max / 4


class OwnScales:
    """names: (k,) series; factor, shift: (k, features) from a feature's own units to the common
    ones. Row k, of any other series, changes nothing. Raises ValueError where they contradict each
    other."""

    def __init__(self, names: Sequence[str], factor: Float64, shift: Float64) -> None:
        if not (len(names) == len(set(names)) == len(factor) and factor.shape == shift.shape):
            raise ValueError("a factor and a shift of each feature for each name, once")
        if not (np.isfinite(factor).all() and np.isfinite(shift).all() and (factor > 0).all()):
            raise ValueError("a factor or a shift is no number, or not positive")
        self.names = tuple(names)
        self.factor = np.vstack([factor, np.ones(factor.shape[1:])])
        self.shift = np.vstack([shift, np.zeros(shift.shape[1:])])
        self._row = {name: row for row, name in enumerate(self.names)}

    def row(self, name: str) -> int:
        """Of a series."""
        return self._row.get(name, len(self.names))

    def common(self, rows: Float32, row: int | Int64) -> Float32:
        """rows: (m, features) in their own units, of one series or (m,) of each -> the same in the
        common ones. Elementwise: no neighbour changes it."""
        moved = rows.astype(np.float64)
        moved *= self.factor[row]
        moved += self.shift[row]
        return moved.clip(-_LIMIT, _LIMIT, out=moved).astype(np.float32)

    def own(self, rows: Float32, row: int) -> Float32:
        """What `common` did, undone."""
        moved = (rows.astype(np.float64) - self.shift[row]) / self.factor[row]
        result: Float32 = moved.clip(-_LIMIT, _LIMIT).astype(np.float32)
        return result


class SlotScales:
    """The rows of the series of a stream, each looked for once."""

    def __init__(self, scales: OwnScales) -> None:
        self.scales = scales
        # One more than the row; 0: nobody has looked. Not kept: it is the model's.
        self.state = SlotColumns({"row": ((), np.int32)})

    def rows(self, slots: Int64, name: Callable[[int], str]) -> Int64:
        """(k,) ascending, k >= 1 -> (k,)"""
        self.state.reserve(int(slots[-1]) + 1)
        found = self.state["row"][slots].astype(np.int64)
        new = np.flatnonzero(found == 0)
        if len(new):
            own = [self.scales.row(name(slot)) + 1 for slot in slots[new].tolist()]
            found[new] = self.state["row"][slots[new]] = own
        return found - 1
