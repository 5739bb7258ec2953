"""Between which knots numbers lie, for several ascending rows of knots at once.

Bisection guesses wrong at every other knot, and a processor pays for that: sixty nanoseconds a
number. The first bits of a number, its exponent and some of its fraction, are a place in a table
instead, of how many knots lie below all numbers that begin so; a few comparisons do the rest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detector.core.ticks import Float64, Int64

#: Bits of the fraction that count, and how many comparisons may be left, the fewer the better.
_BITS = (6, 7, 8, 9, 10)
_ENOUGH, _MOST = 2, 8
#: Places in the tables of all rows together.
_PLACES = 1 << 17


class Knots:
    """rows: of at least one finite number each, ascending. begin: (v, 1) where each would begin
    behind the others, were there one number more in each."""

    def __init__(self, rows: Sequence[Float64]) -> None:
        self._rows = rows
        self.begin = np.cumsum([0, *(len(row) + 1 for row in rows[:-1])])[:, None]
        self._knots = np.concatenate([part for row in rows for part in (row, [np.inf])])
        self._tables: _Tables | None = None
        for bits in _BITS:
            tables = _Tables.of(rows, self.begin[:, 0], 52 - bits)
            if tables is None:
                break
            if tables.left <= _MOST and (self._tables is None or tables.left < self._tables.left):
                self._tables = tables
            if tables.left <= _ENOUGH:
                break

    @property
    def left(self) -> int | None:
        """How often a number is compared; None: as often as it takes to bisect."""
        return None if self._tables is None else self._tables.left

    def below(self, numbers: Float64) -> Int64:
        """(v, w), a line for each row, none above the last knot of it -> (v, w): its begin and how
        many of its knots are not above the number; of NaN any number of them."""
        found: Int64
        if self._tables is None:  # knots in all orders of magnitude, or negative ones
            found = np.empty(numbers.shape, np.int64)
            for own, row, asked in zip(found, self._rows, numbers, strict=True):
                own[:] = row.searchsorted(asked, side="right")
            found += self.begin
            return found
        found = self._tables.least(numbers)
        for _ in range(self._tables.left):
            found += self._knots[found] <= numbers
        return found


class _Tables:
    """lowest: (v, 1) the first bits that each row's first place stands for; begin, end: (v, 1) its
    first place and its last; table: how many knots are not above the numbers of a place, at least;
    left: and how many more, at most."""

    def __init__(
        self, shift: int, lowest: Int64, begin: Int64, end: Int64, table: Int64, left: int
    ) -> None:
        self._shift, self._lowest, self._begin, self._end = shift, lowest, begin, end
        self._table, self.left = table, left

    @classmethod
    def of(cls, rows: Sequence[Float64], begin: Int64, shift: int) -> _Tables | None:
        """None: there would be too many places."""
        # A place for all that is below the smallest positive knot, one for each first bits up to
        # those of the largest.
        spans = [_places(row, shift) for row in rows]
        sizes = [last - first + 2 for first, last in spans]
        if sum(sizes) > _PLACES:
            return None
        tables, left = [], 0
        for row, start, (first, last) in zip(rows, begin.tolist(), spans, strict=True):
            starts = (np.arange(first, last + 2) << shift).view(np.float64)
            least = np.concatenate([[0], row.searchsorted(starts[:-1], side="right")])
            most = row.searchsorted(starts, side="left")
            left = max(left, int((most - least).max()))
            tables.append(start + least)
        ends = np.cumsum(sizes)[:, None]
        lowest = np.array([[first - 1] for first, _ in spans])
        begins = ends - np.array(sizes)[:, None]
        return cls(shift, lowest, begins, ends - 1, np.concatenate(tables), left)

    def least(self, numbers: Float64) -> Int64:
        place = numbers.view(np.int64) >> self._shift  # ascends with the number, from 0 on
        place += self._begin - self._lowest
        np.maximum(place, self._begin, out=place)
        np.minimum(place, self._end, out=place)
        found: Int64 = self._table[place]
        return found


def _places(row: Float64, shift: int) -> tuple[int, int]:
    """The first bits of the smallest positive number, and of the largest. Both zeros, which are the
    same number in other bits, come before them."""
    positive = row[row > 0]
    if not len(positive):
        return 1, 1
    first, last = positive[[0, -1]].view(np.int64) >> shift
    return max(int(first), 1), max(int(last), 1)
