"""Fault 8 and its kin: a network that stalls, delays and cuts."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator

import pytest

from tests.faults.crew import Crew
from tests.faults.proxy import Proxy
from tests.faults.scene import Scene
from tests.processes import wait_for

pytestmark = [pytest.mark.faults, pytest.mark.kafka]

#: Records that the broker does not take within this time have failed.
SHORT = {"transaction_timeout_ms": 3000}


@pytest.fixture
def proxy(scene: Scene) -> Iterator[Proxy]:
    with Proxy(broker_port(scene)) as proxy:
        yield proxy


def broker_port(scene: Scene) -> int:
    return int(scene.tree["kafka"]["bootstrap_servers"].rpartition(":")[2])


def detour(scene: Scene, proxy: Proxy) -> dict[str, str]:
    """Every connection to the broker goes through the proxy, whoever names it."""
    return {"FAULTS_DETOUR": f"{broker_port(scene)}:{proxy.port}"}


def finish(scene: Scene) -> None:
    with Crew(scene) as crew:
        crew.start(9)
        scene.wait_all_committed()
        crew.stop(9)


def test_fault_08_a_delivery_that_times_out_inside_a_transaction(
    scene: Scene, proxy: Proxy, tell: Callable[[str], None]
) -> None:
    """The client would commit the offsets without the records that it gave up on."""
    with (
        scene.publishing(),
        scene.worker(1, environment=detour(scene, proxy), kafka=SHORT) as worker,
    ):
        worker.wait_ready()
        worker.wait_accounted(500)
        before = worker.metrics()
        assert proxy.passed > 10_000, "it does not go through the proxy"
        proxy.hold()
        wait_for(
            lambda: "transaction failed" in worker.log() or worker.exit_code() is not None,
            "the transaction fails, or the process gives up",
        )
        proxy.let_go()
        if worker.exit_code() is None:
            worker.wait_accounted(int(sum(scene.committed().values())))
            assert worker.terminate() == 0, worker.log()
        else:
            assert worker.exit_code() in {69, 75}, worker.log()
        assert before
    failures = [line for line in worker.log().splitlines() if "transaction failed" in line]
    tell(f"exit {worker.exit_code()}; {failures[:1]}")
    finish(scene)
    scene.assert_exactly_golden()


def test_connections_that_are_cut_over_and_over(
    scene: Scene, proxy: Proxy, tell: Callable[[str], None]
) -> None:
    cut = 0
    with (
        scene.publishing(),
        scene.worker(1, environment=detour(scene, proxy), kafka=SHORT) as worker,
    ):
        worker.wait_ready()
        for pause_s in (0.3, 1.1, 0.05, 0.05, 0.7, 0.2, 2.0, 0.4):
            done = sum(scene.committed().values())
            cut += proxy.cut()
            time.sleep(pause_s)
            cut += proxy.cut()

            def moves(before: int = done) -> bool:
                assert worker.exit_code() is None, worker.log()
                return sum(scene.committed().values()) > before

            wait_for(moves, "it goes on after the cut")
        assert worker.terminate() == 0, worker.log()
    assert cut >= 16
    failed = worker.log().count("transaction failed")
    tell(f"{cut} connections cut, {failed} transactions failed")
    finish(scene)
    scene.assert_exactly_golden()
    if not failed:
        assert scene.tallied() == scene.published


def test_a_slow_network_only_slows(scene: Scene, proxy: Proxy) -> None:
    scene.publish(3000)
    proxy.delay_s = 0.05
    with scene.worker(1, environment=detour(scene, proxy)) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        assert worker.terminate() == 0, worker.log()
    assert "transaction failed" not in worker.log()
    scene.assert_exactly_golden()
    assert scene.tallied() == scene.published
