"""A process whose loop hangs ends, with a code that says so."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from detector.errors import EXIT_HUNG
from detector.service.watchdog import Watchdog

#: It looks twice a second, on a machine that has time for it.
SOON_S = 60.0


def test_a_loop_that_hangs_ends_the_process_with_75() -> None:
    ended = threading.Event()
    codes: list[int] = []

    def end(code: int) -> None:
        codes.append(code)
        ended.set()

    watchdog = Watchdog(lambda: "no round completed for 61 s", end=end)
    watchdog.start()
    try:
        assert ended.wait(SOON_S)
    finally:
        watchdog.stop()
    assert codes == [75]
    assert EXIT_HUNG == 75


def test_a_loop_that_moves_is_left_alone_until_it_hangs() -> None:
    looked, ended = threading.Semaphore(0), threading.Event()
    wrong: list[str] = []

    def hung() -> str | None:
        looked.release()
        return wrong[0] if wrong else None

    watchdog = Watchdog(hung, end=lambda _: ended.set())
    watchdog.start()
    try:
        for _ in range(2):
            assert looked.acquire(timeout=SOON_S)
        assert not ended.is_set()
        wrong.append("told to stop 21 s ago")
        assert ended.wait(SOON_S)
    finally:
        watchdog.stop()


def test_a_watchdog_that_was_stopped_looks_no_more() -> None:
    looks: list[int] = []

    def hung() -> None:
        looks.append(1)

    watchdog = Watchdog(hung, end=lambda _: None)
    watchdog.start()
    watchdog.stop()
    before = len(looks)
    assert not any(t.name == "watchdog" and t.is_alive() for t in threading.enumerate())
    assert len(looks) == before


def test_a_main_thread_that_never_returns_is_ended_too() -> None:
    """Whatever holds it: no handler, no finally, no thread keeps the process."""
    code = (
        "import time\n"
        "from detector.service.watchdog import Watchdog\n"
        "Watchdog(lambda: 'hangs').start()\n"
        "try:\n"
        "    time.sleep(60)\n"
        "finally:\n"
        "    time.sleep(60)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], timeout=50, check=False)
    assert done.returncode == EXIT_HUNG


def test_a_log_that_nobody_takes_does_not_keep_it_from_ending_the_process() -> None:
    """Standard error is a pipe that is full: who writes to it waits, and holds the log's lock."""
    program = """
import os, threading, time
from detector.service.logs import configure, event
from detector.service.watchdog import Watchdog
configure(level="info", form="text")
Watchdog(lambda: "no round completed", end=os._exit).start()
while True:
    event("x" * 1000)
"""
    reading, writing = os.pipe()
    try:
        with subprocess.Popen([sys.executable, "-c", program], stderr=writing) as process:
            assert process.wait(SOON_S) == EXIT_HUNG
    finally:
        os.close(reading)
        os.close(writing)
