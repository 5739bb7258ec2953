"""Settings of the client library, and what its values and errors become here."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kafka import OffsetAndMetadata
from kafka.errors import (
    FencedInstanceIdError,
    InvalidProducerEpochError,
    KafkaError,
    ProducerFencedError,
)

from detector.core.records import Message
from detector.errors import BrokerError, FencedError

#: Alerts may carry long windows of many features.
MAX_REQUEST_BYTES = 4 * 1024 * 1024
SEND_TIMEOUT_S = 30.0
_SILENT_S = 1.0  # of a broker, until it is said that it is waited for
_LOGGER = logging.getLogger("detector.kafka")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """security: options of kafka-python, passed on as they are. exactly_once False: no
    transactions; after a crash alerts may come again, with the same ids."""

    bootstrap_servers: str
    group: str
    transactional_id: str
    group_instance_id: str | None
    session_timeout_ms: int
    transaction_timeout_ms: int
    compression: str | None
    partitions: int
    replication_factor: int
    retry_timeout_s: float
    max_poll_records: int
    max_poll_bytes: int
    exactly_once: bool
    security: Mapping[str, str]

    def common(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "bootstrap_timeout_ms": max(1, int(self.retry_timeout_s * 1000)),
            **self.security,
        }

    @property
    def where(self) -> str:
        return f"Kafka at {self.bootstrap_servers}"


def connect(settings: KafkaSettings, client: Callable[..., Any], options: dict[str, Any]) -> Any:
    """A client of the library. Raises BrokerError."""
    started = time.monotonic()
    try:
        with _said_if_long(settings):
            return client(**options)
    except (KafkaError, OSError, ValueError, AssertionError) as error:
        waited = time.monotonic() - started
        raise BrokerError(
            f"{settings.where}: cannot connect within {waited:.0f} s "
            f"({type(error).__name__}: {error}); check kafka.bootstrap_servers and the broker"
        ) from error


@contextlib.contextmanager
def _said_if_long(settings: KafkaSettings) -> Iterator[None]:
    """Somebody who watches should not have to guess what is waited for."""
    timer = threading.Timer(
        _SILENT_S,
        _LOGGER.warning,
        ("%s does not answer; waiting up to %g s", settings.where, settings.retry_timeout_s),
    )
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def value_of(message: Message) -> bytes | None:
    """The client refuses a record without key and value; Kafka itself would take it."""
    return b"" if message.key is None and message.value is None else message.value


def position_of(offset: int) -> Any:
    """The library's third field, the leader epoch, is not known to us."""
    return OffsetAndMetadata(offset, "", -1)


def broker_error(
    settings: KafkaSettings,
    doing: str,
    error: Exception,
    kind: type[BrokerError] = BrokerError,
) -> BrokerError:
    """What an error of the library becomes: FencedError if another worker is meant, else kind."""
    text = f"{settings.where}: {doing}: {type(error).__name__}: {error}"
    if is_fenced(error):
        identity = f"kafka.transactional_id {settings.transactional_id!r}"
        if settings.group_instance_id is not None:
            identity += f" or kafka.group_instance_id {settings.group_instance_id!r}"
        return FencedError(
            f"{text}: another worker uses {identity}; this one ends. Give each worker its "
            "own, the same after a restart"
        )
    return kind(text)


def is_fenced(error: BaseException) -> bool:
    """Whether somebody else has taken over the transactional id or the group instance. The
    client tells of it as the error, as its cause, or among its arguments."""
    found = [error]
    while found:
        one = found.pop()
        if isinstance(one, ProducerFencedError | InvalidProducerEpochError | FencedInstanceIdError):
            return True
        chained = (one.__cause__ or one.__context__, *one.args)
        found += [e for e in chained if isinstance(e, BaseException)]
    return False
