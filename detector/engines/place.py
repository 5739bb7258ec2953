"""Where numbers of one window stand: a shape and strides over a buffer, as arrays have them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

#: Axes an operation may go over.
DIMS = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Numbers in a buffer: a shape and strides over it, in floats."""

    buffer: int
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def contiguous(self) -> bool:
        expected = row_major(self.shape)
        return all(
            n == 1 or s == e for n, s, e in zip(self.shape, self.strides, expected, strict=True)
        )

    def expanded(self, axis: int) -> Place:
        """One more axis, of size 1."""
        shape = (*self.shape[:axis], 1, *self.shape[axis:])
        return replace(self, shape=shape, strides=(*self.strides[:axis], 0, *self.strides[axis:]))

    def at(self, axis: int, index: int) -> Place:
        """One less: what stands at an index of it."""
        if not -self.shape[axis] <= index < self.shape[axis]:
            raise ValueError("an index beyond an axis")
        offset = self.offset + index % self.shape[axis] * self.strides[axis]
        shape = self.shape[:axis] + self.shape[axis + 1 :]
        return Place(self.buffer, offset, shape, self.strides[:axis] + self.strides[axis + 1 :])

    def sliced(self, axis: int, part: slice) -> Place:
        start, stop, step = part.indices(self.shape[axis])
        count = len(range(start, stop, step))
        if not count:
            raise ValueError("a slice of nothing")
        shape, strides = list(self.shape), list(self.strides)
        shape[axis], strides[axis] = count, strides[axis] * step
        offset = self.offset + start * self.strides[axis]
        return Place(self.buffer, offset, tuple(shape), tuple(strides))

    def transposed(self, order: Sequence[int]) -> Place:
        shape = tuple(self.shape[i] for i in order)
        return replace(self, shape=shape, strides=tuple(self.strides[i] for i in order))

    def broadcast(self, shape: tuple[int, ...]) -> Place:
        """As NumPy does: axes of size 1 are repeated, missing ones come first."""
        missing = len(shape) - len(self.shape)
        sizes = (1,) * missing + self.shape
        strides = (0,) * missing + self.strides
        if any(n not in (1, wanted) for n, wanted in zip(sizes, shape, strict=True)):
            raise ValueError(f"{self.shape} as {shape}")
        repeated = [0 if n == 1 else s for n, s in zip(sizes, strides, strict=True)]
        return replace(self, shape=shape, strides=tuple(repeated))


def row_major(shape: Sequence[int]) -> tuple[int, ...]:
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= size
    return tuple(reversed(strides))


def whole(buffer: int, shape: tuple[int, ...]) -> Place:
    return Place(buffer, 0, shape, row_major(shape))


def merged(
    shape: Sequence[int], strides: Sequence[Sequence[int]]
) -> tuple[tuple[int, ...], list[tuple[int, ...]]]:
    """Fewer axes over the same numbers."""
    axes: list[tuple[int, tuple[int, ...]]] = []
    for size, *own in zip(shape, *strides, strict=True):
        if size == 1:
            continue
        if axes and all(b == s * size for b, s in zip(axes[-1][1], own, strict=True)):
            axes[-1] = (axes[-1][0] * size, tuple(own))
        else:
            axes.append((size, tuple(own)))
    if len(axes) > DIMS:
        raise ValueError("an operation over too many axes")
    merged = [tuple(own[i] for _, own in axes) for i in range(len(strides))]
    return tuple(size for size, _ in axes), merged


def as_one(shape: Sequence[int], strides: Sequence[int]) -> tuple[int, int] | None:
    """Several axes as one, (size, stride); None where they are not."""
    sizes, (own,) = merged(shape, [strides])
    if len(sizes) > 1:
        return None
    return (sizes[0], own[0]) if sizes else (1, 0)
