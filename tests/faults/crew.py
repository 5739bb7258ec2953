"""Several workers of one group under a supervisor, and what can be watched of them.

Knows how to start, hurt and watch workers. Must not know what they should have published: that
is the scene's.
"""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections import Counter
from typing import Any

import psutil

from detector.errors import BrokerError
from detector.transport.configured import make_broker, topics
from tests.faults.scene import Fault, Scene
from tests.processes import DEADLINE_S, RunningDaemon, wait_for

#: Ends after which a supervisor starts a worker again: told to, the broker lost, hung, killed,
#: told to before it could listen.
USUAL_ENDS = {0, 69, 75, -signal.SIGKILL, -signal.SIGTERM}


class Crew:
    """Workers by number; a context that leaves no process behind."""

    def __init__(self, scene: Scene, **sections: Any) -> None:
        self._scene, self._sections = scene, sections
        self.running: dict[int, RunningDaemon] = {}
        self.ended: list[tuple[int, int, RunningDaemon]] = []  # number, exit code, process

    def __enter__(self) -> Crew:
        return self

    def __exit__(self, *_: object) -> None:
        for worker in self.running.values():
            worker.__exit__(None, None, None)

    def start(self, number: int, fault: Fault | None = None) -> RunningDaemon:
        worker = self._scene.worker(number, fault=fault, **self._sections).__enter__()
        self.running[number] = worker
        return worker

    def stop(self, number: int) -> None:
        """SIGTERM, and it must end well."""
        code = self.running[number].terminate()
        assert code == 0, self.running[number].log()[-3000:]
        self.bury()

    def kill(self, number: int) -> None:
        worker = self.running[number]
        worker.signal(signal.SIGKILL)
        worker.wait_ended()
        self.bury()

    def bury(self) -> list[int]:
        """The numbers of those that have ended since; an end that no restart cures fails."""
        gone = [n for n, w in self.running.items() if w.exit_code() is not None]
        for number in gone:
            worker = self.running.pop(number)
            code = worker.exit_code()
            assert code in USUAL_ENDS, f"worker {number} ended with {code}: {worker.log()[-3000:]}"
            self.ended.append((number, code, worker))
        return gone

    def supervise(self) -> None:
        """Start again whoever has ended."""
        for number in self.bury():
            self.start(number)

    def stop_all(self) -> None:
        for worker in self.running.values():
            worker.signal(signal.SIGTERM)
        for number, worker in self.running.items():
            code = worker.wait_ended()
            assert code == 0, f"worker {number} ended with {code}: {worker.log()[-3000:]}"
        self.bury()

    def ends(self) -> Counter[int]:
        return Counter(code for _, code, _ in self.ended)


class Watching:
    """Asks for the group's committed offsets, over and over: none may ever go back."""

    def __init__(self, scene: Scene) -> None:
        self._keeper = make_broker(scene.config()).keeper(topics(scene.config()))
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="watching", daemon=True)
        self.backwards: list[tuple[int, int, int]] = []  # partition, before, after
        self.looks = 0

    def __enter__(self) -> Watching:
        self._thread.start()
        return self

    def __exit__(self, kind: object, error: object, traceback: object) -> None:
        self._stop.set()
        self._thread.join(60)
        self._keeper.close()
        if error is None:
            assert self.looks > 3
            assert not self.backwards

    def _run(self) -> None:
        newest: dict[int, int] = {}
        while not self._stop.wait(0.1):
            with contextlib.suppress(BrokerError):  # a transaction is under way
                for partition, standing in self._keeper.standing().items():
                    committed = standing.committed or 0
                    if committed < newest.get(partition, 0):
                        self.backwards.append((partition, newest[partition], committed))
                    newest[partition] = committed
                self.looks += 1


def wait_stopped(worker: RunningDaemon, *, timeout_s: float = DEADLINE_S) -> None:
    """Until SIGSTOP has taken effect."""
    process = psutil.Process(worker.pid)
    wait_for(
        lambda: process.status() == psutil.STATUS_STOPPED, "it is stopped", timeout_s=timeout_s
    )


def restored(worker: RunningDaemon) -> list[int]:
    """The partitions it has restored, each time it did."""
    return [int(p) for p in re.findall(r"partition restored partition=(\d+)", worker.log())]


def wait_restored(
    worker: RunningDaemon, partitions: set[int], *, timeout_s: float = DEADLINE_S
) -> None:
    wait_for(
        lambda: partitions <= set(restored(worker)),
        f"partitions {partitions} are restored",
        timeout_s=timeout_s,
    )


class Measures:
    """Memory, threads and file descriptors of processes, over their lives."""

    def __init__(self) -> None:
        self.by_pid: dict[int, list[tuple[float, int, int, int]]] = {}

    def look(self, worker: RunningDaemon) -> None:
        with contextlib.suppress(psutil.Error):
            process = psutil.Process(worker.pid)
            row = (
                time.monotonic(),
                process.memory_info().rss,
                process.num_threads(),
                process.num_fds(),
            )
            self.by_pid.setdefault(worker.pid, []).append(row)
