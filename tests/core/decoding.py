"""Records for a codec, and what it made of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from detector.core.codec import Codec
from detector.core.moments import TimestampUnit
from detector.core.records import RecordBlock
from detector.core.tick_format import TickFormat
from detector.core.ticks import TickBatch

FormatName = Literal["json", "msgpack"]


FORMATS: tuple[FormatName, ...] = ("json", "msgpack")


FIELDS = ("bid", "ask")


FACTOR = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


UNITS: tuple[TimestampUnit, ...] = ("s", "ms", "us", "ns")


LIMIT = 2**63 - 1


def make_codec(
    name: FormatName = "json",
    *,
    unit: TimestampUnit = "s",
    series_from: Literal["field", "key"] = "field",
    fields: Sequence[str] = FIELDS,
    max_record_bytes: int = 10**6,
) -> Codec:
    form = TickFormat(name, series_from, "series", "timestamp", unit, max_record_bytes)
    return Codec(form, fields)


def make_block(
    values: Sequence[bytes | None], keys: Sequence[bytes | None] | None = None
) -> RecordBlock:
    """Records of partition 3; the offsets have a hole, as those of a compacted log."""
    offsets = [100 + i + (i > 1) for i in range(len(values))]
    stamps = [5000 + i for i in range(len(values))]
    return RecordBlock("ticks", 3, offsets, stamps, keys or [None] * len(values), values)


def encode(name: FormatName, content: Any) -> bytes:
    """As a careless producer would: json.dumps writes NaN and Infinity."""
    return json.dumps(content).encode() if name == "json" else msgspec.msgpack.encode(content)


def good(**changes: Any) -> dict[str, Any]:
    return {"series": "EURUSD", "timestamp": 1700000000.5, "bid": 1.5, "ask": 2.5} | changes


def flat(batch: TickBatch) -> list[tuple[int, int, str, int, tuple[float, ...], int]]:
    """(offset, index, series, time, values, received) of every tick; NaN as a sentinel."""
    assert set(batch.partition.tolist()) <= {3}
    values = np.where(np.isnan(batch.values), -12345.0, batch.values)
    return [
        (offset, index, name, time_ns, tuple(row), received)
        for offset, index, name, time_ns, row, received in zip(
            batch.offset.tolist(),
            batch.index.tolist(),
            batch.series,
            batch.time_ns.tolist(),
            values.tolist(),
            batch.received_ms.tolist(),
            strict=True,
        )
    ]


def within_64_bits(content: Any) -> Any:
    if isinstance(content, dict):
        return {k: within_64_bits(v) for k, v in content.items()}
    if isinstance(content, list):
        return [within_64_bits(v) for v in content]
    if isinstance(content, int) and not -(2**63) <= content < 2**64:
        return float(content)
    return content
