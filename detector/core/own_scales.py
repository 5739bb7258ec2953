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
from detector.core.ticks import Float32, Int64

#: As for any feature, room to subtract a centre.
_LIMIT = np.float32(np.finfo(np.float32).max / 4)


class OwnScales:
    """names: (k,) series; center, factor: (k, features) of each, common: (features,). A feature is
    seen as (its value - center) * factor + common. Row k, of any other series, changes nothing.
    Raises ValueError where they contradict each other."""

    def __init__(
        self, names: Sequence[str], center: Float32, factor: Float32, common: Float32
    ) -> None:
        shapes = {center.shape, factor.shape, (len(names), *common.shape)}
        if len(set(names)) < len(names) or len(shapes) > 1:
            raise ValueError("a centre and a factor of each feature for each name, once")
        if not all(np.isfinite(one).all() for one in (center, factor, common)):
            raise ValueError("a centre or a factor is no number")
        if not (factor > 0).all():
            raise ValueError("a factor is not positive")
        self.names = tuple(names)
        none = (1, *common.shape)
        self.center = np.vstack([center, np.zeros(none)]).astype(np.float32)
        self.factor = np.vstack([factor, np.ones(none)]).astype(np.float32)
        # -0.0 and not 0.0: added to -0.0 that would change it.
        self.common = np.vstack([np.tile(common, (len(names), 1)), np.full(none, -0.0)]).astype(
            np.float32
        )
        self._row = {name: row for row, name in enumerate(self.names)}

    def row(self, name: str) -> int:
        """Of a series."""
        return self._row.get(name, len(self.names))

    def seen(self, rows: Float32, row: int | Int64) -> Float32:
        """rows: (..., features) in their own units -> the same as the model sees them; row: of all,
        or an array that with a further axis for the features broadcasts against rows. Elementwise:
        no neighbour changes it. The centre goes first: near it nothing is rounded."""
        with np.errstate(over="ignore"):  # what is beyond the floats is at their limit
            moved: Float32 = rows - self.center[row]
            moved *= self.factor[row]
            moved += self.common[row]
        return moved.clip(-_LIMIT, _LIMIT, out=moved)

    def own(self, rows: Float32, row: int) -> Float32:
        """What `seen` did, undone."""
        moved = (rows.astype(np.float64) - self.common[row]) / self.factor[row] + self.center[row]
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
