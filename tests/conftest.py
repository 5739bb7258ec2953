"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from kafka.errors import KafkaTimeoutError

from detector.errors import TransactionError
from tests.kafka_broker import KafkaBroker, kafka_unavailable_reason

#: What a real broker does now and then on a machine that others keep busy, and what the daemon
#: answers by starting over: no answer in time. A test that ends so, and no other, is run once more;
#: the report shows both.
_NO_ANSWER = [TransactionError, KafkaTimeoutError, r"^BrokerError: ", r"not within [\d.]+ s: "]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("kafka") or item.get_closest_marker("faults"):
            item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=_NO_ANSWER))


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
