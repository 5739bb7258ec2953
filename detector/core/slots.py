"""Per-series columns that grow together.

A slot is a row number. Growth doubles; fresh pages stay untouched (calloc), so capacity
that is not used costs no resident memory.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from detector.core.ticks import Int64


class SlotColumns:
    """Named arrays whose first axis is the slot; rows start as zeros."""

    def __init__(self, spec: Mapping[str, tuple[tuple[int, ...], DTypeLike]]) -> None:
        self._arrays: dict[str, NDArray[Any]] = {
            name: np.zeros((64, *shape), dtype) for name, (shape, dtype) in spec.items()
        }

    def __getitem__(self, name: str) -> NDArray[Any]:
        return self._arrays[name]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(self._arrays)

    def reserve(self, slots: int) -> None:
        """Make room for slot numbers below slots."""
        capacity = len(next(iter(self._arrays.values())))
        if slots <= capacity:
            return
        while capacity < slots:
            capacity *= 2
        for name, old in self._arrays.items():
            new = np.zeros((capacity, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            self._arrays[name] = new

    def clear(self, slots: Int64) -> None:
        """Set the rows of slots to zero."""
        for array in self._arrays.values():
            array[slots[slots < len(array)]] = 0

    def adopt(self, other: SlotColumns) -> None:
        """Take over the columns that both have in the same shape; both hold them from now on."""
        capacity = len(next(iter(other._arrays.values())))
        self.reserve(capacity)
        other.reserve(len(next(iter(self._arrays.values()))))
        for name, array in other._arrays.items():
            own = self._arrays.get(name)
            if own is not None and (own.shape, own.dtype) == (array.shape, array.dtype):
                self._arrays[name] = array

    def rows(self, slots: Int64, name: str) -> NDArray[Any]:
        """A copy of the rows of slots in one column."""
        try:
            return self._arrays[name][slots]
        except IndexError:
            self.reserve(int(slots.max()) + 1)
            return self._arrays[name][slots]

    def put(self, slots: Int64, rows: Mapping[str, NDArray[Any]]) -> None:
        """Set the rows of slots; columns that are not given stay."""
        if len(slots):
            self.reserve(int(slots.max()) + 1)
        for name, given in rows.items():
            self._arrays[name][slots] = given
