"""Ticks that were decoded from a topic, as columns in memory: a source like a file. Knows no
broker."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detector.core.moments import LAST_NS
from detector.core.tick_format import TickFormat
from detector.core.ticks import Bool, Float64, Int32, Int64, TickBatch
from detector.data.chunks import AutoFields, Columns, auto_fields
from detector.data.sources import DataTable
from detector.data.tables import CHUNK_ROWS, Table

#: Tables hold times as NumPy's, which end a little before 64 bits of nanoseconds do.
_FARTHEST_NS = LAST_NS - 2 * 10**9


@dataclass(frozen=True, slots=True, eq=False)
class Recording:
    """n ticks of a partition in order of offset. names: of its series; number: (n,) the position in
    names; time_ns: (n,); values: (n, fields), in the order of fields."""

    name: str
    form: TickFormat
    fields: tuple[str, ...]
    names: tuple[str, ...]
    number: Int32
    time_ns: Int64
    values: Float64
    series: str = ""  # every tick has its own
    since_ns: int | None = None
    until_ns: int | None = None
    limit: int | None = None

    def __len__(self) -> int:
        return len(self.time_ns)

    def tables(self) -> Iterator[Table]:
        form = self.form
        for start in range(0, len(self), CHUNK_ROWS):
            rows = slice(start, start + CHUNK_ROWS)
            time = self.time_ns[rows].astype("datetime64[ns]")
            cells: dict[str, Any] = {form.timestamp_field: time}
            cells |= {field: self.values[rows, i] for i, field in enumerate(self.fields)}
            cells[form.series_field] = [self.names[i] for i in self.number[rows].tolist()]
            yield Table(cells, len(time))

    def sha256(self) -> str:
        """Of series, times and values in order."""
        digest = hashlib.sha256(repr((self.fields, self.names)).encode())
        for column in (self.number, self.time_ns, self.values):
            digest.update(np.ascontiguousarray(column).tobytes())
        return digest.hexdigest()


class Recorder:
    """Gathers the ticks of a partition, batch by batch: of the first `limit` of them those with
    since_ns <= time < until_ns."""

    def __init__(self, *, since_ns: int | None, until_ns: int | None, limit: int | None) -> None:
        self._since_ns, self._until_ns, self._limit = since_ns, until_ns, limit
        self._taken = 0
        self._number: dict[str, int] = {}
        self._parts: list[tuple[Int32, Int64, Float64]] = []

    @property
    def full(self) -> bool:
        return self._limit is not None and self._taken >= self._limit

    def add(self, batch: TickBatch) -> int:
        """Returns how many were kept."""
        if self._limit is not None:
            batch = batch.part(slice(0, self._limit - self._taken))
        self._taken += len(batch)
        kept = np.flatnonzero(in_time(batch.time_ns, self._since_ns, self._until_ns))
        known, names = self._number, batch.series
        number = [known.setdefault(names[i], len(known)) for i in kept.tolist()]
        if number:
            part = (np.array(number, np.int32), batch.time_ns[kept], batch.values[kept])
            self._parts.append(part)
        return len(number)

    def recording(self, name: str, form: TickFormat, fields: Sequence[str]) -> Recording | None:
        """All of it, which is given away; None: nothing."""
        if not self._parts:
            return None
        parts, self._parts = self._parts, []
        number, time_ns, values = (np.concatenate(column) for column in zip(*parts, strict=True))
        return Recording(name, form, tuple(fields), tuple(self._number), number, time_ns, values)


def in_time(time_ns: Int64, since_ns: int | None, until_ns: int | None) -> Bool:
    """(n,) whether since_ns <= time < until_ns."""
    inside = np.ones(len(time_ns), np.bool_)
    if since_ns is not None:
        inside &= time_ns >= since_ns
    if until_ns is not None:
        inside &= time_ns < until_ns
    return inside


def is_told(time_ns: Int64) -> Bool:
    """(n,) whether a recording can hold a time."""
    result: Bool = np.abs(time_ns) <= _FARTHEST_NS
    return result


def fields_of_objects(
    objects: Sequence[Mapping[str, Any]], name: str, columns: Columns
) -> AutoFields:
    """What `features: auto` takes of decoded ticks. Unlike in a file, a number in quotes and a
    truth value are none: the daemon takes neither. Raises DataError where no column is left."""
    table = {
        column: [_number(one.get(column)) for one in objects]
        for column in (objects[0] if objects else ())
    }
    found = auto_fields(DataTable(table, name=name), columns)
    return replace(found, named=True)  # else it would be no tick


def _number(value: Any) -> Any:
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None
