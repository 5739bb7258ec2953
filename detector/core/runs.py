"""Rows of features as uninterrupted runs of feature rows, for training.

Windows are never materialised: a set of windows is the first row of each in one matrix.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.readings import FeatureRows
from detector.core.stretches import cut
from detector.core.ticks import Bool, Float32, Float64, Int64


def spread_evenly(count: int, most: int) -> Int64:
    """Of count positions at most `most`, from the first to the last."""
    return np.linspace(0, count - 1, min(count, most)).astype(np.int64)


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
        return cut(self.rows, self.start[which], self.length)

    def sample(self, count: int) -> WindowSet:
        """At most count windows, evenly spread."""
        return WindowSet(self.rows, self.start[spread_evenly(len(self), count)], self.length)


@dataclass(frozen=True, slots=True)
class History:
    """All windows of normal series, in order of time within each.

    series: (w,) which one; time: (w,) how far into it the window begins, from 0 to 1;
    held_out: (w,) no tick of the window trains the network; end_ns: (w,) time of its last tick
    """

    windows: WindowSet
    series: Int64
    time: Float64
    held_out: Bool
    end_ns: Int64

    def part(self, which: Int64) -> History:
        windows = WindowSet(self.windows.rows, self.windows.start[which], self.windows.length)
        return History(
            windows,
            self.series[which],
            self.time[which],
            self.held_out[which],
            self.end_ns[which],
        )


#: Ticks of a series: features, whether a run begins, time.
_Part = tuple[Float32, Bool, Int64]


class RunCollector:
    """Gathers rows batch by batch."""

    def __init__(self) -> None:
        self._parts: dict[int, list[_Part]] = {}
        self._begun = 0

    @property
    def series(self) -> int:
        return len(self._parts)

    @property
    def slots(self) -> list[int]:
        """Of the series, in the order in which a history numbers them."""
        return sorted(self._parts)

    @property
    def gaps(self) -> int:
        """How often a series was interrupted."""
        return max(0, self._begun - self.series)

    def add(self, found: FeatureRows) -> None:
        slot = found.slot
        if len(slot) == 0:
            return
        self._begun += int(found.restart.sum())
        begins = np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]])).tolist()
        for begin, end in zip(begins, [*begins[1:], len(slot)], strict=True):
            own = slice(begin, end)
            part = (found.features[own], found.restart[own], found.time_ns[own])
            self._parts.setdefault(int(slot[begin]), []).append(part)

    def rows(self, slot: int) -> list[Float32]:
        """Of a series, in parts, as they came: what is written into them stays."""
        return [rows for rows, _, _ in self._parts[slot]]

    def runs(self) -> list[Float32]:
        """Uninterrupted runs of features, (m, features) each, m >= 1."""
        found: list[Float32] = []
        for parts in self._parts.values():
            rows, restart, _ = _usable(parts)
            borders = np.unique([0, *np.flatnonzero(restart).tolist(), len(rows)])
            found += [rows[begin:end] for begin, end in _stretches(borders, 1)]
        return found

    def split(
        self, fractions: tuple[float, float], length: int
    ) -> tuple[tuple[WindowSet, ...], History]:
        """Three sets of windows: of the first fractions[0] of every series' ticks, of the next
        fractions[1], and of the rest, where no window crosses a border; and all windows of the
        whole history. None crosses a gap. Empties this."""
        matrices: list[Float32] = []
        starts: list[list[Int64]] = [[], [], []]
        whole: list[tuple[Int64, Int64, Float64, Bool, Int64]] = []
        offset = 0
        for slot in self.slots:
            rows, restart, time_ns = _usable(self._parts.pop(slot))
            n = len(rows)
            cuts = [round(n * fractions[0]), round(n * (fractions[0] + fractions[1]))]
            gaps = np.unique([0, *np.flatnonzero(restart).tolist(), n])
            for begin, end in _stretches(np.union1d(gaps, cuts), length):
                kind = 0 if begin < cuts[0] else 1 if begin < cuts[1] else 2
                starts[kind].append(offset + np.arange(begin, end - length + 1))
            for begin, end in _stretches(gaps, length):
                at = np.arange(begin, end - length + 1)
                series = np.full(len(at), len(matrices))
                end_ns = time_ns[at + length - 1]
                whole.append((offset + at, series, at / n, at >= cuts[0], end_ns))
            matrices.append(rows)
            offset += n
        matrix = np.concatenate(matrices) if matrices else np.empty((0, 1), np.float32)
        none = np.empty(0, np.int64)
        found = (WindowSet(matrix, np.concatenate(s) if s else none, length) for s in starts)
        if not whole:
            return tuple(found), History(
                WindowSet(matrix, none, length), none, np.empty(0), none > 0, none
            )
        start, *about = (np.concatenate(one) for one in zip(*whole, strict=True))
        return tuple(found), History(WindowSet(matrix, start, length), *about)


def _usable(parts: Sequence[_Part]) -> _Part:
    rows, restart, time_ns = (np.concatenate(column) for column in zip(*parts, strict=True))
    # A run's first row may lack features that look back: it belongs to no window.
    usable = ~np.isnan(rows).any(axis=1)
    restart[1:] |= ~usable[:-1]
    return rows[usable], restart[usable], time_ns[usable]


def _stretches(borders: Int64, length: int) -> list[tuple[int, int]]:
    """From border to border, where there is room for a window."""
    pairs = zip(borders[:-1].tolist(), borders[1:].tolist(), strict=True)
    return [(begin, end) for begin, end in pairs if end - begin >= length]


def ticks_needed(
    wanted: Sequence[int], shares: Sequence[float], length: int, *, series: int, gaps: int
) -> int:
    """Ticks, in series of about one size, that give each part its wanted windows. In each part a
    series loses the window it begins with, and another one with each gap."""
    return math.ceil(
        max(
            (least + (series + gaps * share) * length) / share
            for least, share in zip(wanted, shares, strict=True)
        )
    )
