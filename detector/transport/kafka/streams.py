"""Publishing to topics and following them, outside of any group or transaction."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from kafka import KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from detector.core.records import Message, Record
from detector.errors import BrokerError, StateError
from detector.transport.kafka.client import (
    SEND_TIMEOUT_S,
    KafkaSettings,
    broker_error,
    connect,
    refuse,
    value_of,
)

_QUIET_S = 0.5
_LONG_QUIET_S = 5.0


class KafkaPublisher:
    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._failure: Exception | None = None
        self._producer = connect(
            settings,
            KafkaProducer,
            settings.streams()
            | {
                "linger_ms": 5,
                "batch_size": 256 * 1024,
                "compression_type": settings.compression,
                "max_request_size": 32 * 1024 * 1024,
            },
        )

    def publish(self, topic: str, messages: Sequence[Message]) -> None:
        try:
            for m in messages:
                future = self._producer.send(
                    topic,
                    key=m.key,
                    value=value_of(m),
                    headers=list(m.headers),
                    partition=m.partition,
                )
                future.add_errback(self._failed)
        except KafkaError as error:
            raise self._error(f"publishing to {topic}", error) from error

    def _failed(self, error: Exception) -> None:
        self._failure = error

    def flush(self) -> None:
        try:
            self._producer.flush(timeout=SEND_TIMEOUT_S)
        except KafkaError as error:
            raise self._error("publishing", error) from error
        if self._failure is not None:
            raise self._error("publishing", self._failure) from self._failure

    def _error(self, doing: str, error: Exception) -> BrokerError:
        refuse(self._settings)
        return broker_error(self._settings, doing, error, operation="Write")

    def close(self) -> None:
        self._producer.close(timeout=5)


class KafkaReader:
    """partitions: None for all. Sees committed records only."""

    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        *,
        from_beginning: bool,
        partitions: Sequence[int] | None = None,
    ) -> None:
        self._settings, self._topic = settings, topic
        self._consumer = connect(
            settings,
            KafkaConsumer,
            settings.streams()
            | {
                "group_id": None,
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                # Where retention has overtaken it: on with the oldest there is, not at the end.
                "auto_offset_reset": "earliest" if from_beginning else "latest",
                "fetch_max_wait_ms": 100,
                "max_poll_records": 2000,
            },
        )
        try:
            found = self._consumer.partitions_for_topic(topic)
            if not found:
                raise BrokerError(f"{settings.where}: has no topic {topic}")
            chosen = sorted(found) if partitions is None else list(partitions)
            absent = sorted(set(chosen) - set(found))
            if absent:
                raise StateError(
                    f"{settings.where}: {topic} has no partition {absent[0]}; if the ticks topic "
                    "has grown: detector state grow"
                )
            self._partitions = [TopicPartition(topic, p) for p in chosen]
            self._consumer.assign(self._partitions)
            if from_beginning:
                self._consumer.seek_to_beginning(*self._partitions)
            else:
                self._consumer.seek_to_end(*self._partitions)
            for partition in self._partitions:  # resolves the seek: "now" is now
                self._consumer.position(partition)
        except KafkaError as error:
            self._consumer.close()
            raise self._error(error) from error
        except BaseException:
            self._consumer.close()
            raise

    def poll(self, *, timeout_s: float) -> list[Record]:
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        except KafkaError as error:
            raise self._error(error) from error
        if not found:
            refuse(self._settings)
        return [
            Record(
                r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())
            )
            for records in found.values()
            for r in records
        ]

    def at_end(self) -> bool:
        ends, positions = self.ends(), self.positions()
        return all(positions[partition] >= end for partition, end in ends.items())

    def ends(self) -> dict[int, int]:
        try:
            found = self._consumer.end_offsets(self._partitions)
            return {tp.partition: int(found[tp]) for tp in self._partitions}
        except KafkaError as error:
            raise self._error(error) from error

    def positions(self) -> dict[int, int]:
        try:
            return {tp.partition: int(self._consumer.position(tp)) for tp in self._partitions}
        except KafkaError as error:
            raise self._error(error) from error

    def close(self) -> None:
        self._consumer.close()

    def _error(self, error: Exception) -> BrokerError:
        return broker_error(self._settings, f"reading {self._topic}", error)


class KafkaStateReader:
    """The state topic into tables: the latest value of each key."""

    def __init__(self, settings: KafkaSettings, topic: str, partitions: Sequence[int]) -> None:
        self._tables: dict[int, dict[bytes, bytes]] = {p: {} for p in partitions}
        self._reader = KafkaReader(settings, topic, from_beginning=True, partitions=partitions)
        self._came_s = time.monotonic()
        self._quiet_s = _QUIET_S if settings.exactly_once else _LONG_QUIET_S

    def read(self, *, timeout_s: float) -> bool:
        records = self._reader.poll(timeout_s=timeout_s)
        if records:
            self._came_s = time.monotonic()
        for record in records:
            table = self._tables[record.partition]
            key = record.key or b""
            if record.value is None:
                table.pop(key, None)
            else:
                table[key] = record.value
        # A log may end in markers of transactions, which no poll returns: silence is an end too.
        # With transactions whoever asks knows from the watermark whether it was.
        quiet = time.monotonic() - self._came_s >= self._quiet_s
        return not records and (quiet or self._reader.at_end())

    def tables(self) -> Mapping[int, Mapping[bytes, bytes]]:
        return self._tables

    def close(self) -> None:
        self._reader.close()
