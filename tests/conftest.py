"""Fixtures that several rooms share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from kafka.errors import KafkaTimeoutError

from detector.errors import TransactionError
from tests.kafka_broker import KafkaBroker, kafka_unavailable_reason

#: A deadline of the test's own, on a machine that others keep busy: a test that misses one is run
#: once more; the report shows both.
_TOO_LATE = [
    r"not within [\d.]+ s: ",
    r"^TimeoutException: ",  # the browser's
    r"^TimeoutExpired: ",  # a process's
    r"^TimeoutError: ",
    r"^Failed: Timeout ",  # pytest's own
]
#: What a real broker does now and then there, and what the daemon answers by starting over.
_NO_ANSWER = [TransactionError, KafkaTimeoutError, r"^BrokerError: "]

#: The same examples on every machine, and no deadline for one: what fails here fails everywhere.
#: pytest --hypothesis-profile=thorough draws others each time.
settings.register_profile(
    "same",
    derandomize=True,
    deadline=None,
    database=None,
    print_blob=True,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.register_profile("thorough", parent=settings.get_profile("same"), derandomize=False)
settings.load_profile("same")

#: Files of half a minute and more, the longest first, trainings between those that wait for a
#: broker: begun last, one would keep a worker busy while the others have nothing left.
_LONGEST = (
    "integration/test_operator.py",
    "model/test_training.py",
    "transport/test_kafka.py",
    "cli/models/test_classify.py",
    "web/test_page.py",
    "integration/test_kafka_end_to_end.py",
    "model/test_networks.py",
    "cli/test_cli.py",
    "bridge/test_each_event.py",
    "contracts/test_transport_contract.py",
    "model/test_known_cases.py",
    "cli/test_refusals.py",
    "bridge/test_real_alertmanager.py",
    "integration/test_mutes.py",
    "cli/test_changing_models.py",
    "library/test_examples.py",
    "secured/test_secured.py",
    "contracts/test_state_contract.py",
    "integration/test_tutorial.py",
    "contracts/test_commit_contract.py",
    "integration/test_prometheus.py",
    "cli/models/test_compare.py",
    "cli/test_bench.py",
    "transport/test_kafka_under_way.py",
    "contracts/test_history_contract.py",
    "engines/test_hostile.py",
    "library/test_train.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    rank = {here / name: number for number, name in enumerate(_LONGEST)}
    items.sort(key=lambda item: rank.get(item.path, len(rank)))
    for item in items:
        broker = item.get_closest_marker("kafka") or item.get_closest_marker("faults")
        again = [*_TOO_LATE, *(_NO_ANSWER if broker else [])]
        item.add_marker(pytest.mark.flaky(reruns=1, only_rerun=again))


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
