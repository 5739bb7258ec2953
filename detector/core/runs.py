"""Accepted ticks as uninterrupted runs of feature rows, for training.

Windows are never materialised: a set of windows is the first row of each in one matrix.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.lib.stride_tricks import as_strided

from detector.core.intake import Accepted
from detector.core.ticks import Bool, Float32, Int64


@dataclass(frozen=True, slots=True)
class WindowSet:
    """Windows of one matrix. rows: (ticks, features) contiguous; start: (w,) first rows."""

    rows: Float32
    start: Int64
    length: int

    def __len__(self) -> int:
        return len(self.start)

    def cut(self, which: slice | Int64) -> Float32:
        """(k, length, features) float32, a copy."""
        features = self.rows.shape[1]
        step = features * self.rows.itemsize
        stretches = as_strided(
            self.rows,
            (len(self.rows) - self.length + 1, self.length * features),
            (step, self.rows.itemsize),
        )
        return stretches[self.start[which]].reshape(-1, self.length, features)

    def sample(self, count: int) -> WindowSet:
        """At most count windows, evenly spread."""
        if len(self) <= count:
            return self
        chosen = np.linspace(0, len(self) - 1, count).astype(np.int64)
        return WindowSet(self.rows, self.start[chosen], self.length)


class RunCollector:
    """Gathers accepted ticks batch by batch."""

    def __init__(self) -> None:
        self._parts: dict[int, list[tuple[Float32, Bool]]] = {}

    def add(self, accepted: Accepted) -> None:
        slot = accepted.slot
        if len(slot) == 0:
            return
        begins = np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]])).tolist()
        for begin, end in zip(begins, [*begins[1:], len(slot)], strict=True):
            part = (accepted.features[begin:end], accepted.restart[begin:end])
            self._parts.setdefault(int(slot[begin]), []).append(part)

    def split(self, fractions: tuple[float, float], length: int) -> tuple[WindowSet, ...]:
        """Three sets of windows: of the first fractions[0] of every series' ticks, of the next
        fractions[1], and of the rest. No window crosses a gap or a border. Empties this."""
        matrices: list[Float32] = []
        starts: list[list[Int64]] = [[], [], []]
        offset = 0
        for slot in sorted(self._parts):
            parts = self._parts.pop(slot)
            rows = np.concatenate([p[0] for p in parts])
            restart = np.concatenate([p[1] for p in parts])
            # A run's first row may lack features that look back: it belongs to no window.
            usable = ~np.isnan(rows).any(axis=1)
            restart[1:] |= ~usable[:-1]
            rows, restart = rows[usable], restart[usable]
            n = len(rows)
            cuts = [round(n * fractions[0]), round(n * (fractions[0] + fractions[1]))]
            borders = np.unique([0, *np.flatnonzero(restart).tolist(), *cuts, n])
            for begin, end in zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True):
                if end - begin >= length:
                    kind = 0 if begin < cuts[0] else 1 if begin < cuts[1] else 2
                    starts[kind].append(offset + np.arange(begin, end - length + 1))
            matrices.append(rows)
            offset += n
        matrix = np.concatenate(matrices) if matrices else np.empty((0, 1), np.float32)
        none = np.empty(0, np.int64)
        return tuple(WindowSet(matrix, np.concatenate(s) if s else none, length) for s in starts)
