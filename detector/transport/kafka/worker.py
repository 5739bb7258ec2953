"""One member of the group that commits in transactions.

The client's traps and what is done about each (kafka-python 3.0.12):
- values are decoded by us, never by a deserializer: one that raises stops the consumer;
- every send future is checked before offsets are sent: an expired batch would let the commit
  succeed without it;
- a generation below 0 (membership lost) is refused: a broker would accept the commit. So is a
  member id that changed since the work was polled: the partitions may have been elsewhere
  meanwhile, and the client tells of no loss when it rejoins in the middle of a rebalance;
- after any failure in a transaction the producer is thrown away: its pending offsets would
  leak into the next transaction;
- while the group rebalances the broker may already be a generation ahead of the client, and
  would refuse a commit: it waits (may_commit). A rebalance begins and ends within poll alone;
- rebalance listeners run on the client's thread while poll waits for them. Partitions are given
  up only after the listener returns, so a commit made there still counts.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kafka import ConsumerRebalanceListener, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    CommitFailedError,
    CorruptRecordError,
    KafkaError,
    KafkaTimeoutError,
    MessageSizeTooLargeError,
    OffsetOutOfRangeError,
    UnsupportedCodecError,
)
from kafka.structs import MemberState

from detector.core.codec import RecordBlock
from detector.errors import (
    BrokerError,
    ConfigError,
    DetectorError,
    FencedError,
    StateError,
    TransactionError,
)
from detector.transport.broker import Message, Outbox, Release, Standing, StateReader, Topics
from detector.transport.kafka.client import (
    MAX_REQUEST_BYTES,
    SEND_TIMEOUT_S,
    KafkaSettings,
    connect,
    is_fenced,
    position_of,
    value_of,
)
from detector.transport.kafka.streams import KafkaStateReader

_STANDING_TIMEOUT_MS = 1000


class KafkaWorker:
    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings, self._topics = settings, topics
        self._consumer: Any = None
        self._producer: Any = None
        self._release: Release = lambda _: None
        self._member = ""
        self._started: set[int] = set()
        self._lost: set[int] = set()
        self._gained: set[int] = set()
        self._failure: DetectorError | None = None
        self._releasing = False
        self._joined = False
        self._refused: int | None = None  # the generation whose commit the group refused
        self._polled_s = time.monotonic()

    # -- joining and leaving

    def open(self, release: Release) -> None:
        self._release = release
        self._open_producer()
        settings = self._settings
        self._consumer = connect(
            settings,
            KafkaConsumer,
            settings.common()
            | {
                "group_id": settings.group,
                "group_instance_id": settings.group_instance_id,
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                "auto_offset_reset": "none",  # where to start is said, never guessed
                "session_timeout_ms": settings.session_timeout_ms,
                # A rebalance waits until each member hears of it with its next heartbeat.
                "heartbeat_interval_ms": min(settings.session_timeout_ms // 3, 500),
                "partition_assignment_strategy": [CooperativeStickyAssignor],
                # A member that does not poll holds up a rebalance for so long at most.
                "max_poll_interval_ms": max(settings.session_timeout_ms, 60_000),
                "max_poll_records": settings.max_poll_records,
                "fetch_max_wait_ms": 100,
                "receive_buffer_bytes": 1024 * 1024,
            },
        )
        self._consumer.subscribe([self._topics.ticks], listener=_Listener(self))
        # Known before joining: a leader that does not know the topic yet hands out nothing.
        if not self._consumer.partitions_for_topic(self._topics.ticks):
            raise BrokerError(f"{settings.where}: has no topic {self._topics.ticks}")

    def _open_producer(self) -> None:
        settings = self._settings
        options = settings.common() | {
            "delivery_timeout_ms": max(settings.transaction_timeout_ms, 2_000),
            "request_timeout_ms": max(settings.transaction_timeout_ms // 2, 1_000),
            "linger_ms": 0,
            "compression_type": settings.compression,
            "max_request_size": MAX_REQUEST_BYTES,
        }
        if settings.exactly_once:
            options |= {
                "transactional_id": settings.transactional_id,
                "transaction_timeout_ms": settings.transaction_timeout_ms,
                "max_block_ms": max(1, int(settings.retry_timeout_s * 1000)),
            }
        self._producer = connect(settings, KafkaProducer, options)
        if not settings.exactly_once:
            return
        try:
            self._producer.init_transactions()
        except KafkaError as error:
            raise BrokerError(
                f"{settings.where}: transactions are refused or do not answer: "
                f"{type(error).__name__}: {error}"
            ) from error

    def reopen(self) -> None:
        self._close_producer()
        self._open_producer()
        held = self._held()
        self._lost |= held
        self._hold(held)
        if self._refused is None:
            self._gained |= held
        self._failure = None
        self._member = ""

    def close(self) -> None:
        self._close_producer()
        if self._consumer is not None:
            with contextlib.suppress(KafkaError):  # a broker that is gone cannot be told
                self._consumer.close(timeout_ms=2000)
            self._consumer = None
        self._started.clear()

    def _close_producer(self) -> None:
        if self._producer is not None:
            with contextlib.suppress(KafkaError):
                self._producer.close(timeout=2)
            self._producer = None

    # -- partitions

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        lost, gained = frozenset(self._lost), frozenset(self._gained)
        self._lost, self._gained = set(), set()
        return lost, gained

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        tps = {p: TopicPartition(self._topics.ticks, p) for p in partitions}
        found: dict[int, Standing] = {}
        try:
            first = self._consumer.beginning_offsets(list(tps.values()))
            end = self._consumer.end_offsets(list(tps.values()))
            for p, tp in tps.items():
                committed = self._consumer.committed(tp, timeout_ms=_STANDING_TIMEOUT_MS)
                # A negative offset is how some broker versions say "none".
                settled = None if committed is None or committed < 0 else committed
                found[p] = Standing(settled, first[tp], end[tp])
        except KafkaTimeoutError:
            pass  # a transaction of the last owner is not settled yet
        except KafkaError as error:
            raise self._error("asking for the committed offsets", error) from error
        return found

    def read_state(self, partitions: Sequence[int]) -> StateReader:
        return KafkaStateReader(self._settings, self._topics.state, partitions)

    def start(self, positions: Mapping[int, int]) -> None:
        for partition, offset in positions.items():
            tp = TopicPartition(self._topics.ticks, partition)
            if partition in self._held():
                try:
                    self._consumer.seek(tp, offset)
                except KafkaError as error:  # the client asks the broker about the offset
                    raise self._error(f"going to {tp} {offset}", error) from error
                self._consumer.resume(tp)
                self._started.add(partition)

    def position(self, partition: int) -> int:
        try:
            offset: int = self._consumer.position(TopicPartition(self._topics.ticks, partition))
        except KafkaError as error:  # with a new leader the client asks the broker first
            raise self._error("asking for the position", error) from error
        return offset

    def ready(self) -> bool:
        group = self._consumer.group_metadata()
        if group.generation_id < 0:
            self._joined = False
        elif group.state == MemberState.STABLE:
            self._joined = True  # and stays so while the group shuffles partitions
        return self._joined

    def may_commit(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def lag(self) -> dict[int, int]:
        result = {}
        for partition in self._started:
            tp = TopicPartition(self._topics.ticks, partition)
            if tp in self._consumer.assignment():
                end = self._consumer.highwater(tp)
                if end is not None:
                    result[partition] = max(0, end - self.position(partition))
        return result

    def readable(self) -> int:
        tps = [TopicPartition(self._topics.ticks, p) for p in self._started]
        try:
            ends = self._consumer.end_offsets(tps)
            return sum(max(0, ends[tp] - self._consumer.position(tp)) for tp in tps)
        except KafkaError as error:
            raise self._error("asking for the end of the log", error) from error

    def _held(self) -> set[int]:
        return {tp.partition for tp in self._consumer.assignment()}

    def _hold(self, partitions: set[int]) -> None:
        """Do not read these until start says where. Runs on the client's thread too."""
        self._started -= partitions
        for partition in partitions:
            tp = TopicPartition(self._topics.ticks, partition)
            self._consumer.pause(tp)
            self._consumer.seek(tp, 0)  # a position, so that the client does not look for one

    # -- called by the listener, on the client's thread, while poll waits

    def on_assigned(self, partitions: set[int]) -> None:
        self._gained |= partitions
        self._hold(partitions)

    def on_revoked(self, partitions: set[int]) -> None:
        try:
            if self._member_changed():
                raise self._membership_lost()
            self._releasing = True
            self._release(frozenset(partitions))
        except DetectorError as error:
            self._failure = error
        finally:
            self._releasing = False
        self.on_lost(partitions)

    def on_lost(self, partitions: set[int]) -> None:
        self._lost |= partitions
        self._gained -= partitions
        self._started -= partitions

    # -- the loop

    def poll(self, *, max_records: int, timeout_s: float) -> list[RecordBlock]:
        try:
            found = self._consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=max_records)
            self._polled_s = time.monotonic()
        except OffsetOutOfRangeError as error:
            raise StateError(
                f"{self._settings.where}: ticks not yet read were deleted from "
                f"{self._topics.ticks} ({error}): its retention is shorter than the lag. Started "
                "again, delivery.on_lost_ticks decides what happens"
            ) from error
        except (CorruptRecordError, UnsupportedCodecError) as error:
            raise self._unreadable(error) from error
        except KafkaError as error:
            raise self._error(f"reading {self._topics.ticks}", error) from error
        except Exception as error:
            raise self._unreadable(error) from error
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._member_changed():
            raise self._membership_lost()
        group = self._consumer.group_metadata()
        if group.generation_id >= 0 and group.generation_id != self._refused:
            self._member = group.member_id
            if self._refused is not None:  # back in the group: what is held is held by right
                self._refused = None
                self._gained |= self._held()
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
            if partition.partition in self._started
        ]

    def _membership_lost(self) -> TransactionError:
        where = self._settings.where
        return TransactionError(f"{where}: the group membership was lost", begun=False)

    def _must_be_member(self) -> None:
        """Nothing fences a worker without transactions: after a sleep longer than its session the
        partitions are another's, whatever the client believes."""
        silent_s = time.monotonic() - self._polled_s
        if silent_s > self._settings.session_timeout_ms / 1000 or self._member_changed():
            raise self._membership_lost()

    def _unreadable(self, error: Exception) -> BrokerError:
        settings, topic = self._settings, self._topics.ticks
        if isinstance(error, UnsupportedCodecError):
            return BrokerError(
                f"{settings.where}: {topic} holds records compressed with a codec that is not "
                f"installed here ({error}): pip install python-snappy, lz4 or zstandard"
            )
        return BrokerError(
            f"{settings.where}: {topic} holds a damaged batch of records "
            f"({type(error).__name__}: {error}): restore it from a replica, or step over it: "
            "detector state reset --to latest"
        )

    def _member_changed(self) -> bool:
        group = self._consumer.group_metadata()
        return bool(self._member and group.generation_id >= 0 and group.member_id != self._member)

    def commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        group = self._consumer.group_metadata()
        if group.generation_id < 0 or group.member_id != self._member:
            self._refused = group.generation_id
            raise self._membership_lost()
        offsets = {
            TopicPartition(self._topics.ticks, p): position_of(offset)
            for p, offset in positions.items()
        }
        began_s = time.monotonic()
        try:
            if self._settings.exactly_once:
                self._producer.begin_transaction()
                self._send(outbox, state_apart=False)
                self._producer.send_offsets_to_transaction(offsets, group)
                self._producer.commit_transaction()
            else:
                self._send(outbox, state_apart=True)
                # For the tools that watch the group; the watermarks are what a restart reads.
                if not self._releasing:
                    self._consumer.commit_async(offsets, callback=lambda *_: None)
        except DetectorError:
            raise
        except Exception as error:
            if _is_refused(error):
                self._refused = group.generation_id
            waited_s = time.monotonic() - began_s
            if waited_s > self._settings.transaction_timeout_ms / 1000 and is_fenced(error):
                # The broker itself ended a transaction that took too long.
                raise TransactionError(
                    f"{self._settings.where}: the transaction took {waited_s:.0f} s, longer than "
                    "kafka.transaction_timeout_ms"
                ) from error
            raise self._error("transaction", error) from error

    def _send(self, outbox: Outbox, *, state_apart: bool) -> None:
        """state_apart: alerts and dead letters are safe before the state is written that says
        they are, and each record of state before the watermark that counts on it."""
        topics = self._topics
        state = (topics.state, outbox.state)
        watermarks = (topics.state, outbox.watermarks)
        results = ((topics.alerts, outbox.alerts), (topics.dead_letters, outbox.dead_letters))
        rounds: tuple[tuple[tuple[str, list[Message]], ...], ...] = ((*results, state, watermarks),)
        if state_apart:
            rounds = (results, (state,), (watermarks,))
        for topics_and_messages in rounds:
            if state_apart:
                self._must_be_member()
            sent = []
            for topic, messages in topics_and_messages:
                for m in messages:
                    with _sized(topic, m):
                        future = self._producer.send(
                            topic,
                            key=m.key,
                            value=value_of(m),
                            headers=list(m.headers),
                            partition=m.partition,
                        )
                    sent.append((topic, m, future))
            if sent:
                self._producer.flush(timeout=SEND_TIMEOUT_S)
            for topic, m, future in sent:
                with _sized(topic, m):
                    future.get(timeout=SEND_TIMEOUT_S)

    def _error(self, doing: str, error: Exception) -> BrokerError:
        settings = self._settings
        text = f"{settings.where}: {doing}: {type(error).__name__}: {error}"
        if is_fenced(error):
            identity = f"kafka.transactional_id {settings.transactional_id!r}"
            if settings.group_instance_id is not None:
                identity += f" or kafka.group_instance_id {settings.group_instance_id!r}"
            return FencedError(
                f"{text}: another worker uses {identity}; this one ends. Give each worker its "
                "own, the same after a restart"
            )
        return TransactionError(text) if doing == "transaction" else BrokerError(text)


@contextlib.contextmanager
def _sized(topic: str, message: Message) -> Iterator[None]:
    """A record that is too large for its topic will be so for ever: say which."""
    try:
        yield
    except MessageSizeTooLargeError as error:
        size = len(message.key or b"") + len(message.value or b"")
        raise ConfigError(
            f"{topic}: a record of {size} bytes is larger than the broker takes: raise the "
            f"topic's max.message.bytes (the client sends up to {MAX_REQUEST_BYTES}), or shorten "
            "the window or the series' names"
        ) from error


def _is_refused(error: BaseException | None) -> bool:
    """Whether the group does not know this member, or not in this generation."""
    while error is not None:
        if isinstance(error, CommitFailedError):
            return True
        error = error.__cause__ or error.__context__
    return False


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]  # the library is untyped
    def __init__(self, worker: KafkaWorker) -> None:
        self._worker = worker

    def on_partitions_revoked(self, revoked: Any) -> None:
        self._worker.on_revoked({tp.partition for tp in revoked})

    def on_partitions_assigned(self, assigned: Any) -> None:
        self._worker.on_assigned({tp.partition for tp in assigned})

    def on_partitions_lost(self, lost: Any) -> None:
        self._worker.on_lost({tp.partition for tp in lost})
