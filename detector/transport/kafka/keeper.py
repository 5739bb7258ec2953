"""The saved state of a group, looked at and replaced while none of its workers runs."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence

from kafka import (
    ConsumerGroupMetadata,
    KafkaAdminClient,
    KafkaConsumer,
    KafkaProducer,
    TopicPartition,
)
from kafka.errors import KafkaError, KafkaTimeoutError

from detector.core.records import Message
from detector.errors import BrokerError, StateError
from detector.transport.broker import Standing, Topics
from detector.transport.kafka.client import (
    MAX_REQUEST_BYTES,
    SEND_TIMEOUT_S,
    KafkaSettings,
    broker_error,
    connect,
    position_of,
    value_of,
)
from detector.transport.kafka.streams import KafkaStateReader

_READ_TIMEOUT_S = 60.0


class KafkaKeeper:
    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings, self._topics = settings, topics
        self._consumer = connect(
            settings,
            KafkaConsumer,
            settings.streams()
            | {
                "group_id": settings.group,  # to ask for its offsets; it never joins
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
            },
        )

    def standing(self) -> dict[int, Standing]:
        try:
            found = self._consumer.partitions_for_topic(self._topics.ticks) or set()
            tps = {p: TopicPartition(self._topics.ticks, p) for p in sorted(found)}
            first = self._consumer.beginning_offsets(list(tps.values()))
            end = self._consumer.end_offsets(list(tps.values()))
            result = {}
            for p, tp in tps.items():
                committed = self._consumer.committed(tp, timeout_ms=30_000)
                settled = None if committed is None or committed < 0 else committed
                result[p] = Standing(settled, first[tp], end[tp])
            return result
        except KafkaTimeoutError:
            raise BrokerError(
                f"{self._settings.where}: a transaction of group {self._settings.group} is under "
                "way; try again when it has ended"
            ) from None
        except KafkaError as error:
            raise broker_error(
                self._settings, "asking where the group stands", error, operation="Describe"
            ) from error

    def tables(self) -> dict[int, dict[bytes, bytes]]:
        """Of the partitions that the state topic has."""
        found = self._consumer.partitions_for_topic(self._topics.state) or set()
        if not found:
            return {}
        reader = KafkaStateReader(self._settings, self._topics.state, sorted(found))
        deadline_s = time.monotonic() + _READ_TIMEOUT_S
        try:
            while not reader.read(timeout_s=0.2):
                if time.monotonic() > deadline_s:
                    raise StateError(f"{self._settings.where}: {self._topics.state} has no end")
            return {p: dict(table) for p, table in reader.tables().items()}
        finally:
            reader.close()

    def replace(self, state: Sequence[Message], positions: Mapping[int, int]) -> None:
        self._refuse_running()
        settings = self._settings
        # The workers' own identity: one that starts meanwhile is fenced.
        producer = connect(
            settings,
            KafkaProducer,
            settings.streams()
            | {
                "transactional_id": settings.transactional_id,
                "transaction_timeout_ms": max(settings.transaction_timeout_ms, 60_000),
                "max_request_size": MAX_REQUEST_BYTES,
            },
        )
        try:
            producer.init_transactions()
            producer.begin_transaction()
            futures = [
                producer.send(
                    self._topics.state, key=m.key, value=value_of(m), partition=m.partition
                )
                for m in state
            ]
            producer.flush(timeout=SEND_TIMEOUT_S)
            for future in futures:
                future.get(timeout=SEND_TIMEOUT_S)
            producer.send_offsets_to_transaction(
                {
                    TopicPartition(self._topics.ticks, p): position_of(offset)
                    for p, offset in positions.items()
                },
                ConsumerGroupMetadata(settings.group),
            )
            producer.commit_transaction()
        except KafkaError as error:
            doing = (
                f"replacing the state (was a worker of group {settings.group} started meanwhile?)"
            )
            raise broker_error(settings, doing, error, operation="Write") from error
        finally:
            producer.close(timeout=2)

    def _refuse_running(self) -> None:
        """The broker takes a transaction's offsets from anybody who claims no membership."""
        settings = self._settings
        admin = connect(settings, KafkaAdminClient, settings.common())
        try:
            members = admin.describe_groups([settings.group])[settings.group]["members"]
        except KafkaError as error:
            raise broker_error(settings, f"who is in group {settings.group}", error) from error
        finally:
            admin.close()
        if members:
            hosts = sorted({m["client_host"].lstrip("/") for m in members})
            raise BrokerError(
                f"{settings.where}: group {settings.group} has {len(members)} members (on "
                f"{', '.join(hosts)}): stop them first; one that was killed leaves after "
                f"{settings.session_timeout_ms / 1000:g} s (kafka.session_timeout_ms)"
            )

    def close(self) -> None:
        self._consumer.close()
