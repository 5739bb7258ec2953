"""Topics of a real Kafka for a test."""

from __future__ import annotations

import pytest

from tests.contracts.transports import (
    Kafka,
    kafka_transport,
    prepare,
)
from tests.kafka_broker import KafkaBroker as KafkaNode


@pytest.fixture
def bare(kafka: KafkaNode) -> Kafka:
    return kafka_transport(kafka)


@pytest.fixture
def transport(bare: Kafka) -> Kafka:
    prepare(bare)
    return bare
