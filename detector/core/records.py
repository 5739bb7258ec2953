"""What a broker holds: records read and messages to write, without any meaning.

Knows neither Kafka nor files: both transports read into these and write from them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from detector.core.ticks import Int64

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """Something to write. partition: None lets the key decide."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Something read, with where it stood. timestamp_ms: the broker's, -1 where it has none."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(frozen=True, slots=True)
class RecordBlock:
    """Consecutive records of one partition, as the broker holds them.

    offsets, timestamps_ms: (n,); what is taken out of an array is no int of Python yet.
    keys, values: (n,), slice by slice in one buffer where the transport brings them so (Slices).
    """

    topic: str
    partition: int
    offsets: Sequence[int] | Int64
    timestamps_ms: Sequence[int] | Int64
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.offsets)

    @property
    def first_offset(self) -> int:
        return int(self.offsets[0])

    @property
    def next_offset(self) -> int:
        """Behind the last."""
        return int(self.offsets[-1]) + 1

    def split(self, offset: int) -> tuple[RecordBlock, RecordBlock]:
        """The records below an offset, and the rest."""
        at = bisect_left(self.offsets, offset)
        return self._part(slice(0, at)), self._part(slice(at, None))

    def _part(self, rows: slice) -> RecordBlock:
        return RecordBlock(
            self.topic,
            self.partition,
            self.offsets[rows],
            self.timestamps_ms[rows],
            self.keys[rows],
            self.values[rows],
        )
