"""Records of a fetch become columns in C, behind the fetches of kafka-python.

The client keeps what a fetch brought of a partition in one class, Fetcher.PartitionRecords, and
takes some of it for each poll. Ours stands in its place and gives pieces of columns (pieces.py);
sessions, fetches, positions, pauses and rebalances go on as they are. Batches that are compressed,
control batches, those of older formats, and all while a transaction of the fetch was aborted, are
opened by the client; whatever the reader in C does not take, the client reads itself, so that what
is damaged is damaged in the client's own words.

The place of the seam is no public interface: it is used where the client's source is, to the byte,
the one it was written for (docs/decisions/0030-records-of-a-fetch-as-columns.md).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kafka

from detector.native import extension
from detector.transport.kafka.pieces import Piece, Taken

try:
    from kafka.consumer import fetcher
    from kafka.errors import CorruptRecordError
    from kafka.protocol.consumer import IsolationLevel
    from kafka.record import MemoryRecords, default_records, memory_records

    _ClientRecords: Any = fetcher.Fetcher.PartitionRecords
    _SOURCES: tuple[Any, ...] = (fetcher, memory_records, default_records)
except (ImportError, AttributeError):  # a client of another shape: install() says so
    _ClientRecords, _SOURCES = object, ()

#: SHA-256 of the three sources together; of kafka-python 3.0.9 to 3.0.12, which do not differ.
_KNOWN = frozenset({"e48ad5666e15241e98a375bc4b717a03beaa253868598476563446637dd9103e"})
_NATIVE, _NOT_BUILT = extension("_batches")
_LENGTH_AT, _LENGTH_END = 8, 12  # of a batch, in its header, in every format
#: Of one call of the reader: 56 bytes a record.
_MOST_RECORDS = 16_384
#: Read by the client one by one, given on together.
_SLOW_RECORDS = 1024


def install(consumer: Any) -> str:
    """From now on the polls of this consumer, that has read nothing yet, give pieces. Returns ""
    or, with the consumer as it was, why not."""
    obstacle = _obstacle(consumer)
    if not obstacle:
        consumer._fetcher.PartitionRecords = ColumnRecords
    return obstacle


def _obstacle(consumer: Any) -> str:
    if _NATIVE is None:
        return f"detector.native._batches is {_NOT_BUILT}"
    client = f"kafka-python {kafka.__version__}"
    if _fingerprint() not in _KNOWN:
        return f"{client} is none whose reading of records is known here"
    used: Any = consumer._fetcher
    if type(used) is not fetcher.Fetcher:
        return f"{client} reads with {type(used).__name__}, not with its Fetcher"
    if used.config["key_deserializer"] or used.config["value_deserializer"]:
        return "the consumer has a deserializer"
    return ""


def _fingerprint() -> str:
    digest = hashlib.sha256()
    for module in _SOURCES:
        try:
            digest.update(Path(module.__file__).read_bytes())
        except (OSError, TypeError):  # installed without its source
            return ""
    return digest.hexdigest()


class ColumnRecords(_ClientRecords):  # type: ignore[misc]  # the library is untyped
    """What a fetch brought of one partition, given out in pieces. What is said of an attribute or
    a method of the client holds for kafka-python 3.0.12."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._left: Piece | None = None  # begun, and not all given out
        self._failure: Exception | None = None
        super().__init__(*arguments, **options)

    def take(self, n: int | None = None) -> Taken:
        """At most n records. What cannot be read raises once all before it is taken, and each time
        from then on: the client's own would give nothing, and its poll would never return."""
        taken = Taken()
        while n is None or len(taken) < n:
            piece = self._left or self._next()
            if piece is None:
                break
            self._left = piece
            taken.add(self._count(piece.cut(len(piece) if n is None else n - len(taken))))
        if self._failure is not None and not taken:
            raise self._failure.with_traceback(None)
        return taken

    def _next(self) -> Piece | None:
        if self._failure is None:
            try:
                return next(self.record_iterator, None)
            except Exception as error:  # noqa: BLE001  # raised by take, in its turn
                self._failure = error
        return None

    def _count(self, piece: Piece) -> Piece:
        """As gone through."""
        if piece:
            self.records_read += len(piece)
            self.bytes_read += piece.bytes_read
            self.next_fetch_offset = piece.next_offset
        return piece

    def _maybe_skip_record(self, record: Piece) -> bool:
        """Called with each piece until one is not skipped: a batch may begin below the offset that
        was asked for."""
        self._count(record.cut(record.below(self.fetch_offset)))
        return not record

    def _unpack_records(
        self, tp: Any, records: Any, key_deserializer: Any, value_deserializer: Any
    ) -> Iterator[Piece]:
        """The order of things is the client's: what a batch changes is changed once it is begun."""
        fetched = bytes(records._buffer)  # no copy of what is bytes already
        at, after = 0, None
        while True:
            if not self.aborted_transactions and not self.aborted_producer_ids:
                end, next_offset, leader_epoch, number, columns = _NATIVE.run(
                    fetched, at, _MOST_RECORDS
                )
                if end > at:
                    at, after, self.leader_epoch = end, next_offset, leader_epoch
                    if number:
                        yield Piece.read(fetched, columns, number)
                    continue
            batch = MemoryRecords(memoryview(fetched)[at:]).next_batch()
            if batch is None:
                break
            length = int.from_bytes(fetched[at + _LENGTH_AT : at + _LENGTH_END], "big", signed=True)
            if length < 0:
                raise CorruptRecordError(f"A batch for partition {tp} is of {length} bytes")
            at += _LENGTH_END + length
            if self.check_crcs and not batch.validate_crc():
                raise CorruptRecordError(
                    f"Record batch for partition {tp} at offset {batch.base_offset} failed crc "
                    "check"
                )
            after = None
            if batch.magic == 2:
                after = batch.next_offset
                if self._is_skipped(batch):
                    self.next_fetch_offset = after
                    continue
            yield from self._pieces(batch)
        if after is not None:
            # The last records of a batch may be gone by compaction: on behind it all the same.
            self.next_fetch_offset = after
        self.drain()

    def _is_skipped(self, batch: Any) -> bool:
        """Whether a batch is none of a committed transaction, or of nobody's."""
        self.leader_epoch = batch.leader_epoch
        if self.isolation_level == IsolationLevel.READ_COMMITTED and batch.has_producer_id():
            self._consume_aborted_transactions_up_to(batch.last_offset)
            if self._contains_abort_marker(batch):
                self.aborted_producer_ids.discard(batch.producer_id)
            elif self._is_batch_aborted(batch):
                return True
        return bool(batch.is_control_batch)

    def _pieces(self, batch: Any) -> Iterator[Piece]:
        if batch.magic == 2:
            batch._maybe_uncompress()
            body = bytes(memoryview(batch._buffer)[batch._pos :])
            columns = _NATIVE.body(
                body,
                batch.records_count,
                batch.attributes,
                batch.base_offset,
                batch.first_timestamp,
                batch.max_timestamp,
            )
            if columns is not None:
                if batch.records_count:
                    yield Piece.read(body, columns, batch.records_count)
                return
        yield from _one_by_one(batch, self.check_crcs)


def _one_by_one(batch: Any, check_crcs: bool) -> Iterator[Piece]:
    """By the client. What comes before the first record that cannot be read is given all the
    same."""
    found: list[Any] = []
    try:
        for record in batch:
            if check_crcs and not record.validate_crc():
                raise CorruptRecordError(f"Record at offset {record.offset} failed crc check")
            found.append(record)
            if len(found) == _SLOW_RECORDS:
                yield Piece.of(found)
                found = []
    except Exception:
        if found:
            yield Piece.of(found)
        raise
    if found:
        yield Piece.of(found)
