"""What a broker could answer to a fetch, built with the client's own builders; and how a test goes
through it.

Must not know what the tests prove.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import kafka.codec
from kafka import TopicPartition
from kafka.consumer.fetcher import Fetcher
from kafka.protocol.consumer import FetchResponse, IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.default_records import DefaultRecordBatchBuilder
from kafka.record.legacy_records import LegacyRecordBatchBuilder
from kafka.record.util import calc_crc32c

from detector.transport.kafka.batches import ColumnRecords
from detector.transport.kafka.pieces import Taken, block_of_pieces

PARTITION = TopicPartition("ticks", 3)
NONE, GZIP, SNAPPY, LZ4, ZSTD = range(5)
CODECS = [NONE, GZIP] + [
    codec
    for codec, has in ((SNAPPY, "has_snappy"), (LZ4, "has_lz4"), (ZSTD, "has_zstd"))
    if getattr(kafka.codec, has)()
]
APPEND_TIME, CONTROL = 0x08, 0x20
COMMIT, ABORT = struct.pack(">hh", 0, 1), struct.pack(">hh", 0, 0)

Row = tuple[int, int, bytes | None, bytes | None]


@dataclass(frozen=True)
class Made:
    """A record. delta: its offset in the batch."""

    delta: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes | None]] = field(default_factory=list)


def batch(
    records: Sequence[Made],
    *,
    base: int = 0,
    codec: int = NONE,
    producer: int = -1,
    transactional: bool = False,
    epoch: int = 5,
    attributes: int = 0,
) -> bytes:
    """In format 2, as it stands in the log: what the broker writes into it included."""
    builder: Any = DefaultRecordBatchBuilder(
        2, codec, transactional, producer, 0 if producer >= 0 else -1, 0, 1 << 30
    )
    for one in records:
        assert builder.append(one.delta, one.timestamp, one.key, one.value, one.headers)
    made = bytearray(builder.build())
    struct.pack_into(">q", made, 0, base)
    struct.pack_into(">i", made, 12, epoch)
    made[22] |= attributes
    return sealed(made)


def legacy(records: Sequence[Made], *, magic: int, codec: int = NONE) -> bytes:
    builder: Any = LegacyRecordBatchBuilder(magic, codec, 1 << 30)
    for one in records:
        assert builder.append(one.delta, one.timestamp, one.key, one.value)
    return bytes(builder.build())


def marker(kind: bytes, *, at: int, producer: int) -> bytes:
    """The end of a transaction."""
    return batch(
        [Made(0, 0, kind, b"\0" * 6)],
        base=at,
        producer=producer,
        transactional=True,
        attributes=CONTROL,
    )


def sealed(made: bytes | bytearray) -> bytes:
    """With the checksum of what it holds now."""
    sound = bytearray(made)
    struct.pack_into(">I", sound, 17, calc_crc32c(memoryview(sound)[21:]))
    return bytes(sound)


def aborted(producer: int, first_offset: int) -> Any:
    transaction = FetchResponse.FetchableTopicResponse.PartitionData.AbortedTransaction
    return transaction(producer_id=producer, first_offset=first_offset)


@dataclass
class Outcome:
    """rows: of each take. states: of the client's books after each."""

    rows: list[list[Row]] = field(default_factory=list)
    states: list[tuple[object, ...]] = field(default_factory=list)
    error: type[Exception] | None = None

    @property
    def flat(self) -> list[Row]:
        return [row for rows in self.rows for row in rows]


def go_through(
    kind: Any,
    fetched: bytes,
    *,
    sizes: Sequence[int | None] = (None,),
    fetch_offset: int = 0,
    transactions: Sequence[Any] = (),
    isolation: Any = IsolationLevel.READ_COMMITTED,
    check_crcs: bool = True,
) -> Outcome:
    part = kind(
        fetch_offset,
        PARTITION,
        MemoryRecords(fetched),
        isolation_level=isolation,
        aborted_transactions=list(transactions),
        check_crcs=check_crcs,
    )
    outcome = Outcome()
    for size in cycle(sizes):
        try:
            taken = part.take(size)
        except Exception as error:  # noqa: BLE001  # which one it is is what is compared
            outcome.error = type(error)
            return outcome
        outcome.rows.append(list(rows_of(taken)))
        outcome.states.append(
            (part.next_fetch_offset, part.leader_epoch, part.records_read, part.bytes_read)
        )
        if not part:
            return outcome
    raise AssertionError("sizes are never empty")


def rows_of(taken: Any) -> Iterator[Row]:
    if not isinstance(taken, Taken):
        yield from ((r.offset, r.timestamp, r.key, r.value) for r in taken)
    elif taken:
        block = block_of_pieces(PARTITION.topic, PARTITION.partition, list(taken))
        assert len(block) == len(taken)
        assert list(block.keys) == [block.keys[i] for i in range(len(block))]
        offsets, times = (list(map(int, c)) for c in (block.offsets, block.timestamps_ms))
        yield from zip(offsets, times, block.keys, block.values, strict=True)


def by_the_client(fetched: bytes, **options: Any) -> Outcome:
    return go_through(Fetcher.PartitionRecords, fetched, **options)


def in_columns(fetched: bytes, **options: Any) -> Outcome:
    return go_through(ColumnRecords, fetched, **options)
