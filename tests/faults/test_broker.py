"""Fault 6: the broker goes away and comes back."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.crew import Crew
from tests.faults.scene import make_scene
from tests.kafka_broker import KafkaBroker
from tests.processes import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.kafka]


def test_fault_06_the_broker_is_stopped_and_killed_under_load(
    own_broker: KafkaBroker, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    scene = make_scene(tmp_path, bootstrap_servers=own_broker.bootstrap_servers)
    with Crew(scene) as crew:
        with scene.publishing(ticks=50, patient=True):
            for number in (1, 2):
                crew.start(number).wait_ready()
            for away in (own_broker.stop, own_broker.kill, own_broker.stop, own_broker.kill):
                done = sum(scene.committed().values())

                def moving(before: int = done) -> bool:
                    crew.supervise()
                    return sum(scene.committed().values()) > before + 500

                wait_for(moving, "ticks are committed")
                away()
                until_s = time.monotonic() + 2
                while time.monotonic() < until_s:  # a supervisor does not wait for the broker
                    crew.supervise()
                    time.sleep(0.1)
                own_broker.start()
        deadline_s = time.monotonic() + 120
        while True:
            crew.supervise()
            try:
                scene.wait_all_committed(timeout_s=2)
                break
            except AssertionError:
                assert time.monotonic() < deadline_s
        for worker in crew.running.values():
            worker.wait_ready()
        crew.stop_all()
    tell(f"workers ended: {dict(crew.ends())}")
    scene.assert_exactly_golden()
