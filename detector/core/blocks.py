"""Windows of many series, block by block: what follows a series moves once a block, so that all
series move together however long each is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.ticks import Bool, Float64, Int64

#: Windows of a series between two moves.
BLOCK = 32


@dataclass(frozen=True, slots=True)
class Blocks:
    """The next windows of g series, of each at most what is left of its block.

    slot: (g,); before: (g,) windows of the series so far; after: with these; begin: (g,) where the
    first of each stands, the others follow
    row: (most, g) where they stand; None: they are one stretch, as many of each series
    there: (most, g) which of them are meant, the first ones of each; None: all
    """

    slot: Int64
    before: Int64
    after: Int64
    begin: Int64
    most: int
    row: Int64 | None
    there: Bool | None

    def of(self, values: Float64) -> Float64:
        """(w, ...) -> (most, g, ...), in memory of its own or not."""
        if self.row is not None:
            return values[self.row]
        return self._stretch(values)

    def put(self, into: Float64, values: Float64) -> None:
        """(most, g, ...) to their places in (w, ...)."""
        if self.row is None:
            self._stretch(into)[...] = values
        elif self.there is None:
            into[self.row] = values
        else:
            into[self.row[self.there]] = values[self.there]

    def full(self) -> Int64:
        """Which of the g are at the end of a block now."""
        at_end: Bool = self.after % BLOCK == 0
        return at_end.nonzero()[0]

    def ends(self, full: Int64) -> Int64:
        """The rows of the last windows of these of the g."""
        last: Int64 = (self.begin + self.after - self.before)[full] - 1
        return last

    def sums(self, sums: Float64) -> Float64:
        """(1 + most, k, g, ...) -> (k, g, ...): what there was so far and what each window adds,
        one after the other, so that it is the same however a block comes in parts."""
        if self.there is not None:
            sums[1:] *= self.there.reshape(self.most, 1, -1, *(1,) * (sums.ndim - 3))
        return in_order(sums)

    def _stretch(self, values: Float64) -> Float64:
        first, series = int(self.begin[0]), len(self.slot)
        own = values[first : first + self.most * series]
        return own.reshape(series, self.most, *values.shape[1:]).swapaxes(0, 1)


@dataclass(frozen=True, slots=True)
class Ends:
    """Where blocks ended. row: (b,) ascending; value: (b, ...) what was known there."""

    row: Int64
    value: Float64

    @classmethod
    def joined(cls, parts: Sequence[Ends], shape: tuple[int, ...] = ()) -> Ends:
        """Of the parts of an update; shape: of a value."""
        parts = [part for part in parts if len(part.row)]
        if len(parts) < 2:  # within a part they are ascending already
            return parts[0] if parts else cls(np.empty(0, np.int64), np.empty((0, *shape)))
        row = np.concatenate([part.row for part in parts])
        order = np.argsort(row)
        return cls(row[order], np.concatenate([part.value for part in parts])[order])


def in_order(values: Float64) -> Float64:
    """(n, ...) -> (...), the sum over the first axis, one after the other: for a single column
    NumPy would add in pairs, and what is no multiple of them would change with n."""
    if values.shape[1:] == (1,) * (values.ndim - 1):
        one: Float64 = np.add.accumulate(values)[-1]
        return one
    result: Float64 = np.add.reduce(values)
    return result


def first_of_groups(slot: Int64) -> Int64:
    """(w,) slots of w >= 1 windows grouped by slot -> (g,) where each group begins."""
    return np.concatenate([_FIRST, (slot[1:] != slot[:-1]).nonzero()[0] + 1])


def in_blocks(slot: Int64, windows: Int64) -> Iterator[Blocks]:
    """Of w >= 1 windows grouped by slot, in order within each. windows: (slots,) how many each
    series had; counted on after each part."""
    begins = first_of_groups(slot)
    if len(begins) == len(slot):  # one of each: the usual poll of a stream that is not behind
        before = windows[slot]
        after = before + 1
        yield Blocks(slot, before, after, begins, 1, None, None)
        windows[slot] = after
        return
    ends = np.append(begins[1:], len(slot))
    while len(begins):
        who = slot[begins]
        before = windows[who]
        count = np.minimum(BLOCK - before % BLOCK, ends - begins)
        after = before + count
        most, row, there = int(count.max()), None, None
        even = int(count.min()) == most
        if not even or int(begins[-1] - begins[0]) != most * (len(begins) - 1):
            step = np.arange(most)[:, None]
            row = begins + step
            if not even:
                row = np.minimum(row, len(slot) - 1)
                there = step < count
        yield Blocks(who, before, after, begins, most, row, there)
        windows[who] = after
        begins = begins + count
        left = begins < ends
        begins, ends = begins[left], ends[left]


_FIRST = np.zeros(1, np.int64)
