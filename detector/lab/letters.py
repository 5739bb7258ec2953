"""The dead-letter topic for people, and the way back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detector.config import Config
from detector.core.cloudevents import rfc3339
from detector.service.wiring import make_broker, topics
from detector.transport.broker import Message, Record

_BATCH = 500
#: A log that ends in transaction markers may never look read to its end.
_QUIET_S = 2.0
_SHOWN_BYTES = 120


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter: the raw record and the headers that say why and from where."""

    record: Record
    headers: dict[str, str]

    @property
    def cut_off(self) -> bool:
        """Whether only the beginning of the record was kept."""
        return "truncated_from_bytes" in self.headers or "key_truncated_from_bytes" in self.headers

    def as_json(self) -> dict[str, Any]:
        value, key = self.record.value, self.record.key
        return {
            "time": rfc3339(self.record.timestamp_ms * 10**6),
            "partition": self.record.partition,
            "offset": self.record.offset,
            "headers": self.headers,
            "key": None if key is None else key.decode(errors="replace"),
            "value": None if value is None else value.decode(errors="replace"),
            "value_hex": None if value is None else value.hex(),
        }


def read_letters(config: Config, *, reason: str | None, since_ns: int | None) -> Iterator[Letter]:
    """The dead letters there are now, oldest first."""
    broker = make_broker(config)
    if config.dead_letters.topic in broker.missing(topics(config)):
        return
    reader = broker.reader(config.dead_letters.topic, from_beginning=True)
    try:
        last_s = time.monotonic()
        while True:
            records = reader.poll(timeout_s=0.2)
            for record in records:
                last_s = time.monotonic()
                headers = {k: v.decode(errors="replace") for k, v in record.headers}
                if reason is not None and headers.get("reason") != reason:
                    continue
                if since_ns is not None and record.timestamp_ms * 10**6 < since_ns:
                    continue
                yield Letter(record, headers)
            if not records and (reader.at_end() or time.monotonic() - last_s > _QUIET_S):
                return
    finally:
        reader.close()


@dataclass(frozen=True, slots=True)
class Republished:
    """Letters by what became of them. cut_off: only their beginning was kept; elsewhere: they
    came from another ticks topic; late: they were in order once, and never will be again."""

    published: int = 0
    cut_off: int = 0
    elsewhere: int = 0
    late: int = 0


def republish(config: Config, letters: Iterator[Letter]) -> Republished:
    """Publish the raw records to the ticks topic they came from. The keys, and so the
    partitions, stay."""
    # All are read first: a running worker may bury again what is published here.
    found = list(letters)
    publisher = make_broker(config).publisher()
    done, left = 0, Counter[str]()
    batch: list[Message] = []
    try:
        for letter in found:
            if letter.headers.get("topic") != config.input.topic:
                left["elsewhere"] += 1
                continue
            if letter.cut_off or letter.headers.get("reason") == "late":
                left["cut_off" if letter.cut_off else "late"] += 1
                continue
            batch.append(Message(letter.record.key, letter.record.value))
            if len(batch) == _BATCH:
                publisher.publish(config.input.topic, batch)
                done, batch = done + len(batch), []
        publisher.publish(config.input.topic, batch)
        publisher.flush()
        return Republished(done + len(batch), **left)
    finally:
        publisher.close()


def letter_line(letter: Letter) -> str:
    """One line for people: when, why, from where and the beginning of the record."""
    headers, value = letter.headers, letter.record.value
    shown = "null" if value is None else repr(value[:_SHOWN_BYTES])[2:-1]
    more = " ..." if value is not None and len(value) > _SHOWN_BYTES else ""
    return (
        f"{rfc3339(letter.record.timestamp_ms * 10**6)[:23]}Z "
        f"{headers.get('reason', '?'):14} {headers.get('topic')}/{headers.get('partition')} "
        f"offset {headers.get('offset')}: {headers.get('detail')}: {shown}{more}"
    )
