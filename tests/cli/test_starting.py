"""A daemon that is told to end while it starts."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.processes import RunningDaemon, wait_for


def takes(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for the signal (Linux)."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
@pytest.mark.parametrize("later_s", [0.0, 0.1, 0.2, 0.3, 0.4, 0.6])
def test_it_ends_well_at_any_moment_of_its_start(
    tmp_path: Path, config: Path, model: Path, number: signal.Signals, later_s: float
) -> None:
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        # What Python does before it runs the program is not ours: it takes SIGINT, not SIGTERM.
        wait_for(lambda: takes(daemon.pid, signal.SIGTERM), "a handler")
        time.sleep(later_s)  # not for something to happen: the moments differ
        daemon.signal(number)
        assert daemon.wait_ended() == 0, daemon.log()
        assert "Traceback" not in daemon.log()
