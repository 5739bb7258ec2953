"""Fault 17: everything at random, for as long as FAULTS_SECONDS says."""

from __future__ import annotations

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.faults.crew import Crew, Measures
from tests.faults.scene import make_scene
from tests.kafka_broker import KafkaBroker
from tests.processes import wait_for

SECONDS = float(os.environ.get("FAULTS_SECONDS") or 120)
WARM_UP_S = 15.0

pytestmark = [pytest.mark.faults, pytest.mark.kafka, pytest.mark.timeout(SECONDS + 420)]


def test_fault_17_a_soak_with_random_faults(
    own_broker: KafkaBroker, tmp_path: Path, seed: int, tell: Callable[[str], None]
) -> None:
    """Worker 1 is only ever stopped and continued: it lives long, and its measures stay flat.
    The broker is killed in the first third."""
    dice = random.Random(seed)
    scene = make_scene(tmp_path, bootstrap_servers=own_broker.bootstrap_servers, partitions=6)
    measures, done = Measures(), Counter[str]()
    with Crew(scene) as crew:
        with scene.publishing(ticks=60, every_s=0.1, series=200, patient=True):
            began_s = time.monotonic()
            for number in (1, 2, 3):
                crew.start(number)
            restart_at: dict[int, float] = {}  # of workers that are away on purpose
            continue_at: dict[int, float] = {}
            broker_at_s = [began_s + SECONDS * dice.uniform(0.1, 0.3)]
            broker_back_s: float | None = None
            next_s = began_s + 5
            look_s = 0.0
            while (now_s := time.monotonic()) < began_s + SECONDS:
                time.sleep(0.05)
                for number in crew.bury():
                    restart_at.setdefault(number, now_s)
                for number in [n for n, at_s in restart_at.items() if now_s >= at_s]:
                    del restart_at[number]
                    crew.start(number)
                for number in [n for n, at_s in continue_at.items() if now_s >= at_s]:
                    del continue_at[number]
                    if number in crew.running:
                        crew.running[number].signal(signal.SIGCONT)
                if now_s - look_s > 1 and 1 in crew.running:
                    look_s = now_s
                    measures.look(crew.running[1])
                if broker_at_s and now_s >= broker_at_s[0]:
                    broker_at_s.pop(0)
                    own_broker.kill()
                    broker_back_s = now_s + dice.uniform(0, 4)
                    done["broker kill"] += 1
                if broker_back_s is not None and now_s >= broker_back_s:
                    broker_back_s = None
                    own_broker.start()
                if now_s < next_s:
                    continue
                next_s = now_s + dice.uniform(1, 5)
                number = dice.choice([1, 2, 3])
                acts = ["sleep"] if number == 1 else ["sleep", "kill", "kill", "stop"]
                act = dice.choice(acts)
                if number not in crew.running or number in continue_at:
                    continue
                done[act] += 1
                if act == "sleep":
                    crew.running[number].signal(signal.SIGSTOP)
                    continue_at[number] = now_s + dice.choice([0.5, 3.0, 9.0])
                elif act == "kill":
                    crew.running[number].signal(signal.SIGKILL)
                    restart_at[number] = now_s + dice.choice([0.0, 0.0, 4.0])
                else:
                    crew.running[number].signal(signal.SIGTERM)
                    restart_at[number] = now_s + dice.choice([1.0, 4.0])
            if broker_back_s is not None:
                own_broker.start()
            for number in continue_at:
                if number in crew.running:
                    crew.running[number].signal(signal.SIGCONT)

        def all_done() -> bool:
            for number in crew.bury():
                if number == 1:
                    crew.start(number)
            try:
                scene.wait_all_committed(timeout_s=1)
            except AssertionError:
                return False
            return True

        wait_for(all_done, "every tick is committed", timeout_s=180)
        crew.stop_all()
    tell(f"{dict(done)}; workers ended: {dict(crew.ends())}; {scene.published} ticks")
    seen = scene.assert_exactly_golden()
    assert len(seen.alerts) > 100
    assert_flat(measures, tell)


def assert_flat(measures: Measures, tell: Callable[[str], None]) -> None:
    """The longest life: what is usual in its last third against the most there was before it,
    after the warm-up (a worker whose broker is away has fewer threads and connections)."""
    rows = max(measures.by_pid.values(), key=len)
    rows = [row for row in rows if row[0] - rows[0][0] > WARM_UP_S]
    assert len(rows) >= 12, "no worker lived long enough to be measured"
    third = len(rows) // 3
    before = [max(row[column] for row in rows[:-third]) for column in (1, 2, 3)]
    late = [sorted(row[column] for row in rows[-third:])[third // 2] for column in (1, 2, 3)]
    tell(f"over {rows[-1][0] - rows[0][0]:.0f} s: (bytes, threads, descriptors) {before} {late}")
    assert late[0] <= before[0] * 1.1 + 8e6
    assert late[1] <= before[1] + 2
    assert late[2] <= before[2] + 4
