"""Apache Kafka through kafka-python: consumer groups and transactions.

The client's traps and what is done about each (kafka-python 3.0.12):
- values are decoded by us, never by a deserializer: one that raises stops the consumer;
- every send future is checked before offsets are sent: an expired batch would let the commit
  succeed without it;
- the group metadata is taken right after the poll that gave the records, and a generation
  below 0 (membership lost) is refused: a broker would accept the commit;
- after any failure in a transaction the producer is thrown away: its pending offsets would
  leak into the next transaction.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, OffsetAndMetadata, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError, TopicAlreadyExistsError

from detector.core.codec import RecordBlock
from detector.errors import BrokerError, TransactionError
from detector.transport.broker import Message, Outbox, Publisher, Reader, Record, Topics

#: Alerts may carry long windows of many features.
_MAX_REQUEST_BYTES = 4 * 1024 * 1024
_SEND_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """security: options of kafka-python, passed on as they are."""

    bootstrap_servers: str
    group: str
    transactional_id: str
    session_timeout_ms: int
    transaction_timeout_ms: int
    compression: str | None
    create_topics: bool
    partitions: int
    replication_factor: int
    start: str
    retry_timeout_s: float
    max_poll_records: int
    security: Mapping[str, str]

    def common(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "bootstrap_timeout_ms": max(1, int(self.retry_timeout_s * 1000)),
            **self.security,
        }


class KafkaBroker:
    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def describe(self) -> str:
        return f"Kafka at {self._settings.bootstrap_servers}"

    def prepare(self, topics: Topics, *, partitioned: Sequence[str]) -> None:
        settings = self._settings
        admin = _connect(settings, KafkaAdminClient, settings.common())
        try:
            wanted = [topics.ticks, topics.alerts, topics.dead_letters]
            if topics.state is not None:
                wanted.append(topics.state)
            missing = [name for name in wanted if name not in set(admin.list_topics())]
            if not missing:
                return
            if not settings.create_topics:
                raise BrokerError(
                    f"{self.describe()}: missing topics {', '.join(missing)}; create them or set "
                    "topics.create: true"
                )
            admin.create_topics(
                {
                    name: {
                        "num_partitions": settings.partitions if name in partitioned else 1,
                        "replication_factor": settings.replication_factor,
                        "configs": {
                            topics.ticks: _TICKS_TOPIC,
                            topics.state: _STATE_TOPIC,
                        }.get(name, {}),
                    }
                    for name in missing
                },
                wait_for_metadata=True,
            )
        except TopicAlreadyExistsError:
            pass  # somebody else was quicker
        except KafkaError as error:
            raise BrokerError(f"{self.describe()}: cannot create topics: {error}") from error
        finally:
            admin.close()

    def worker(self, topics: Topics) -> KafkaWorker:
        return KafkaWorker(self._settings, topics)

    def publisher(self) -> Publisher:
        return _KafkaPublisher(self._settings)

    def reader(self, topic: str, *, from_beginning: bool) -> Reader:
        return _KafkaReader(self._settings, topic, from_beginning)


#: The broker's own time: tick-to-alert then starts when the tick is in the log.
_TICKS_TOPIC = {"message.timestamp.type": "LogAppendTime"}
_STATE_TOPIC = {
    "cleanup.policy": "compact",
    "segment.bytes": str(32 * 1024 * 1024),
    "min.cleanable.dirty.ratio": "0.1",
}


class KafkaWorker:
    """One member of the group. Exactly once: every commit is a Kafka transaction."""

    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings, self._topics = settings, topics
        self._consumer: Any = None
        self._producer: Any = None
        self._group: Any = None

    def open(self) -> None:
        settings = self._settings
        self._producer = _connect(
            settings,
            KafkaProducer,
            settings.common()
            | {
                "transactional_id": settings.transactional_id,
                "transaction_timeout_ms": settings.transaction_timeout_ms,
                "delivery_timeout_ms": max(settings.transaction_timeout_ms, 2_000),
                "request_timeout_ms": max(settings.transaction_timeout_ms // 2, 1_000),
                "linger_ms": 0,
                "compression_type": settings.compression,
                "max_request_size": _MAX_REQUEST_BYTES,
            },
        )
        try:
            self._producer.init_transactions()
        except KafkaError as error:
            raise BrokerError(f"{self._where()}: transactions are refused: {error}") from error
        self._consumer = _connect(
            settings,
            KafkaConsumer,
            settings.common()
            | {
                "group_id": settings.group,
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                "auto_offset_reset": settings.start,
                "session_timeout_ms": settings.session_timeout_ms,
                "heartbeat_interval_ms": settings.session_timeout_ms // 3,
                "partition_assignment_strategy": [CooperativeStickyAssignor],
                "max_poll_records": settings.max_poll_records,
                "fetch_max_wait_ms": 100,
                "receive_buffer_bytes": 1024 * 1024,
            },
        )
        self._consumer.subscribe([self._topics.ticks])

    def poll(self, *, max_records: int, timeout_s: float) -> list[RecordBlock]:
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
        except KafkaError as error:
            raise BrokerError(f"{self._where()}: reading {self._topics.ticks}: {error}") from error
        self._group = self._consumer.group_metadata()
        return [
            RecordBlock(
                partition.topic,
                partition.partition,
                [r.offset for r in records],
                [r.timestamp for r in records],
                [r.key for r in records],
                [r.value for r in records],
            )
            for partition, records in found.items()
        ]

    def commit(self, outbox: Outbox, positions: Mapping[int, int]) -> None:
        topics = self._topics
        if self._group is None or self._group.generation_id < 0:
            raise TransactionError(f"{self._where()}: the group membership was lost")
        producer = self._producer
        try:
            producer.begin_transaction()
            futures = [
                producer.send(
                    topic,
                    key=m.key,
                    value=_value(m),
                    headers=list(m.headers),
                    partition=m.partition,
                )
                for topic, messages in (
                    (topics.alerts, outbox.alerts),
                    (topics.dead_letters, outbox.dead_letters),
                    (topics.state, outbox.state),
                )
                for m in messages
            ]
            if futures:
                producer.flush(timeout=_SEND_TIMEOUT_S)
            for future in futures:
                future.get(timeout=_SEND_TIMEOUT_S)
            producer.send_offsets_to_transaction(
                {
                    TopicPartition(topics.ticks, p): _position(offset)
                    for p, offset in positions.items()
                },
                self._group,
            )
            producer.commit_transaction()
        except KafkaError as error:
            raise TransactionError(
                f"{self._where()}: transaction: {type(error).__name__}: {error}"
            ) from error

    def assignment(self) -> frozenset[int]:
        return frozenset(tp.partition for tp in self._consumer.assignment())

    def ready(self) -> bool:
        return self._group is not None and self._group.generation_id >= 0

    def lag(self) -> dict[int, int]:
        result = {}
        for tp in self._consumer.assignment():
            end = self._consumer.highwater(tp)
            if end is not None:
                result[tp.partition] = max(0, end - self._consumer.position(tp))
        return result

    def reopen(self) -> None:
        self.close()
        self.open()

    def load_state(self, partitions: Sequence[int]) -> dict[int, dict[bytes, bytes]]:
        if self._topics.state is None:
            return {p: {} for p in partitions}
        tables: dict[int, dict[bytes, bytes]] = {p: {} for p in partitions}
        reader = _KafkaReader(self._settings, self._topics.state, True, partitions)
        try:
            while not reader.at_end():
                for record in reader.poll(timeout_s=0.2):
                    if record.key is None:
                        continue
                    if record.value is None:
                        tables[record.partition].pop(record.key, None)
                    else:
                        tables[record.partition][record.key] = record.value
        finally:
            reader.close()
        return tables

    def close(self) -> None:
        for client in (self._consumer, self._producer):
            if client is not None:
                try:
                    if client is self._producer:
                        client.close(timeout=2)
                    else:
                        client.close(timeout_ms=2000)
                except KafkaError:
                    pass  # it is thrown away: a broker that is gone cannot be told
        self._consumer = self._producer = self._group = None

    def _where(self) -> str:
        return f"Kafka at {self._settings.bootstrap_servers}"


class _KafkaPublisher:
    def __init__(self, settings: KafkaSettings) -> None:
        self._where = f"Kafka at {settings.bootstrap_servers}"
        self._failure: Exception | None = None
        self._producer = _connect(
            settings,
            KafkaProducer,
            settings.common()
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
                    value=_value(m),
                    headers=list(m.headers),
                    partition=m.partition,
                )
                future.add_errback(self._failed)
        except KafkaError as error:
            raise BrokerError(f"{self._where}: publishing to {topic}: {error}") from error

    def _failed(self, error: Exception) -> None:
        self._failure = error

    def flush(self) -> None:
        try:
            self._producer.flush(timeout=_SEND_TIMEOUT_S)
        except KafkaError as error:
            raise BrokerError(f"{self._where}: publishing: {error}") from error
        if self._failure is not None:
            raise BrokerError(f"{self._where}: publishing: {self._failure}") from self._failure

    def close(self) -> None:
        self._producer.close(timeout=5)


class _KafkaReader:
    def __init__(
        self,
        settings: KafkaSettings,
        topic: str,
        from_beginning: bool,
        partitions: Sequence[int] | None = None,
    ) -> None:
        self._where = f"Kafka at {settings.bootstrap_servers}"
        self._topic = topic
        self._consumer = _connect(
            settings,
            KafkaConsumer,
            settings.common()
            | {
                "group_id": None,
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                "fetch_max_wait_ms": 100,
            },
        )
        found = self._consumer.partitions_for_topic(topic)
        if not found:
            self._consumer.close()
            raise BrokerError(f"{self._where}: has no topic {topic}")
        chosen = sorted(found) if partitions is None else list(partitions)
        self._partitions = [TopicPartition(topic, p) for p in chosen]
        self._consumer.assign(self._partitions)
        if from_beginning:
            self._consumer.seek_to_beginning(*self._partitions)
        else:
            self._consumer.seek_to_end(*self._partitions)
        for partition in self._partitions:  # resolves the seek: "now" is now
            self._consumer.position(partition)

    def poll(self, *, timeout_s: float) -> list[Record]:
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        except KafkaError as error:
            raise BrokerError(f"{self._where}: reading {self._topic}: {error}") from error
        return [
            Record(
                r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())
            )
            for records in found.values()
            for r in records
        ]

    def at_end(self) -> bool:
        ends = self._consumer.end_offsets(self._partitions)
        return all(self._consumer.position(tp) >= ends[tp] for tp in self._partitions)

    def close(self) -> None:
        self._consumer.close()


def _value(message: Message) -> bytes | None:
    """The client refuses a record without key and value; Kafka itself would take it."""
    return b"" if message.key is None and message.value is None else message.value


def _position(offset: int) -> Any:
    return OffsetAndMetadata(offset, "", -1)


def _connect(settings: KafkaSettings, client: Callable[..., Any], options: dict[str, Any]) -> Any:
    started = time.monotonic()
    try:
        return client(**options)
    except (KafkaError, OSError, ValueError) as error:
        waited = time.monotonic() - started
        raise BrokerError(
            f"Kafka at {settings.bootstrap_servers}: cannot connect within {waited:.0f} s "
            f"({type(error).__name__}: {error}); check kafka.bootstrap_servers and the broker"
        ) from error
