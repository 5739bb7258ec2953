"""A follower of a topic: its offsets are those of a group, its table is in a compacted topic.

It is assigned every partition and never joins the group: one process a name. The name is its
transactional id too, so that a second one fences the first, whose next commit then fails. Table and
offsets move in one transaction; each writes a watermark, the offsets it belongs to, and a table is
read to its end when the watermark is that of the group's offsets (as the worker does, KAFKA-10167).
"""

from __future__ import annotations

import contextlib
import json
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from kafka import ConsumerGroupMetadata, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from detector.core.records import Message, Record
from detector.errors import BrokerError
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

_ASK_TIMEOUT_MS = 30_000
#: Of a table whose watermark is not that of the offsets: somebody has moved these.
_READ_TIMEOUT_S = 10.0
_LOOK_FOR_PARTITIONS_S = 60.0
_LOGGER = logging.getLogger("detector.kafka")


class KafkaFollower:
    def __init__(self, settings: KafkaSettings, name: str, topic: str, kept_in: str) -> None:
        # What is said of being fenced names the id that is another's.
        self._settings = replace(
            settings, group=name, transactional_id=name, group_instance_id=None
        )
        self._name, self._topic, self._kept_in = name, topic, kept_in
        self._producer: Any = None
        self._consumer: Any = None
        self._positions: dict[int, int] = {}  # as committed
        self._table: dict[bytes, bytes] = {}
        self._looked_s = 0.0
        self.fresh, self.lost = True, 0

    def open(self, *, from_beginning: bool) -> None:
        """Raises BrokerError, FencedError."""
        try:
            with self._reported("opening"):
                self._open(from_beginning)
        except BaseException:
            self.close()
            raise

    def _open(self, from_beginning: bool) -> None:
        settings = self._settings
        self._producer = connect(
            settings,
            KafkaProducer,
            settings.streams()
            | {
                "transactional_id": self._name,
                "transaction_timeout_ms": settings.transaction_timeout_ms,
                "delivery_timeout_ms": max(settings.transaction_timeout_ms, 2_000),
                "request_timeout_ms": max(settings.transaction_timeout_ms // 2, 1_000),
                "max_block_ms": max(1, int(settings.retry_timeout_s * 1000)),
                "linger_ms": 0,
                "retry_backoff_ms": 10,
                "compression_type": settings.compression,
                "max_request_size": MAX_REQUEST_BYTES,
            },
        )
        self._producer.init_transactions()  # what a former one has begun is ended before it returns
        self._consumer = connect(
            settings,
            KafkaConsumer,
            settings.streams()
            | {
                "group_id": self._name,  # to ask for its offsets; it never joins
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                "auto_offset_reset": "earliest",
                "fetch_max_wait_ms": 100,
                "max_poll_records": 500,
            },
        )
        found = self._consumer.partitions_for_topic(self._topic)
        if not found:
            raise BrokerError(f"{settings.where}: has no topic {self._topic}")
        tps = {p: TopicPartition(self._topic, p) for p in sorted(found)}
        self._consumer.assign(list(tps.values()))
        committed = {p: self._committed(tp) for p, tp in tps.items()}
        self._positions = {p: offset for p, offset in committed.items() if offset is not None}
        # The group forgets offsets that were not committed for a week: the table does not.
        self._table, marked = self._read_table()
        for p in tps:
            if committed[p] is None and p in marked:
                committed[p] = self._positions[p] = marked[p]
        self.fresh = not self._positions
        first = self._consumer.beginning_offsets(list(tps.values()))
        end = self._consumer.end_offsets(list(tps.values()))
        for p, tp in tps.items():
            at = committed[p]
            if at is None:  # a partition that is new is read from its beginning
                at = first[tp] if from_beginning or not self.fresh else end[tp]
            elif at < first[tp]:
                self.lost += first[tp] - at
                at = first[tp]
            self._consumer.seek(tp, at)
        self._looked_s = time.monotonic()

    def _committed(self, partition: Any) -> int | None:
        offset = self._consumer.committed(partition, timeout_ms=_ASK_TIMEOUT_MS)
        return None if offset is None or offset < 0 else int(offset)

    def _read_table(self) -> tuple[dict[bytes, bytes], dict[int, int]]:
        """What was kept, and the offsets that it belongs to."""
        prefix, mark = self._prefix, self._watermark_key
        reader = KafkaStateReader(self._settings, self._kept_in, [0])
        give_up_s = time.monotonic() + _READ_TIMEOUT_S
        try:
            while True:
                ended = reader.read(timeout_s=0.2)
                table = reader.tables()[0]
                marked = _watermark(table.get(mark))
                if ended and {p: marked.get(p) for p in self._positions} == self._positions:
                    break
                if ended and time.monotonic() > give_up_s:
                    _LOGGER.warning(
                        "%s: the offsets of group %s are not those its table in %s belongs to: "
                        "were they moved? Going on with both",
                        self._settings.where,
                        self._name,
                        self._kept_in,
                    )
                    break
            found = {
                key.removeprefix(prefix): value
                for key, value in table.items()
                if key.startswith(prefix)
            }
            return found, marked
        finally:
            reader.close()

    @property
    def _prefix(self) -> bytes:
        return f"{self._name}\0".encode()

    @property
    def _watermark_key(self) -> bytes:
        return self._name.encode()

    def table(self) -> Mapping[bytes, bytes]:
        return self._table

    def poll(self, *, timeout_s: float) -> list[Record]:
        with self._reported(f"reading {self._topic}"):
            self._look_for_partitions()
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000))
        return [
            Record(
                r.topic, r.partition, r.offset, r.timestamp, r.key, r.value, tuple(r.headers or ())
            )
            for records in found.values()
            for r in records
        ]

    def _look_for_partitions(self) -> None:
        if time.monotonic() - self._looked_s < _LOOK_FOR_PARTITIONS_S:
            return
        self._looked_s = time.monotonic()
        found = self._consumer.partitions_for_topic(self._topic) or set()
        if len(found) > len(self._consumer.assignment()):
            raise BrokerError(f"{self._settings.where}: {self._topic} has got more partitions")

    def positions(self) -> dict[int, int]:
        with self._reported(f"reading {self._topic}"):
            return {
                tp.partition: int(self._consumer.position(tp)) for tp in self._consumer.assignment()
            }

    def ends(self) -> dict[int, int]:
        with self._reported(f"reading {self._topic}"):
            found = self._consumer.end_offsets(list(self._consumer.assignment()))
            return {tp.partition: int(end) for tp, end in found.items()}

    def commit(self, kept: Sequence[Message], positions: Mapping[int, int]) -> None:
        moved = {**self._positions, **positions}
        messages = [(self._prefix + (m.key or b""), value_of(m)) for m in kept]
        messages.append((self._watermark_key, json.dumps(sorted(moved.items())).encode()))
        with self._reported("committing"):
            self._producer.begin_transaction()
            sent = [
                self._producer.send(self._kept_in, key=key, value=value, partition=0)
                for key, value in messages
            ]
            self._producer.flush(timeout=SEND_TIMEOUT_S)
            for future in sent:  # an expired batch would let the commit succeed without it
                future.get(timeout=SEND_TIMEOUT_S)
            self._producer.send_offsets_to_transaction(
                {
                    TopicPartition(self._topic, p): position_of(offset)
                    for p, offset in moved.items()
                },
                ConsumerGroupMetadata(self._name),
            )
            self._producer.commit_transaction()
        self._positions = moved

    @contextlib.contextmanager
    def _reported(self, doing: str) -> Iterator[None]:
        try:
            yield
        except (KafkaError, AssertionError, ValueError) as error:
            raise broker_error(self._settings, f"{self._name}: {doing}", error) from error

    def close(self) -> None:
        for client, options in ((self._producer, {"timeout": 2}), (self._consumer, {})):
            if client is not None:
                with contextlib.suppress(KafkaError):
                    client.close(**options)
        self._producer = self._consumer = None


def _watermark(value: bytes | None) -> dict[int, int]:
    return {} if value is None else {int(p): int(offset) for p, offset in json.loads(value)}
