"""Packed records of a block to columns, and the reason for each tick or record that is none."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from detector.core.decoded import LONGEST_NAME, NAMELESS, Decoded
from detector.core.moments import UNIT_NS, write_moment
from detector.core.names import Names
from detector.core.packed import NO_TIME, DamagedError, Packed, names_of, unpack
from detector.core.records import RecordBlock
from detector.core.tick_format import TickFormat, key_name
from detector.core.ticks import Bool, Float64, Int32, Int64, Reject

#: Instead of a series: the record has none there; it has a name that cannot be one.
_NO_SERIES, _NAMELESS = -1, -2
#: Tables of the names of fields that are remembered: so many, none of more bytes.
_SHAPES, _SHAPE_BYTES = 64, 65_536
_Column = TypeVar("_Column", Int64, Int32, Float64)


@dataclass(slots=True)
class _Found:
    """Of the records so far; one part a record."""

    count: list[int] = field(default_factory=list)
    row: list[int] = field(default_factory=list)
    time_ns: list[Int64] = field(default_factory=list)
    values: list[Float64] = field(default_factory=list)
    code: list[Int32] = field(default_factory=list)
    numbers: dict[str, int] = field(default_factory=dict)
    tables: dict[tuple[bytes, int], Int32] = field(default_factory=dict)
    rejects: list[Reject] = field(default_factory=list)


class PackedReader:
    """Takes the fields it is asked for out of records that name theirs. A field that is the time
    has it in input.timestamp_unit, in seconds for iso8601."""

    def __init__(self, form: TickFormat, fields: Sequence[str]) -> None:
        self._form, self._fields = form, tuple(fields)
        self._time = [i for i, name in enumerate(fields) if name == form.timestamp_field]
        self._asked = tuple(name for name in fields if name != form.timestamp_field)
        self._into = np.array([i for i in range(len(fields)) if i not in self._time], np.int64)
        self._known_columns = lru_cache(_SHAPES)(self._find_columns)

    def read(self, block: RecordBlock) -> Decoded:
        """The ticks of a block in order, and a Reject for each tick or record that is none."""
        found = _Found()
        for row, value in enumerate(block.values):
            try:
                self._record(block, row, value, found)
            except _RefusedError as why:
                at = block.partition, int(block.offsets[row])
                if why.ticks:
                    found.rejects.append(Reject(*at, 0, why.reason, str(why), why.ticks))
        return self._checked(block, found)

    def _record(self, block: RecordBlock, row: int, value: bytes | None, found: _Found) -> None:
        if value is None:
            raise _RefusedError("null", "the record has no value")
        limit = self._form.max_record_bytes
        if len(value) > limit:
            detail = f"{len(value)} bytes exceed input.max_record_bytes = {limit}"
            raise _RefusedError("too_large", detail)
        try:
            packed = unpack(value)
            columns = self._columns(packed)
            of_record = self._codes(packed, found)
        except DamagedError as error:
            raise _RefusedError("not_decodable", f"not packed: {error}") from None
        n = len(packed)
        if self._form.series_from == "key":
            code = np.full(n, _number(self._key(block.keys[row]), found), np.int32)
        elif packed.code is not None:
            code = of_record[np.minimum(packed.code, packed.series_count)]
        else:
            code = np.full(n, of_record[0], np.int32)
        if isinstance(columns, str):
            raise _RefusedError("missing_field", f"field {columns!r} is absent", ticks=n)
        found.count.append(n)
        found.row.append(row)
        found.time_ns.append(packed.time_ns)
        found.code.append(code)
        found.values.append(packed.values if columns is None else packed.values[:, columns])

    def _columns(self, packed: Packed) -> Int64 | str | None:
        small = len(packed.fields) <= _SHAPE_BYTES
        find = self._known_columns if small else self._find_columns
        return find(packed.fields, packed.field_count)

    def _find_columns(self, table: bytes, count: int) -> Int64 | str | None:
        """Where the fields that are asked for stand; None: all there are, in order; the name of one
        that is not there. Raises DamagedError."""
        names = names_of(table, count)
        if len(set(names)) != len(names):
            raise DamagedError("a field stands there twice")
        place = {name: i for i, name in enumerate(names)}
        absent = [name for name in self._asked if name not in place]
        if absent:
            return absent[0]
        if names == self._asked:
            return None
        return np.array([place[name] for name in self._asked], np.int64)

    def _codes(self, packed: Packed, found: _Found) -> Int32:
        """(series + 1,) the number of each series of a record, and of none. Raises DamagedError."""
        known = found.tables.get((packed.series, packed.series_count))
        if known is None:
            names = names_of(packed.series, packed.series_count)
            if self._form.series_from == "key":  # they do not count
                names = ()
            codes = [_number(name, found) for name in names]
            known = np.array([*codes, _NO_SERIES], np.int32)
            found.tables[packed.series, packed.series_count] = known
        return known

    def _key(self, key: bytes | None) -> str:
        try:
            return key_name(key)
        except ValueError:
            detail = "the record's key holds no series name"
            raise _RefusedError("no_series", detail) from None

    def _checked(self, block: RecordBlock, found: _Found) -> Decoded:
        """Without the ticks that are none."""
        count = np.array(found.count, np.int64)
        total = int(count.sum())
        time_ns = _joined(found.time_ns, np.empty(0, np.int64))
        code = _joined(found.code, np.empty(0, np.int32))
        values = np.empty((total, len(self._fields)))
        asked = _joined(found.values, np.empty((0, len(self._asked))))
        if self._time:
            values[:, self._into] = asked
            factor = UNIT_NS.get(self._form.timestamp_unit, UNIT_NS["s"])
            values[:, self._time] = (time_ns / factor)[:, None]
        else:
            values = asked
        row = np.repeat(np.array(found.row, np.int64), count)
        index = np.arange(total) - np.repeat(np.cumsum(count) - count, count)
        kept = self._good(block, found, time_ns, code, asked, row, index)
        if kept is not None:
            time_ns, code, values = time_ns[kept], code[kept], values[kept]
            row, index = row[kept], index[kept]
        series = Names(tuple(found.numbers), code)
        return Decoded(series, time_ns, values, row, index.astype(np.int32), found.rejects)

    def _good(
        self,
        block: RecordBlock,
        found: _Found,
        time_ns: Int64,
        code: Int32,
        asked: Float64,
        row: Int64,
        index: Int64,
    ) -> Bool | None:
        """(n,) which ticks are; None: all. The others are refused."""
        good: Bool = (time_ns != NO_TIME) & (code >= 0)
        finite = np.isfinite(asked)
        if not finite.all():
            good &= finite.all(axis=1)
        if bool(good.all()):
            return None
        for i in np.flatnonzero(~good).tolist():
            wrong = np.flatnonzero(~finite[i]).tolist()
            if wrong:
                reason, detail = "not_finite", f"field {self._asked[wrong[0]]!r} is not finite"
            elif code[i] < 0:
                reason = "no_series"
                detail = NAMELESS if code[i] == _NAMELESS else "the record has no such series"
            else:
                reason, detail = "bad_timestamp", f"{self._form.timestamp_field} is absent"
            offset = int(block.offsets[int(row[i])])
            found.rejects.append(Reject(block.partition, offset, int(index[i]), reason, detail))
        return good


def packed_objects(record: bytes, form: TickFormat) -> list[dict[str, Any]]:
    """The ticks of a record as objects of JSON: what else it holds than was asked for. Raises
    DamagedError."""
    packed = unpack(record)
    fields = names_of(packed.fields, packed.field_count)
    ticks: list[dict[str, Any]] = [
        dict(zip(fields, values, strict=True)) for values in packed.values.tolist()
    ]
    series = names_of(packed.series, packed.series_count)
    code = [0] * len(packed) if packed.code is None else packed.code.tolist()
    for tick, time_ns, at in zip(ticks, packed.time_ns.tolist(), code, strict=True):
        tick[form.timestamp_field] = write_moment(time_ns, form.timestamp_unit)
        if at < len(series) and form.series_from == "field":
            tick[form.series_field] = series[at]
    return ticks


class _RefusedError(Exception):
    """A record, for so many ticks of it."""

    def __init__(self, reason: str, detail: str, *, ticks: int = 1) -> None:
        super().__init__(detail)
        self.reason, self.ticks = reason, ticks


def _number(name: str, found: _Found) -> int:
    if not 0 < len(name) <= LONGEST_NAME:
        return _NAMELESS
    return found.numbers.setdefault(name, len(found.numbers))


def _joined(parts: list[_Column], nothing: _Column) -> _Column:
    """One after the other, as the machine has its numbers."""
    return np.concatenate([nothing, *parts], dtype=nothing.dtype)
