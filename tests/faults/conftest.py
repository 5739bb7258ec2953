"""What the fault tests share: the seed, and a broker that may be hurt."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.scene import Scene, make_scene
from tests.kafka_broker import KafkaBroker, kafka_unavailable_reason

_NOTES = pytest.StashKey[list[str]]()


@pytest.fixture
def tell(request: pytest.FixtureRequest) -> Callable[[str], None]:
    """Something worth knowing of a test that passed too: shown at the end of the run."""
    notes = request.config.stash.setdefault(_NOTES, [])
    return lambda text: notes.append(f"{request.node.name}: {text}")


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    for note in config.stash.get(_NOTES, []):
        terminalreporter.write_line(note)


@pytest.fixture
def seed(tell: Callable[[str], None]) -> int:
    """FAULTS_SEED, else a new one each time; told, so that a run can be repeated."""
    chosen = int(os.environ.get("FAULTS_SEED") or random.randrange(10**6))
    tell(f"FAULTS_SEED={chosen}")
    return chosen


@pytest.fixture
def scene(kafka: KafkaBroker, tmp_path: Path) -> Scene:
    """Three partitions on the session's broker, which nobody hurts."""
    return make_scene(tmp_path, bootstrap_servers=kafka.bootstrap_servers)


@pytest.fixture
def own_broker() -> Iterator[KafkaBroker]:
    """A broker for this test alone: it may be stopped, killed and damaged."""
    reason = kafka_unavailable_reason()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    broker = KafkaBroker()
    if broker.is_external:
        pytest.skip("KAFKA_BOOTSTRAP_SERVERS names somebody else's broker: not ours to hurt")
    with broker:
        yield broker
