"""Ticks to messages keyed by series, as Codec reads them. Values travel as they are as far as the
format goes: what is wrong with them the detector says."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec
import numpy as np

from detector.core.moments import LAST_NS
from detector.core.packed import NO_TIME, pack
from detector.core.records import Message
from detector.core.tick_format import TickFormat

#: Of a packed record at most: enough that its names cost nothing, and far from a broker's limit.
PACKED_TICKS, PACKED_BYTES = 256, 250_000


class Encoder(Protocol):
    """together: of so many ticks in a row the messages are best taken at once."""

    together: int

    def add(self, series: Any, moment: Any, fields: Mapping[str, Any]) -> None:
        """One tick more; moment: as the format holds it. Raises ValueError for what has no form."""

    def take(self) -> list[Message]:
        """Of all that was added since. The ticks of a series stay in order."""


def make_encoder(form: TickFormat) -> Encoder:
    return PackedEncoder(form) if form.format == "packed" else ObjectEncoder(form)


class ObjectEncoder:
    """A record a tick. JSON has no NaN and no infinity: they become null."""

    together = 500

    def __init__(self, form: TickFormat) -> None:
        self._form = form
        self._encode = (
            msgspec.json.Encoder() if form.format == "json" else msgspec.msgpack.Encoder()
        ).encode
        self._messages: list[Message] = []

    def add(self, series: Any, moment: Any, fields: Mapping[str, Any]) -> None:
        form = self._form
        tick = {form.series_field: series} if form.series_from == "field" else {}
        tick[form.timestamp_field] = moment
        tick.update(fields)
        try:
            self._messages.append(Message(_key(series), self._encode(tick)))
        except (TypeError, OverflowError) as error:
            raise ValueError(str(error)) from None

    def take(self) -> list[Message]:
        messages, self._messages = self._messages, []
        return messages


@dataclass(slots=True)
class _Run:
    """Ticks of one series with the same fields, in order; at most so many."""

    series: tuple[str, ...]
    fields: tuple[str, ...]
    most: int
    time_ns: list[int]
    values: list[list[float]]

    def packed(self) -> bytes:
        values = np.array(self.values, np.float64).reshape(len(self.values), len(self.fields))
        return pack(self.fields, self.series, None, np.array(self.time_ns, np.int64), values)


class PackedEncoder:
    """Records of one series each, so that its key decides the partition. moment: nanoseconds. They
    hold numbers alone: what is none becomes NaN, and what is no time none."""

    together = 32 * PACKED_TICKS

    def __init__(self, form: TickFormat) -> None:
        self._by_key = form.series_from == "key"
        self._most_bytes = min(PACKED_BYTES, form.max_record_bytes // 2)
        self._runs: dict[bytes | None, _Run] = {}
        self._messages: list[Message] = []

    def add(self, series: Any, moment: Any, fields: Mapping[str, Any]) -> None:
        key, names = _key(series), tuple(fields)
        run = self._runs.get(key)
        if run is None or run.fields != names:
            begun = self._begin(key, names)
            self._close(key)
            run = self._runs[key] = begun
        run.time_ns.append(moment if _is_time(moment) else NO_TIME)
        run.values.append([_value(value) for value in fields.values()])
        if len(run.time_ns) == run.most:
            self._close(key)

    def take(self) -> list[Message]:
        for key in list(self._runs):
            self._close(key)
        messages, self._messages = self._messages, []
        return messages

    def _begin(self, key: bytes | None, fields: tuple[str, ...]) -> _Run:
        """Raises ValueError for names that do not fit."""
        series = () if key is None or self._by_key else (key.decode(),)
        most = min(PACKED_TICKS, self._most_bytes // (8 + 8 * len(fields)))
        run = _Run(series, fields, max(1, most), [], [])
        run.packed()
        return run

    def _close(self, key: bytes | None) -> None:
        run = self._runs.pop(key, None)
        if run is not None:
            self._messages.append(Message(key, run.packed()))


def _is_time(moment: Any) -> bool:
    return isinstance(moment, int) and not isinstance(moment, bool) and abs(moment) <= LAST_NS


def _key(series: Any) -> bytes | None:
    return None if series is None else str(series).encode()


def _value(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return math.nan
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
