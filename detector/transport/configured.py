"""The broker that a configuration names."""

from __future__ import annotations

import socket
from pathlib import Path

from detector.config import Config, commands_topic
from detector.core.state import Deployment
from detector.transport.broker import Broker, Topics


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
    from detector.transport.kafka import KafkaBroker, KafkaSettings  # 0.2 s and 15 MB: if used

    kafka = config.kafka
    security = {
        name: value
        for name in (
            "security_protocol",
            "sasl_mechanism",
            "sasl_plain_username",
            "sasl_plain_password",
            "ssl_cafile",
            "ssl_certfile",
            "ssl_keyfile",
        )
        if (value := getattr(kafka, name)) is not None
    }
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
            security=security,
        )
    )


def _instance(name: str) -> str:
    """A name that may tell hosts apart: {hostname} stands for that of this machine."""
    return name.replace("{hostname}", socket.gethostname())
