"""A data file into the ticks topic, as fast as it goes or at a rate."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import msgspec

from detector.config import Config
from detector.core.cloudevents import rfc3339
from detector.lab.datasets import Chunk, DataFile, numeric_fields, read_chunks
from detector.service.wiring import make_broker, prepare_topics, tick_format
from detector.transport.broker import Message

_BATCH = 500
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


class Pacer:
    """Holds back so that at most rate items a second pass; None lets all pass."""

    def __init__(
        self,
        rate: float | None,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._monotonic_s, self._sleep = rate, monotonic_s, sleep
        self._started_s: float | None = None
        self._passed = 0

    def wait(self, items: int) -> None:
        """Return when items more may pass."""
        if self._rate is None:
            return
        now_s = self._monotonic_s()
        if self._started_s is None:
            self._started_s = now_s
        due_s = self._started_s + self._passed / self._rate
        if due_s > now_s:
            self._sleep(due_s - now_s)
        self._passed += items


def publish_files(
    config: Config,
    files: Sequence[DataFile],
    *,
    fields: Sequence[str] | None,
    rate: float | None,
    sent: Callable[[int], None],
) -> int:
    """Publish every row; returns how many. fields: None takes every numeric column."""
    broker = make_broker(config)
    prepare_topics(config, broker)
    publisher = broker.publisher()
    pacer = Pacer(rate)
    batch = _BATCH if rate is None else max(1, min(_BATCH, int(rate / 100)))
    total = 0
    form, label_field = tick_format(config), config.input.label_field
    try:
        for file in files:
            chosen = fields or numeric_fields(file, form, label_field)
            for chunk in read_chunks(file, form, chosen, label_field=label_field):
                messages = encode_ticks(config, chosen, chunk)
                for start in range(0, len(messages), batch):
                    part = messages[start : start + batch]
                    pacer.wait(len(part))
                    publisher.publish(config.input.topic, part)
                    total += len(part)
                    sent(len(part))
        publisher.flush()
    finally:
        publisher.close()
    return total


def encode_ticks(config: Config, fields: Sequence[str], chunk: Chunk) -> list[Message]:
    """One message a tick, keyed by series; NaN becomes null, which the detector rejects."""
    encode = (
        msgspec.json.Encoder() if config.input.format == "json" else msgspec.msgpack.Encoder()
    ).encode
    by_field = config.input.series_from == "field"
    unit = config.input.timestamp_unit
    messages = []
    for name, time_ns, values in zip(
        chunk.series, chunk.time_ns.tolist(), chunk.values.tolist(), strict=True
    ):
        tick: dict[str, Any] = {config.input.series_field: name} if by_field else {}
        tick[config.input.timestamp_field] = _moment(time_ns, unit)
        for field, value in zip(fields, values, strict=True):
            tick[field] = value if value == value else None
        messages.append(Message(name.encode(), encode(tick)))
    return messages


def _moment(time_ns: int, unit: str) -> int | float | str:
    if unit == "iso8601":
        if time_ns % 1000:
            return rfc3339(time_ns)
        return (
            datetime.fromtimestamp(time_ns // 10**9, UTC)
            .replace(microsecond=time_ns % 10**9 // 1000)
            .isoformat()
        )
    whole, rest = divmod(time_ns, _NS[unit])
    return whole if rest == 0 else time_ns / _NS[unit]
