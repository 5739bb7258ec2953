"""How work becomes safe: in a transaction, or acknowledged in the right order.

The client's traps and what is done about each (kafka-python 3.0.12):
- every send future is checked before offsets are sent: an expired batch would let the commit
  succeed without it;
- after any failure in a transaction the producer is thrown away: its pending offsets would
  leak into the next transaction;
- the broker refuses to begin a transaction while it still writes down the end of the last one,
  and before it asks again the client sleeps: for 100 ms, if nothing else is said.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol

from kafka import KafkaProducer
from kafka.errors import CommitFailedError, KafkaError, MessageSizeTooLargeError

from detector.core.records import Message
from detector.errors import BrokerError, ConfigError, DetectorError, TransactionError
from detector.transport.broker import Outbox, Topics
from detector.transport.kafka.client import (
    MAX_REQUEST_BYTES,
    SEND_TIMEOUT_S,
    KafkaSettings,
    broker_error,
    connect,
    is_fenced,
    refuse,
    value_of,
)
from detector.transport.kafka.membership import Membership, Voice

#: Of 54 transactions in a row 7 were asked to wait: p90 109 ms with the client's 100 ms, else 23.
_ASK_AGAIN_MS = 10


class Committer(Protocol):
    """Writes an outbox and moves offsets, with a producer of its own."""

    def open(self) -> None:
        """Raises BrokerError, FencedError."""

    def commit(self, outbox: Outbox, offsets: Mapping[Any, Any], voice: Voice) -> None:
        """Runs on a thread of its own. Raises TransactionError, FencedError, ConfigError."""

    def committed(self, offsets: Mapping[Any, Any]) -> None:
        """What remains to be done with the consumer, by the thread that has it."""

    def close(self) -> None: ...


class _Producing:
    """A producer, and how messages are sent through it."""

    def __init__(self, settings: KafkaSettings, topics: Topics, membership: Membership) -> None:
        self._settings, self._topics, self._membership = settings, topics, membership
        self._producer: Any = None

    def _connect(self, **options: Any) -> None:
        settings = self._settings
        self._producer = connect(
            settings,
            KafkaProducer,
            settings.streams()
            | {
                "delivery_timeout_ms": max(settings.transaction_timeout_ms, 2_000),
                "request_timeout_ms": max(settings.transaction_timeout_ms // 2, 1_000),
                "linger_ms": 0,
                "retry_backoff_ms": _ASK_AGAIN_MS,
                "compression_type": settings.compression,
                "max_request_size": MAX_REQUEST_BYTES,
            }
            | options,
        )

    def close(self) -> None:
        if self._producer is not None:
            with contextlib.suppress(KafkaError):
                self._producer.close(timeout=2)
            self._producer = None

    def _failed(self, error: Exception) -> BrokerError:
        doing = "transaction"
        return broker_error(self._settings, doing, error, TransactionError, operation="Write")

    def _send(self, *messages: tuple[str, Sequence[Message]]) -> None:
        """Messages by topic, in order; returns when each is acknowledged."""
        sent = []
        for topic, several in messages:
            for m in several:
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


class Transactional(_Producing):
    """All of it in one transaction, offsets included: exactly once."""

    def open(self) -> None:
        settings = self._settings
        self._connect(
            transactional_id=settings.transactional_id,
            transaction_timeout_ms=settings.transaction_timeout_ms,
            max_block_ms=max(1, int(settings.retry_timeout_s * 1000)),
        )
        try:
            self._producer.init_transactions()
        except KafkaError as error:
            refuse(settings)
            doing = "transactions are refused or do not answer"
            raise broker_error(settings, doing, error, operation="Write") from error

    def commit(self, outbox: Outbox, offsets: Mapping[Any, Any], voice: Voice) -> None:
        began_s = time.monotonic()
        try:
            self._producer.begin_transaction()
            self._send(
                (self._topics.alerts, outbox.alerts),
                (self._topics.dead_letters, outbox.dead_letters),
                (self._topics.state, outbox.state),
                (self._topics.state, outbox.watermarks),
            )
            self._producer.send_offsets_to_transaction(offsets, voice.group)
            self._producer.commit_transaction()
        except DetectorError:
            raise
        except Exception as error:
            waited_s = time.monotonic() - began_s
            if waited_s > self._settings.transaction_timeout_ms / 1000 and is_fenced(error):
                # The broker itself ended a transaction that took too long.
                raise TransactionError(
                    f"{self._settings.where}: the transaction took {waited_s:.0f} s, longer than "
                    "kafka.transaction_timeout_ms"
                ) from error
            raise self._failed(error) from error

    def committed(self, offsets: Mapping[Any, Any]) -> None:
        """The transaction has moved them."""


class Acknowledged(_Producing):
    """Each step acknowledged before the next: at least once. Alerts and dead letters are safe
    before the state is written that says they are, and each record of state before the watermark
    that counts on it."""

    def open(self) -> None:
        self._connect()

    def commit(self, outbox: Outbox, offsets: Mapping[Any, Any], voice: Voice) -> None:
        topics = self._topics
        try:
            for messages in (
                ((topics.alerts, outbox.alerts), (topics.dead_letters, outbox.dead_letters)),
                ((topics.state, outbox.state),),
                ((topics.state, outbox.watermarks),),
            ):
                self._membership.must_be_awake(voice)
                self._send(*messages)
        except DetectorError:
            raise
        except Exception as error:
            raise self._failed(error) from error

    def committed(self, offsets: Mapping[Any, Any]) -> None:
        # For the tools that watch the group; the watermarks are what a restart reads.
        self._membership.tell_group(offsets)


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


def is_refused(error: BaseException | None) -> bool:
    """Whether the group does not know this member, or not in this generation."""
    while error is not None:
        if isinstance(error, CommitFailedError):
            return True
        error = error.__cause__ or error.__context__
    return False
