"""JSON ticks of a known shape straight to columns, in C: what is unusual is left to objects.py."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detector.core.decoded import LONGEST_NAME, Decoded
from detector.core.moments import UNIT_NS
from detector.core.names import Names
from detector.core.objects import is_plain
from detector.core.records import RecordBlock
from detector.core.slices import Slices
from detector.core.tick_format import TickFormat
from detector.core.ticks import Int64
from detector.native import extension

_NO_KEYS = Slices.of(())

#: Fields of a tick that the C knows how to look for.
_MOST_NAMES = 4096


class JsonColumns:
    """able: whether the extension is there, and such ticks are for it; not_built: why it is not
    there, "" where it is."""

    def __init__(self, form: TickFormat, fields: Sequence[str]) -> None:
        self._form, self._columns = form, len(fields)
        names = [form.timestamp_field]
        if form.series_from == "field":
            names.append(form.series_field)
        names += [field for field in fields if field != form.timestamp_field]
        into = [
            -1 if name == form.series_field and form.series_from == "field" else fields.index(name)
            for name in names[1:]
        ]
        time = fields.index(names[0]) if names[0] in fields else -1
        self._into = np.array([time, *into], np.int32)
        self._native, self.not_built = extension("_ticks")
        self.able = (
            self._native is not None
            and form.format == "json"
            and form.timestamp_unit in UNIT_NS
            and all(map(is_plain, names))
            and len(set(names)) == len(names) <= _MOST_NAMES
        )
        if self.able:
            self._names = tuple(name.encode() for name in names)
            #: Of a tick: a key and a digit each, with their quotes, colons and commas, and braces.
            self._least_bytes = sum(len(name) + 5 for name in self._names) + 1

    def read(self, block: RecordBlock) -> tuple[Decoded, Int64]:
        """The ticks of the records that are as usual, and the rows of the others, ascending."""
        form, n = self._form, len(block)
        values = _slices(block.values)
        by_key = form.series_from == "key"
        keys = _slices(block.keys) if by_key else _NO_KEYS
        room = n + min(values.size(), len(values.buffer)) // self._least_bytes
        left = np.empty(n, np.uint8)
        time_ns, row = np.empty(room, np.int64), np.empty(room, np.int64)
        numbers = np.empty((room, self._columns))
        index, code = np.empty(room, np.int32), np.empty(room, np.int32)
        count, distinct = self._native.read_json(
            self._names, by_key, UNIT_NS[form.timestamp_unit], form.max_record_bytes, LONGEST_NAME,
            values.buffer, _int64(values.start), _int64(values.length),
            keys.buffer, _int64(keys.start), _int64(keys.length),
            self._into, left, time_ns, numbers, row, index, code,
        )  # fmt: skip
        found = Decoded(
            Names(distinct, code[:count]), time_ns[:count], numbers[:count], row[:count],
            index[:count], [],
        )  # fmt: skip
        return found, np.flatnonzero(left)


def _slices(values: Sequence[bytes | None]) -> Slices:
    return values if isinstance(values, Slices) else Slices.of(values)


def _int64(column: Int64) -> Int64:
    return np.ascontiguousarray(column, np.int64)
