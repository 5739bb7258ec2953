"""Pieces of what a fetch brought: records as columns, cut and put together without an object each.

Knows nothing of the client.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from detector.core.records import RecordBlock
from detector.core.slices import Slices
from detector.core.ticks import Int64

_OFFSET, _TIMESTAMP, _KEY, _KEY_LENGTH, _VALUE, _VALUE_LENGTH, _SIZE = range(7)
_UNKNOWN = -1


class Piece:
    """Consecutive records of one partition. columns: (7, n) as detector.native._batches gives
    them; what they point to stands in the buffer in their order."""

    __slots__ = ("_buffer", "_columns")

    def __init__(self, buffer: bytes, columns: Int64) -> None:
        self._buffer, self._columns = buffer, columns

    @classmethod
    def read(cls, buffer: bytes, columns: bytearray, records: int) -> Piece:
        """Of what the reader in C has given."""
        return cls(buffer, np.frombuffer(columns, np.int64).reshape(7, -1)[:, :records])

    @classmethod
    def of(cls, records: Sequence[Any]) -> Piece:
        """Of records of the client, one by one."""
        parts = Slices.of(part for r in records for part in (r.key, r.value))
        columns = np.empty((7, len(records)), np.int64)
        columns[_OFFSET] = [r.offset for r in records]
        columns[_TIMESTAMP] = [_UNKNOWN if r.timestamp is None else r.timestamp for r in records]
        columns[_KEY], columns[_VALUE] = parts.start[::2], parts.start[1::2]
        columns[_KEY_LENGTH], columns[_VALUE_LENGTH] = parts.length[::2], parts.length[1::2]
        columns[_SIZE] = [r.size_in_bytes for r in records]
        return cls(parts.buffer, columns)

    def __len__(self) -> int:
        return len(self._columns[_OFFSET])

    @property
    def next_offset(self) -> int:
        return int(self._columns[_OFFSET, -1]) + 1

    @property
    def bytes_read(self) -> int:
        """As the client counts them."""
        return int(self._columns[_SIZE].sum())

    def below(self, offset: int) -> int:
        """How many records come before the first one that is not below an offset."""
        reached = self._columns[_OFFSET] >= offset
        return int(reached.argmax()) if reached.any() else len(self)

    def cut(self, records: int) -> Piece:
        """The first so many, which are no part of this piece any more."""
        first = Piece(self._buffer, self._columns[:, :records])
        self._columns = self._columns[:, records:]
        return first

    def block(self, topic: str, partition: int) -> RecordBlock:
        columns, buffer = self._columns, self._buffer
        return RecordBlock(
            topic,
            partition,
            columns[_OFFSET],
            columns[_TIMESTAMP],
            Slices(buffer, columns[_KEY], columns[_KEY_LENGTH]),
            Slices(buffer, columns[_VALUE], columns[_VALUE_LENGTH]),
        )

    @classmethod
    def joined(cls, pieces: Sequence[Piece]) -> Piece:
        """Pieces that follow each other. Copies no record where all are of one buffer."""
        first = pieces[0]
        if len(pieces) == 1:
            return first
        columns = np.concatenate([p._columns for p in pieces], axis=1)
        if all(p._buffer is first._buffer for p in pieces):
            return cls(first._buffer, columns)
        parts, size, row = [], 0, 0
        for piece in pieces:
            own = columns[:, row : row + len(piece)]
            begin, end = int(own[_KEY, 0]), int(own[_VALUE, -1] + max(own[_VALUE_LENGTH, -1], 0))
            own[[_KEY, _VALUE]] += size - begin
            parts.append(memoryview(piece._buffer)[begin:end])
            size, row = size + end - begin, row + len(piece)
        return cls(b"".join(parts), columns)


class Taken:
    """What the client takes of a partition for one poll: it counts records and hands on pieces."""

    __slots__ = ("_pieces", "_records")

    def __init__(self) -> None:
        self._pieces: list[Piece] = []
        self._records = 0

    def add(self, piece: Piece) -> None:
        self._pieces.append(piece)
        self._records += len(piece)

    def __len__(self) -> int:
        return self._records

    def __iter__(self) -> Iterator[Piece]:
        return iter(self._pieces)


def block_of_pieces(topic: str, partition: int, pieces: Sequence[Piece]) -> RecordBlock:
    return Piece.joined(pieces).block(topic, partition)


def block_of_records(topic: str, partition: int, records: Sequence[Any]) -> RecordBlock:
    """Of records of the client, as it makes them itself."""
    return RecordBlock(
        topic,
        partition,
        [r.offset for r in records],
        [r.timestamp for r in records],
        [r.key for r in records],
        [r.value for r in records],
    )
