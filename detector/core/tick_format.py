"""How a tick is written, for its decoder and its encoder."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from detector.core.moments import TimestampUnit


@dataclass(frozen=True, slots=True)
class TickFormat:
    """series_from "key" takes the name from the record's key."""

    format: Literal["json", "msgpack", "packed"]
    series_from: Literal["field", "key"]
    series_field: str
    timestamp_field: str
    timestamp_unit: TimestampUnit
    max_record_bytes: int


def key_name(key: bytes | None) -> str:
    """The name of a series in a record's key. Raises ValueError where there is none."""
    if not key:
        raise ValueError(key)
    return key.decode()
