"""Per-series columns that grow together, and the table from series to slot.

A slot is a row number. Growth doubles; fresh pages stay untouched (calloc), so capacity
that is not used costs no resident memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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

    def take(self, slots: Int64) -> dict[str, NDArray[Any]]:
        """Copies of the rows of slots."""
        if len(slots):
            self.reserve(int(slots.max()) + 1)
        return {name: array[slots] for name, array in self._arrays.items()}

    def put(self, slots: Int64, rows: Mapping[str, NDArray[Any]]) -> None:
        """Set the rows of slots, as take gave them; columns that are not given stay."""
        if len(slots):
            self.reserve(int(slots.max()) + 1)
        for name, given in rows.items():
            self._arrays[name][slots] = given


class SeriesTable:
    """(partition, series name) to slot. One name in two partitions is two series: only within
    a partition is there an order, so only there is a window well defined."""

    def __init__(self, *, max_series: int) -> None:
        self.max_series = max_series
        self._slots: dict[int, dict[str, int]] = {}
        self._names: list[str | None] = []
        self._partitions: list[int] = []
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._names) - len(self._free)

    @property
    def capacity(self) -> int:
        """One more than the highest slot ever given."""
        return len(self._names)

    def slots(self, partition: int, names: Sequence[str]) -> Int64:
        """The slot of each name, given out at first sight; -1 once max_series are known."""
        table = self._slots.setdefault(partition, {})
        try:
            return np.fromiter(map(table.__getitem__, names), np.int64, len(names))
        except KeyError:
            return np.fromiter((self._slot(partition, table, n) for n in names), np.int64)

    def _slot(self, partition: int, table: dict[str, int], name: str) -> int:
        slot = table.get(name)
        if slot is not None:
            return slot
        if len(self) >= self.max_series:
            return -1
        if self._free:
            slot = self._free.pop()
            self._names[slot], self._partitions[slot] = name, partition
        else:
            slot = len(self._names)
            self._names.append(name)
            self._partitions.append(partition)
        table[name] = slot
        return slot

    def name(self, slot: int) -> str:
        """The series of a slot in use."""
        name = self._names[slot]
        if name is None:
            raise KeyError(slot)
        return name

    def partition(self, slot: int) -> int:
        return self._partitions[slot]

    def of_partition(self, partition: int) -> Int64:
        """The slots in use by a partition."""
        return np.fromiter(self._slots.get(partition, {}).values(), np.int64)

    def partitions(self) -> tuple[int, ...]:
        return tuple(self._slots)

    def release(self, partition: int) -> Int64:
        """Forget a partition's series; their slots (returned) may be given out again."""
        gone = self.of_partition(partition)
        self._slots.pop(partition, None)
        for slot in gone.tolist():
            self._names[slot] = None
            self._free.append(slot)
        return gone
