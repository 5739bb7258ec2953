"""Records of the ticks topic as blocks, bounded in number and in bytes.

Values are decoded by us, never by a deserializer: one that raises stops the consumer for good
(kafka-python 3.0.12).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any

from kafka.errors import (
    CorruptRecordError,
    KafkaError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
)

from detector.core.records import RecordBlock
from detector.core.slices import Slices
from detector.errors import BrokerError, StateError
from detector.transport.kafka import batches
from detector.transport.kafka.client import KafkaSettings, broker_error
from detector.transport.kafka.pieces import block_of_pieces, block_of_records

#: Asked of the first poll, when nobody knows yet how large the records are.
_FIRST_RECORDS = 64
_LOGGER = logging.getLogger("detector.kafka")


class Reading:
    """Polls a consumer. A poll is bounded in bytes by asking for fewer records where they are
    large; beyond that a fetch of each partition bounds it (fetch_options)."""

    def __init__(self, settings: KafkaSettings, topic: str) -> None:
        self._settings, self._topic = settings, topic
        self._mean_bytes: float | None = None  # of the records of the last poll that had some
        self._block: Callable[[str, int, Sequence[Any]], RecordBlock] = block_of_records
        #: Why records are read one by one, not as columns; "": they are not.
        self.slow_because = "nothing is read yet"

    def follow(self, consumer: Any) -> None:
        """Read this consumer, that has read nothing yet: as columns wherever that is possible."""
        self.slow_because = batches.install(consumer)
        if self.slow_because:
            _LOGGER.warning("records are read one by one, slowly: %s", self.slow_because)
        self._block = block_of_records if self.slow_because else block_of_pieces

    def poll(
        self, consumer: Any, *, max_records: int, max_bytes: int, timeout_s: float
    ) -> list[RecordBlock]:
        """Raises BrokerError, StateError."""
        number = self._number(max_records, max_bytes)
        try:
            found = consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=number)
        except OffsetOutOfRangeError as error:
            raise StateError(
                f"{self._settings.where}: ticks not yet read were deleted from {self._topic} "
                f"({error}): its retention is shorter than the lag. Started again, "
                "delivery.on_lost_ticks decides what happens"
            ) from error
        except (CorruptRecordError, UnsupportedCodecError) as error:
            raise self._unreadable(error) from error
        except KafkaError as error:
            raise broker_error(self._settings, f"reading {self._topic}", error) from error
        except Exception as error:
            raise self._unreadable(error) from error
        blocks = [
            self._block(partition.topic, partition.partition, records)
            for partition, records in found.items()
        ]
        self._learn(blocks)
        return blocks

    def _number(self, max_records: int, max_bytes: int) -> int:
        if self._mean_bytes is None:
            return min(max_records, _FIRST_RECORDS)
        return max(1, min(max_records, int(max_bytes / max(self._mean_bytes, 1.0))))

    def _learn(self, blocks: list[RecordBlock]) -> None:
        records = sum(map(len, blocks))
        if records:
            size = sum(_size(column) for b in blocks for column in (b.keys, b.values))
            self._mean_bytes = size / records

    def _unreadable(self, error: Exception) -> BrokerError:
        where, topic = self._settings.where, self._topic
        if isinstance(error, UnsupportedCodecError):
            return BrokerError(
                f"{where}: {topic} holds records compressed with a codec that is not "
                f"installed here ({error}): pip install python-snappy, lz4 or zstandard"
            )
        return BrokerError(
            f"{where}: {topic} holds a damaged batch of records ({type(error).__name__}: "
            f"{error}): restore it from a replica, or step over it: detector state reset --to "
            "latest"
        )


def _size(column: Sequence[bytes | None]) -> int:
    if isinstance(column, Slices):
        return column.size()
    return sum(len(one) for one in column if one is not None)


def fetch_options(settings: KafkaSettings) -> dict[str, Any]:
    """What the consumer may hold of records that were not polled yet: one fetch of each
    partition."""
    return {
        "max_poll_records": settings.max_poll_records,
        "fetch_max_bytes": min(50 * 1024 * 1024, settings.max_poll_bytes),
        "max_partition_fetch_bytes": min(1024 * 1024, settings.max_poll_bytes),
        "fetch_max_wait_ms": 100,
        "receive_buffer_bytes": 1024 * 1024,
    }
