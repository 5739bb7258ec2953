"""Names of series, and the slot of each: the row it has in every per-series column."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from itertools import repeat

import numpy as np

from detector.core.names import Names
from detector.core.ticks import Int32, Int64

#: Instead of a slot: the series is not known, or there is no room for it.
NO_SLOT = -1
_NOBODY = -1


class SeriesTable:
    """(partition, series name) to slot. One name in two partitions is two series: only within
    a partition is there an order, so only there is a window well defined."""

    def __init__(self, *, max_series: int) -> None:
        self.max_series = max_series
        self._slots: dict[int, dict[str, int]] = {}
        self._names: list[str | None] = []
        self._partitions = array("i")  # by slot; of a free one it is _NOBODY
        self._free: list[int] = []

    def __len__(self) -> int:
        return len(self._names) - len(self._free)

    @property
    def capacity(self) -> int:
        """One more than the highest slot ever given."""
        return len(self._names)

    def slots(self, partition: int, names: Sequence[str]) -> Int64:
        """The slot of each name, given out at first sight; NO_SLOT once max_series are known."""
        table = self._slots.setdefault(partition, {})
        try:
            return np.fromiter(map(table.__getitem__, names), np.int64, len(names))
        except KeyError:
            return np.fromiter((self._slot(partition, table, n) for n in names), np.int64)

    def slots_of(self, partition: Int32, names: Sequence[str]) -> Int64:
        """The same for names of several partitions, (n,) each."""
        if isinstance(names, Names):
            return self._slots_of_codes(partition, names)
        borders = np.flatnonzero(partition[1:] != partition[:-1]) + 1
        if not len(borders):
            return self.slots(int(partition[0]), names) if len(names) else np.empty(0, np.int64)
        ends = [*borders.tolist(), len(names)]
        begins = [0, *borders.tolist()]
        return np.concatenate(
            [
                self.slots(int(partition[begin]), names[begin:end])
                for begin, end in zip(begins, ends, strict=True)
            ]
        )

    def _slots_of_codes(self, partition: Int32, names: Names) -> Int64:
        """Each distinct name is looked for once. Who is new comes in the order of the ticks."""
        if not len(names):
            return np.empty(0, np.int64)
        first = int(partition[0])
        if (partition == first).all():
            slots = self._known(first, names)
        else:
            slots = np.empty(len(names), np.int64)
            for one in np.unique(partition).tolist():
                rows = np.flatnonzero(partition == one)
                slots[rows] = self._known(one, names.at(rows))
        new = np.flatnonzero(slots == NO_SLOT)
        if len(new):
            key = partition[new].astype(np.int64) * len(names.distinct) + names.code[new]
            _, at, which = np.unique(key, return_index=True, return_inverse=True)
            given = np.empty(len(at), np.int64)
            for i in np.argsort(at).tolist():
                row = int(new[at[i]])
                number = int(partition[row])
                table = self._slots.setdefault(number, {})
                given[i] = self._slot(number, table, names[row])
            slots[new] = given[which]
        return slots

    def _known(self, partition: int, names: Names) -> Int64:
        """(n,) the slots of a partition's series that are known, of n >= 1 names."""
        table = self._slots.get(partition, {})
        distinct, code = names.distinct, names.code
        if len(distinct) > len(code):  # most of them have no tick here
            used, which = np.unique(code, return_inverse=True)
            distinct, code = [distinct[i] for i in used.tolist()], which.astype(np.int32)
        slots = np.fromiter(map(table.get, distinct, repeat(NO_SLOT)), np.int64, len(distinct))
        return slots[code]

    def used(self) -> Int64:
        """The slots that are given out, ascending."""
        return np.flatnonzero(np.array(self._partitions) != _NOBODY)

    def names(self) -> list[str]:
        """Of the series that are there, a copy; one of two partitions is in it twice."""
        return [name for table in self._slots.values() for name in table]

    def slots_named(self, name: str) -> list[int]:
        """The slots of the series of this name, one a partition that has one."""
        return [table[name] for table in self._slots.values() if name in table]

    def find(self, partition: int, name: str) -> int:
        """The slot of a series that is known already, else NO_SLOT."""
        return self._slots.get(partition, {}).get(name, NO_SLOT)

    def _slot(self, partition: int, table: dict[str, int], name: str) -> int:
        slot = table.get(name)
        if slot is not None:
            return slot
        if len(self) >= self.max_series:
            return NO_SLOT
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

    def in_use(self, slot: int) -> bool:
        return self._names[slot] is not None

    def partition(self, slot: int) -> int:
        return self._partitions[slot]

    def partitions_of(self, slots: Int64) -> Int32:
        """The same of slots in use, (k,) each."""
        return np.frombuffer(self._partitions, np.int32)[slots]

    def of_partition(self, partition: int) -> Int64:
        """The slots in use by a partition."""
        table = self._slots.get(partition, {})
        return np.fromiter(table.values(), np.int64, len(table))

    def partitions(self) -> tuple[int, ...]:
        return tuple(self._slots)

    def forget(self, slots: Int64) -> None:
        """These series leave; their slots may be given out again."""
        for slot in slots.tolist():
            del self._slots[self._partitions[slot]][self.name(slot)]
            self._leave(slot)

    def release(self, partition: int) -> Int64:
        """Forget a partition's series; their slots (returned) may be given out again."""
        gone = self.of_partition(partition)
        self._slots.pop(partition, None)
        for slot in gone.tolist():
            self._leave(slot)
        return gone

    def _leave(self, slot: int) -> None:
        self._names[slot], self._partitions[slot] = None, _NOBODY
        self._free.append(slot)
