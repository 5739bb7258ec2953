"""The broker that a configuration names."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import TYPE_CHECKING

from detector.config import Config, commands_topic
from detector.core.state import Deployment
from detector.errors import DataError
from detector.transport.broker import Broker, Topics

if TYPE_CHECKING:
    from detector.transport.kafka import Security


def topics(config: Config) -> Topics:
    return Topics(
        ticks=config.input.topic,
        alerts=config.alerts.topic,
        dead_letters=config.dead_letters.topic,
        state=config.state.topic,
        commands=commands_topic(config),
    )


def deployment(config: Config) -> Deployment:
    return Deployment(config.kafka.group, config.alerts.topic)


def make_broker(config: Config) -> Broker:
    """Nothing is connected yet."""
    return _embedded(config) if config.transport == "embedded" else _kafka(config)


def require_broker(config: Config) -> None:
    """For commands that ask or tell a detector: on an embedded broker that nobody has made they
    would answer to nobody. Raises DataError."""
    path = Path(config.embedded.path)
    if config.transport == "embedded" and not path.exists():
        raise DataError(
            f"embedded broker {path}: no such file seen from {Path.cwd()}: give --config, and "
            "stand where the detector stands (embedded.path is relative) or give the path in full"
        )


def prepare_topics(config: Config, broker: Broker, *, check_state: bool = False) -> None:
    """check_state: for a worker, which must not start where its state cannot follow."""
    broker.prepare(
        topics(config),
        partitioned=(config.input.topic, config.alerts.topic),
        create=config.topics.create,
        check_state=check_state,
    )


def _embedded(config: Config) -> Broker:
    from detector.transport.embedded import EmbeddedBroker, EmbeddedSettings

    embedded = config.embedded
    return EmbeddedBroker(
        EmbeddedSettings(
            path=Path(embedded.path),
            synchronous=embedded.synchronous,
            retention_s=embedded.retention_hours * 3600,
            retention_records=embedded.retention_records,
        )
    )


def _kafka(config: Config) -> Broker:
    from detector.transport.kafka import (  # 0.2 s and 15 MB: if used
        Access,
        KafkaBroker,
        KafkaSettings,
    )

    kafka = config.kafka
    return KafkaBroker(
        KafkaSettings(
            bootstrap_servers=kafka.bootstrap_servers,
            group=kafka.group,
            transactional_id=_instance(kafka.transactional_id),
            group_instance_id=(
                None if kafka.group_instance_id is None else _instance(kafka.group_instance_id)
            ),
            session_timeout_ms=kafka.session_timeout_ms,
            transaction_timeout_ms=kafka.transaction_timeout_ms,
            compression=None if kafka.compression == "none" else kafka.compression,
            partitions=config.topics.partitions,
            replication_factor=config.topics.replication_factor,
            exactly_once=config.delivery.guarantee == "exactly_once",
            retry_timeout_s=config.delivery.retry_timeout_s,
            max_poll_records=config.delivery.max_poll_records,
            max_poll_bytes=config.delivery.max_poll_bytes,
            access=Access(_security(config)),
        )
    )


def _security(config: Config) -> Security:
    from detector.transport.kafka import Security, command, file, given

    kafka, password, key_password, token = config.kafka, None, None, None
    if kafka.sasl_plain_password_file is not None:
        password = file("kafka.sasl_plain_password_file", kafka.sasl_plain_password_file)
    elif kafka.sasl_plain_password is not None:
        password = given(kafka.sasl_plain_password.reveal())
    if kafka.ssl_password_file is not None:
        key_password = file("kafka.ssl_password_file", kafka.ssl_password_file)
    elif kafka.ssl_password is not None:
        key_password = given(kafka.ssl_password.reveal())
    if kafka.sasl_oauth_token_file is not None:
        token = file("kafka.sasl_oauth_token_file", kafka.sasl_oauth_token_file)
    elif kafka.sasl_oauth_token_command:
        token = command("kafka.sasl_oauth_token_command", kafka.sasl_oauth_token_command)
    return Security(
        protocol=kafka.security_protocol,
        mechanism=kafka.sasl_mechanism,
        username=kafka.sasl_plain_username,
        cafile=kafka.ssl_cafile,
        certfile=kafka.ssl_certfile,
        keyfile=kafka.ssl_keyfile,
        password=password,
        token=token,
        key_password=key_password,
    )


def _instance(name: str) -> str:
    """A name that may tell hosts apart: {hostname} stands for that of this machine."""
    return name.replace("{hostname}", socket.gethostname())
