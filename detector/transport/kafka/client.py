"""Settings of the client library, and what its values and errors become here."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from kafka import OffsetAndMetadata
from kafka.errors import (
    FencedInstanceIdError,
    InvalidProducerEpochError,
    KafkaError,
    ProducerFencedError,
)

from detector.core.records import Message
from detector.errors import AccessError, BrokerError, FencedError
from detector.transport.kafka.access import Access, chain, explained, not_permitted
from detector.transport.kafka.waiting import Selector

#: Alerts may carry long windows of many features.
MAX_REQUEST_BYTES = 4 * 1024 * 1024
SEND_TIMEOUT_S = 30.0
_SILENT_S = 1.0  # of a broker, until it is said that it is waited for
_LOGGER = logging.getLogger("detector.kafka")


@dataclass(frozen=True, slots=True)
class KafkaSettings:
    """exactly_once False: no transactions; after a crash alerts may come again, with the same
    ids."""

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
    access: Access = field(default_factory=Access)

    def common(self) -> dict[str, Any]:
        return {
            "bootstrap_servers": self.bootstrap_servers.split(","),
            "bootstrap_timeout_ms": max(1, int(self.retry_timeout_s * 1000)),
            **self.access.security.options(),
            "kafka_client": self.access.client,
            "selector": Selector,
        }

    def streams(self) -> dict[str, Any]:
        """Of a consumer or a producer. Nobody reads the library's own measurements, which cost a
        tenth of the CPU time of a transaction."""
        return self.common() | {"metrics_enabled": False}

    @property
    def where(self) -> str:
        return f"Kafka at {self.bootstrap_servers}"


def connect(settings: KafkaSettings, client: Callable[..., Any], options: dict[str, Any]) -> Any:
    """A client of the library. Raises BrokerError; AccessError if we are refused, ConfigError if
    a secret or a certificate cannot be read."""
    started = time.monotonic()
    access = settings.access
    access.begin()
    access.security.check()
    try:
        with _said_if_long(settings):
            return client(**options)
    except (KafkaError, OSError, ValueError, AssertionError) as error:
        refuse(settings, error)
        waited, last = time.monotonic() - started, access.trouble
        said = "" if last is None or last is error else f", at last: {last}"
        raise BrokerError(
            f"{settings.where}: cannot connect within {waited:.0f} s "
            f"({type(error).__name__}: {error}{said}); check kafka.bootstrap_servers, "
            "kafka.security_protocol and the broker"
        ) from error


def refuse(settings: KafkaSettings, error: BaseException | None = None) -> None:
    """Raises AccessError if the error, or a connection that was made meanwhile, tells of a
    refusal."""
    access = settings.access
    for one in (error, access.refusal):
        said = None if one is None else explained(one, access.security)
        if said is not None:
            raise AccessError(f"{settings.where}: {said}") from one


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
    *,
    operation: str = "Read",
) -> BrokerError:
    """What an error of the library becomes: FencedError if another worker is meant, AccessError
    where something is not permitted, else kind. operation: what it takes of topics."""
    security = settings.access.security
    wanted = not_permitted(
        error,
        operation=operation,
        group=settings.group,
        transactional_id=settings.transactional_id,
    )
    if wanted is not None:
        return AccessError(
            f"{settings.where}: {doing}: {security.principal} may not: {wanted} is missing; grant "
            "it (docs/security.md)"
        )
    said = explained(error, security)
    if said is not None:
        return AccessError(f"{settings.where}: {doing}: {said}")
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
    fenced = ProducerFencedError | InvalidProducerEpochError | FencedInstanceIdError
    return any(isinstance(one, fenced) for one in chain(error))
