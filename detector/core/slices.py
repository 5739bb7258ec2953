"""Many byte strings in one buffer: what a fetch brings, without an object each."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import overload

import numpy as np

from detector.core.ticks import Int64

_NONE = -1


@dataclass(frozen=True, slots=True)
class Slices(Sequence[bytes | None]):
    """start, length: (n,) where each stands in the buffer, in bytes; length -1: there is none."""

    buffer: bytes
    start: Int64
    length: Int64

    @classmethod
    def of(cls, values: Iterable[bytes | None]) -> Slices:
        several = list(values)
        there = [value for value in several if value is not None]
        length = np.fromiter(map(len, there), np.int64, len(there))
        if len(there) < len(several):
            every = np.full(len(several), _NONE, np.int64)
            every[[value is not None for value in several]] = length
            length = every
        size = np.maximum(length, 0)
        return cls(b"".join(there), np.cumsum(size) - size, length)

    def __len__(self) -> int:
        return len(self.start)

    def __iter__(self) -> Iterator[bytes | None]:
        for start, length in zip(self.start.tolist(), self.length.tolist(), strict=True):
            yield None if length < 0 else self.buffer[start : start + length]

    @overload
    def __getitem__(self, at: int) -> bytes | None: ...
    @overload
    def __getitem__(self, at: slice) -> Slices: ...
    def __getitem__(self, at: int | slice) -> bytes | Slices | None:
        if isinstance(at, slice):
            return Slices(self.buffer, self.start[at], self.length[at])
        start, length = int(self.start[at]), int(self.length[at])
        return None if length < 0 else self.buffer[start : start + length]

    def size(self) -> int:
        """Bytes of all of them."""
        return int(np.maximum(self.length, 0).sum())
