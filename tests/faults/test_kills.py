"""Faults 1, 2 and 13: workers that are killed or told to stop at every point of their loop."""

from __future__ import annotations

import re
import signal

import pytest

from tests.faults.scene import Fault, Scene
from tests.processes import RunningDaemon, wait_for

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

POINTS = [
    "poll",
    "send",
    "offsets",
    "commit under way",
    "commit answered",
    "committed",
]


def die(scene: Scene, fault: Fault, **kafka: str) -> None:
    with scene.worker(1, fault=fault, kafka=kafka) as worker:
        assert worker.wait_ended(timeout_s=60) == -signal.SIGKILL, worker.log()


def finish(scene: Scene, **kafka: str) -> RunningDaemon:
    """A worker without faults does the rest."""
    with scene.worker(1, kafka=kafka) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        assert worker.terminate() == 0, worker.log()
    return worker


@pytest.mark.parametrize("point", POINTS)
def test_fault_01_killed_at_a_point_of_the_loop(scene: Scene, point: str) -> None:
    """A static member comes back without waiting for the old session to end: many kills."""
    identity = {"group_instance_id": "one"}
    for calls in (1, 2, 7):
        scene.publish(900)
        die(scene, Fault(point, when=calls), **identity)
    scene.publish(300)
    finish(scene, **identity)
    seen = scene.assert_exactly_golden()
    assert len(seen.alerts) > 50
    assert seen.letters


def test_fault_01_killed_with_a_new_member_each_time(scene: Scene, seed: int) -> None:
    """As in a deployment without group_instance_id: the old session must time out first."""
    for point, calls in (("offsets", 3), ("commit under way", 2 + seed % 5)):
        scene.publish(900)
        die(scene, Fault(point, when=calls))
    scene.publish(300)
    finish(scene)
    scene.assert_exactly_golden()


def test_fault_01_killed_while_restoring_and_replaying(scene: Scene) -> None:
    identity = {"group_instance_id": "one"}
    scene.publish(1500)
    die(scene, Fault("committed", when=8), **identity)
    for point, calls in (("restore", 1), ("restored", 1), ("restored", 2), ("replay", 1)):
        die(scene, Fault(point, when=calls), **identity)
    scene.publish(500)
    die(scene, Fault("send", when=1), **identity)  # the first after a restore
    finish(scene, **identity)
    scene.assert_exactly_golden()


def test_fault_02_told_to_stop_in_the_middle_of_a_batch(scene: Scene) -> None:
    for _ in range(2):
        with scene.publishing(), scene.worker(1) as worker:
            worker.wait_ready()
            worker.wait_accounted(500)
            assert worker.terminate(timeout_s=10) == 0, worker.log()
    finish(scene)
    with scene.worker(1) as worker:
        worker.wait_ready()
        restored = re.findall(r"partition restored .*", worker.log())
        assert len(restored) == 3
        assert all(" replay=0 " in line for line in restored), restored
        assert worker.terminate() == 0
    scene.assert_exactly_golden()
    assert scene.tallied() == scene.published
    assert scene.tallied("detector_replayed_ticks_total") == 0


def test_fault_02_told_to_stop_before_it_has_begun(scene: Scene) -> None:
    scene.publish(500)
    with scene.worker(1) as worker:
        wait_for(lambda: "serving address" in worker.log(), "it has begun to start")
        assert worker.terminate() == 0, worker.log()
    finish(scene)
    scene.assert_exactly_golden()
    assert scene.tallied() == scene.published
