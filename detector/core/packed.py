"""Packed records: many ticks of some series as columns, little-endian (docs/packed.md).

Knows the layout, both ways. A record names its fields and its series, so whoever reads it takes
those it asks for, in its own order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.ticks import Float64, Int64

#: Of a time: there is none.
NO_TIME = -(2**63)

MAGIC, VERSION = b"\x89TKS", 1
#: Magic, version, 0, fields, bytes of their names, series, bytes of their names, ticks.
_HEAD = Struct("<4sBBHIIII")
_TIME, _CODE, _VALUE = np.dtype("<i8"), np.dtype("<u4"), np.dtype("<f8")
_LONGEST_BYTES = 2**16 - 1


class DamagedError(ValueError):
    """These bytes are no packed record; the message says why."""


@dataclass(frozen=True, slots=True)
class Packed:
    """n ticks of a record. Columns are views of it: read-only, little-endian, perhaps unaligned.

    fields, series: names, as they stand in the record (names_of)
    time_ns: (n,); NO_TIME: there is none
    code: (n,) the position of the series of each, not looked at; None: all are of the first
    values: (n, fields)
    """

    fields: bytes
    field_count: int
    series: bytes
    series_count: int
    time_ns: Int64
    code: NDArray[np.uint32] | None
    values: Float64

    def __len__(self) -> int:
        return len(self.time_ns)


def unpack(record: bytes) -> Packed:
    """Raises DamagedError. The names and the codes of the series are not looked at yet."""
    if len(record) < _HEAD.size:
        raise DamagedError(f"{len(record)} bytes are no packed record")
    magic, version, zero, fields, fields_bytes, series, series_bytes, n = _HEAD.unpack_from(record)
    if magic != MAGIC:
        raise DamagedError("does not begin as a packed record")
    if version != VERSION or zero != 0:
        raise DamagedError(f"version {version}.{zero} of the format, not {VERSION}.0")
    series_at = _HEAD.size + fields_bytes
    time_at = series_at + series_bytes
    code_at = time_at + 8 * n
    values_at = code_at + (4 * n if series > 1 else 0)
    size = values_at + 8 * n * fields
    if size != len(record):
        raise DamagedError(
            f"{n} ticks of {fields} fields and {series} series are {size} bytes, not {len(record)}"
        )
    return Packed(
        record[_HEAD.size : series_at],
        fields,
        record[series_at:time_at],
        series,
        np.frombuffer(record, _TIME, n, time_at),
        np.frombuffer(record, _CODE, n, code_at) if series > 1 else None,
        np.frombuffer(record, _VALUE, n * fields, values_at).reshape(n, fields),
    )


def names_of(table: bytes, count: int) -> tuple[str, ...]:
    """Of fields or series. Raises DamagedError."""
    names, at = [], 0
    try:
        for _ in range(count):
            end = at + 2 + int.from_bytes(table[at : at + 2], "little")
            if end > len(table):
                raise DamagedError(f"the table of {count} names is cut short")
            names.append(table[at + 2 : end].decode())
            at = end
    except UnicodeDecodeError:
        raise DamagedError("invalid UTF-8 in a name") from None
    if at != len(table):
        raise DamagedError(f"the table of {count} names is too long")
    return tuple(names)


def pack(
    fields: Sequence[str],
    series: Sequence[str],
    code: NDArray[np.integer[Any]] | None,
    time_ns: Int64,
    values: Float64,
) -> bytes:
    """One record. code: (n,) into series, ignored where there are fewer than two; time_ns: (n,);
    values: (n, fields). Raises ValueError for a name above 65535 bytes or as many fields."""
    field_names, series_names = _table(fields), _table(series)
    if len(fields) > _LONGEST_BYTES:
        raise ValueError(f"{len(fields)} fields do not fit a packed record")
    head = _HEAD.pack(
        MAGIC, VERSION, 0, len(fields), len(field_names), len(series), len(series_names),
        len(time_ns),
    )  # fmt: skip
    parts = [head, field_names, series_names, time_ns.astype(_TIME).tobytes()]
    if len(series) > 1 and code is not None:
        parts.append(code.astype(_CODE).tobytes())
    return b"".join([*parts, values.astype(_VALUE).tobytes()])


def _table(names: Sequence[str]) -> bytes:
    parts = []
    for name in names:
        text = name.encode()
        if len(text) > _LONGEST_BYTES:
            raise ValueError(f"the name {name[:40]!r} ... is too long for a packed record")
        parts += [len(text).to_bytes(2, "little"), text]
    return b"".join(parts)
