"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.kafka_broker import KafkaBroker, kafka_unavailable_reason


@pytest.fixture(scope="session")
def kafka() -> Iterator[KafkaBroker]:
    """A real Kafka for the session; where none can be had: skips, in CI fails."""
    reason = kafka_unavailable_reason()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with KafkaBroker() as broker:
        broker.start()
        yield broker
