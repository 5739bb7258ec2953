"""The last ticks of every series, and the windows a batch completes.

History lies in one array (slots, length - 1, features). A batch is laid out once behind the
history of the series it touches; every window is then a contiguous stretch of that layout,
so cutting one is a copy of length * features floats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.blocks import first_of_groups
from detector.core.own_scales import OwnScales
from detector.core.slots import SlotColumns
from detector.core.stretches import cut, stretches
from detector.core.ticks import Bool, Float32, Int64


@dataclass(frozen=True, slots=True)
class Scales:
    """Those of the series of m pushed ticks. row: (m,)"""

    of: OwnScales
    row: Int64


@dataclass(frozen=True, slots=True)
class Windows:
    """w windows, cut only when asked for.

    tick: (w,) index of each window's last tick among the pushed ticks
    warming: (m,) pushed ticks whose series has no full window yet
    """

    tick: Int64
    warming: Bool
    _layout: Float32  # (rows, features), contiguous
    _seen: Float32  # the same as the model sees it
    _start: Int64  # (w,) first row of each window
    _length: int
    _scales: Scales | None

    def __len__(self) -> int:
        return len(self.tick)

    def cut(self, which: slice | Int64) -> Float32:
        """Windows by position, as the model sees them: (k, length, features) float32, a copy."""
        return cut(self._seen, self._start[which], self._length)

    def observed(self, which: Int64) -> Float32:
        """The same in the features' own units."""
        return cut(self._layout, self._start[which], self._length)

    def own(self, window: int, rows: Float32) -> Float32:
        """Rows (k, features) as the model sees the series of a window, in their own units."""
        if self._scales is None:
            return rows
        return self._scales.of.own(rows, int(self._scales.row[self.tick[window]]))


class WindowStore:
    """Histories of all series; stride counts in ticks from a run's first full window."""

    def __init__(self, *, length: int, features: int, stride: int, needs_previous: bool) -> None:
        self.length = length
        self._features = features
        self._stride = stride
        # A run's first tick has no predecessor: where a feature needs one it is tick zero.
        self._run_at_restart = 0 if needs_previous else 1
        self.state = SlotColumns(
            {
                "history": ((length - 1, features), np.float32),
                "run": ((), np.int64),  # ticks with features since the last restart
            }
        )

    def push(
        self, slot: Int64, restart: Bool, features: Float32, scales: Scales | None = None
    ) -> Windows:
        """Add ticks grouped by slot. slot, restart: (m,); features: (m, features); scales: in which
        the model sees them, None: as they are."""
        m, back = len(slot), self.length - 1
        if m == 0:
            empty = np.empty((self.length, self._features), np.float32)
            return Windows(slot, restart, empty, empty, slot, self.length, scales)
        self.state.reserve(int(slot[-1]) + 1)
        begins = first_of_groups(slot)
        if len(begins) == m:
            return self._push_one_each(slot, restart, features, scales)
        last = np.append(begins[1:], m) - 1
        touched, each = slot[begins], np.arange(len(begins))
        group = np.repeat(each, last - begins + 1)
        position = np.arange(m)

        # Layout: for each series its history, then its new rows.
        layout_row = position + (group + 1) * back
        layout = np.empty((m + len(begins) * back, self._features), np.float32)
        layout[layout_row] = features
        whole = stretches(layout, back)
        whole[begins + each * back] = self.state["history"][touched].reshape(len(touched), -1)

        # Ticks since the last restart, counted from the restart or from the stored count.
        run = position + (self.state["run"][touched] + 1 - begins)[group]
        if restart.any():
            anchor = np.where(restart, position, -1)
            anchor = np.maximum.accumulate(anchor)
            since = position - anchor + self._run_at_restart
            run = np.where(anchor >= begins[group], since, run)

        full = run >= self.length
        closes = full if self._stride == 1 else full & ((run - self.length) % self._stride == 0)
        tick = closes.nonzero()[0]
        history = whole[layout_row[last] - back + 1]
        self.state["history"][touched] = history.reshape(len(touched), back, self._features)
        self.state["run"][touched] = run[last]
        seen = layout
        if scales is not None:
            row = np.repeat(scales.row[begins], last - begins + 1 + back)
            seen = scales.of.seen(layout, row)
        return Windows(tick, ~full, layout, seen, layout_row[tick] - back, self.length, scales)

    def _push_one_each(
        self, slot: Int64, restart: Bool, features: Float32, scales: Scales | None
    ) -> Windows:
        """The same where no series has more than one tick."""
        m, back = len(slot), self.length - 1
        layout = np.empty((m, self.length, self._features), np.float32)
        layout[:, :back] = self.state["history"][slot]
        layout[:, back] = features
        run = self.state["run"][slot] + 1
        run[restart] = self._run_at_restart
        full = run >= self.length
        closes = full if self._stride == 1 else full & ((run - self.length) % self._stride == 0)
        tick = closes.nonzero()[0]
        self.state["history"][slot] = layout[:, 1:]
        self.state["run"][slot] = run
        rows = layout.reshape(-1, self._features)
        seen = rows
        if scales is not None:
            seen = scales.of.seen(layout, scales.row[:, None]).reshape(rows.shape)
        return Windows(tick, ~full, rows, seen, tick * self.length, self.length, scales)
