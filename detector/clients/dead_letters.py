"""The dead-letter topic for people, and the way back."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from detector.config import Config
from detector.core.dead_letters import Letter
from detector.core.moments import rfc3339
from detector.core.records import Message
from detector.transport.configured import make_broker, topics

_BATCH = 500
#: A log that ends in transaction markers may never look read to its end.
_QUIET_S = 2.0
_SHOWN_BYTES = 120


def as_json(letter: Letter) -> dict[str, Any]:
    """For programs: one object a letter."""
    record = letter.record
    return {
        "time": rfc3339(record.timestamp_ms * 10**6),
        "partition": record.partition,
        "offset": record.offset,
        "headers": dict(letter.headers),
        "key": None if record.key is None else record.key.decode(errors="replace"),
        "value": None if record.value is None else record.value.decode(errors="replace"),
        "value_hex": None if record.value is None else record.value.hex(),
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
                letter = Letter.read(record)
                if reason is not None and letter.reason != reason:
                    continue
                if since_ns is not None and record.timestamp_ms * 10**6 < since_ns:
                    continue
                yield letter
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
