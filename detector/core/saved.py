"""The state of a pipeline of one partition as one value: what the library saves and takes back.

MessagePack: version, model, position, event_ns, and for each series the very record that the
daemon writes to its state topic.
"""

from __future__ import annotations

from dataclasses import dataclass

import msgspec
import numpy as np

from detector.core.pipeline import PipelineState
from detector.core.state import StateCodec, series_key
from detector.errors import StateError

_VERSION = 1
_WHERE = "the saved state"


@dataclass(frozen=True, slots=True)
class Saved:
    """position: of the next tick; event_ns: the clock; state: of some series."""

    position: int
    event_ns: int | None
    state: PipelineState


@dataclass(frozen=True, slots=True)
class Found:
    """same: series as this model saved them; foreign: those of another, without their windows."""

    position: int
    event_ns: int | None
    same: PipelineState
    foreign: PipelineState


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    version: int
    model: str
    position: int
    event_ns: int | None
    series: dict[str, bytes]


def encode_saved(codec: StateCodec, saved: Saved, *, model: str) -> bytes:
    names = [name for _, name in saved.state.series]
    records = codec.encode(saved.state, np.full(len(names), saved.position))
    return msgspec.msgpack.encode(
        _Record(
            version=_VERSION,
            model=model,
            position=saved.position,
            event_ns=saved.event_ns,
            series=dict(zip(names, records, strict=True)),
        )
    )


def decode_saved(codec: StateCodec, value: bytes) -> Found:
    """Raises StateError if it is damaged or written by a newer program."""
    try:
        head = msgspec.msgpack.decode(value)
        version = head["version"]
        if isinstance(version, int) and version > _VERSION:
            raise StateError(
                f"{_WHERE} was written by a newer program (version {version}, this one reads "
                f"{_VERSION})"
            )
        record = msgspec.convert(head, _Record)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateError(f"{_WHERE} is damaged ({str(error)[:100]})") from None
    table = {series_key(name): state for name, state in record.series.items()}
    found = codec.decode(0, table, _WHERE, remedy="save it again")
    return Found(record.position, record.event_ns, found.same, found.foreign)
