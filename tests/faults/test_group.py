"""Faults 3, 4, 5, 7 and 9: workers that come, go, sleep and take each other's place."""

from __future__ import annotations

import json
import re
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from detector.core.records import Message
from tests.faults.crew import Crew, Watching, wait_restored, wait_stopped
from tests.faults.scene import START_S, Fault, Scene, make_scene
from tests.kafka_broker import KafkaBroker
from tests.processes import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

#: An open transaction holds up the next owner for so long.
SHORT = {"transaction_timeout_ms": 3000}


@pytest.fixture
def wide(kafka: KafkaBroker, tmp_path: Path) -> Scene:
    return make_scene(tmp_path, bootstrap_servers=kafka.bootstrap_servers, partitions=6)


def test_fault_03_workers_roll_in_and_out_under_load(wide: Scene) -> None:
    with Crew(wide) as crew, Watching(wide), wide.publishing():
        for number in (1, 2, 3):
            worker = crew.start(number)
            wait_for(lambda w=worker: "partition restored" in w.log(), "it has its share")  # type: ignore[misc]
        for number in (1, 2):
            crew.stop(number)
            worker = crew.start(number)
            wait_for(lambda w=worker: "partition restored" in w.log(), "it has its share")  # type: ignore[misc]
        crew.stop(3)
        crew.stop(1)
        wait_restored(crew.running[2], set(range(6)))
        crew.stop(2)
    finish(wide)


def finish(scene: Scene, *, all_counted: bool = True) -> None:
    """Whatever is left is done by a last worker; then all is there, and all is counted."""
    with Crew(scene) as crew:
        crew.start(9)
        scene.wait_all_committed()
        crew.stop(9)
    scene.assert_exactly_golden()
    if all_counted:
        assert scene.tallied() == scene.published


@pytest.mark.parametrize("point", ["poll", "offsets", "committed"])
def test_fault_04_stopped_past_the_session_then_continued(
    scene: Scene, tmp_path: Path, point: str
) -> None:
    go = tmp_path / "go"
    with Crew(scene, kafka=SHORT) as crew:
        with scene.publishing(ticks=60), Watching(scene):
            zombie = crew.start(1, Fault(point, "stop", go))
            zombie.wait_ready()
            zombie.wait_accounted(500)
            other = crew.start(2)
            wait_for(lambda: "partition restored" in other.log(), "it has its share")
            go.touch()
            wait_stopped(zombie)
            wait_restored(other, {0, 1, 2})
            zombie.signal(signal.SIGCONT)
            rejoined = "partition restored"
            before = zombie.log().count(rejoined)
            wait_for(lambda: zombie.log().count(rejoined) > before, "the zombie is back")
            wait_for(lambda: zombie.get("/readyz")[0] == 200, "it goes on")
        scene.wait_all_committed()
        if point == "offsets":
            assert "transaction failed" in zombie.log()
        crew.stop_all()
    scene.assert_exactly_golden()
    # The broker may have done what it was asked before the sleep, although no answer came: whoever
    # finds another worker has been there since cannot know, and says of how many ticks.
    said = re.findall(r"are not counted here ticks=(\d+)", zombie.log() + other.log())
    assert scene.published - scene.tallied() in (0, sum(map(int, said)))


@pytest.mark.parametrize("static", [False, True])
def test_fault_05_two_processes_with_one_identity(scene: Scene, static: bool) -> None:
    kafka = {"group_instance_id": "one"} if static else {}
    with scene.publishing(), scene.worker(1, kafka=kafka) as older:
        older.wait_ready()
        older.wait_accounted(500)
        with scene.worker(1, kafka=kafka) as newer:
            # A static member takes the place of its predecessor; any other is not let in.
            loser, winner = (older, newer) if static else (newer, older)
            assert loser.wait_ended(timeout_s=60) == 76, loser.log()
            last = loser.log().splitlines()[-1]
            assert "kafka.transactional_id" in last
            assert static or f"host {socket.gethostname()}, process {older.pid} " in last
            winner.wait_ready()
            winner.wait_accounted(1000)
            assert winner.terminate() == 0, winner.log()
    finish(scene)


def test_fault_07_a_rebalance_exactly_after_a_refused_commit(wide: Scene, tmp_path: Path) -> None:
    """The refused offsets must not reappear in a later transaction, or reach partitions that
    others have by then: no committed offset ever goes back."""
    go = tmp_path / "go"
    with Crew(wide) as crew:
        with wide.publishing(), Watching(wide):
            refused = crew.start(1, Fault("refused offsets", "refuse", go))
            other = crew.start(2)
            for worker in (refused, other):
                wait_for(lambda w=worker: "partition restored" in w.log(), "it has its share")  # type: ignore[misc]
            refused.wait_ready()
            refused.wait_accounted(300)
            go.touch()
            wait_for(lambda: "transaction failed" in refused.log(), "the commit is refused")
            third = crew.start(3)
            wait_for(lambda: "partition restored" in third.log(), "it has its share")
            wait_for(lambda: refused.get("/readyz")[0] == 200, "the refused goes on")
        wide.wait_all_committed()
        crew.stop_all()
    wide.assert_exactly_golden()
    assert wide.tallied() == wide.published


@pytest.mark.parametrize("session_lost", [False, True])
def test_fault_09_a_rebalance_during_a_restore(
    scene: Scene, tmp_path: Path, session_lost: bool
) -> None:
    names = [f"machine-{n}" for n in range(3000)]
    for step in range(10):
        values = np.random.default_rng(step).normal(0, 0.1 if step < 8 else 30, len(names))
        scene.append(
            [
                Message(name.encode(), tick(name, START_S + step, float(value)))
                for name, value in zip(names, values, strict=True)
            ]
        )
    with Crew(scene) as crew:
        first = crew.start(1)
        first.wait_ready()
        scene.wait_all_committed()
        crew.stop(1)
        assert scene.tallied() == scene.published
        restoring = crew.start(2, Fault("restore", "stop", 2))
        wait_stopped(restoring)
        other = crew.start(3)
        if session_lost:
            wait_restored(other, {0, 1, 2})
        else:
            wait_for(lambda: "serving address" in other.log(), "the other starts")
            time.sleep(2)  # it asks to join, the group waits for the one that sleeps
        restoring.signal(signal.SIGCONT)
        scene.publish(2000)
        for worker in (restoring, other):
            wait_for(lambda w=worker: "partition restored" in w.log(), "it has its share")  # type: ignore[misc]
        scene.wait_all_committed()
        crew.stop_all()
    scene.assert_exactly_golden()
    assert scene.tallied() == scene.published


def tick(series: str, time_s: float, value: float) -> bytes:
    return json.dumps({"series": series, "timestamp": time_s, "value": value}).encode()
