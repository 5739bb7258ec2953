"""The last ticks of every series, and the windows a batch completes.

History lies in one array (slots, length - 1, features). A batch is laid out once behind the
history of the series it touches; every window is then a contiguous stretch of that layout,
so cutting one is a copy of length * features floats.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from detector.core.slots import SlotColumns
from detector.core.ticks import Bool, Float32, Int64


@dataclass(frozen=True, slots=True)
class Windows:
    """w windows, cut only when asked for.

    tick: (w,) index of each window's last tick among the pushed ticks
    warming: (m,) pushed ticks whose series has no full window yet
    """

    tick: Int64
    warming: Bool
    _layout: Float32  # (rows, features), contiguous
    _start: Int64  # (w,) first row of each window
    _length: int

    def __len__(self) -> int:
        return len(self.tick)

    def cut(self, which: slice | Int64) -> Float32:
        """Windows by position: (k, length, features) float32, a copy."""
        features = self._layout.shape[1]
        flat = _stretches(self._layout, self._length)[self._start[which]]
        return flat.reshape(-1, self._length, features)


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

    def push(self, slot: Int64, restart: Bool, features: Float32) -> Windows:
        """Add ticks grouped by slot. slot, restart: (m,); features: (m, features)."""
        m, back = len(slot), self.length - 1
        if m == 0:
            empty = np.empty((self.length, self._features), np.float32)
            return Windows(slot, restart, empty, slot, self.length)
        self.state.reserve(int(slot[-1]) + 1)
        begins = np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]]))
        ends = np.concatenate([begins[1:], [m]])
        touched = slot[begins]
        group = np.repeat(np.arange(len(begins)), ends - begins)

        # Layout: for each series its history, then its new rows.
        layout_row = np.arange(m) + (group + 1) * back
        layout = np.empty((m + len(begins) * back, self._features), np.float32)
        layout[layout_row] = features
        _stretches(layout, back)[begins + np.arange(len(begins)) * back] = self.state["history"][
            touched
        ].reshape(len(touched), -1)

        # Ticks since the last restart, counted from the restart or from the stored count.
        anchor = np.zeros(m, np.int64)
        marks = restart.copy()
        marks[begins] = True
        anchor[marks] = np.flatnonzero(marks)
        anchor = np.maximum.accumulate(anchor)
        base = np.where(restart, self._run_at_restart, self.state["run"][slot] + 1)
        run = base[anchor] + (np.arange(m) - anchor)

        full = run >= self.length
        tick = np.flatnonzero(full & ((run - self.length) % self._stride == 0))

        last = ends - 1
        history = _stretches(layout, back)[layout_row[last] - back + 1]
        self.state["history"][touched] = history.reshape(len(touched), back, self._features)
        self.state["run"][touched] = run[last]
        return Windows(tick, ~full, layout, layout_row[tick] - back, self.length)


def _stretches(layout: Float32, length: int) -> Float32:
    """Every stretch of length rows as one flat row: a view, no copy."""
    features = layout.shape[1]
    return as_strided(
        layout,
        (len(layout) - length + 1, length * features),
        (features * layout.itemsize, layout.itemsize),
    )
