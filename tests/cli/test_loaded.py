"""What a command loads, and what it does not."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from detector.engines.native import instruction_sets
from tests.cli.making import ROWS
from tests.integration.commands import succeeded
from tests.processes import (
    RunningDaemon,
    clean_environment,
    detector,
)

HEAVY = {"tensorflow", "keras", "onnx", "scipy"}


WATCHED = """
import sys
from detector.cli.main import main
code = main(sys.argv[1:])
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
raise SystemExit(code)
"""


def loaded(output: str) -> set[str]:
    return set(output.rpartition("loaded:")[2].split())


@pytest.mark.parametrize("command", ["score", "publish", "alerts", "dead-letters", "state"])
def test_a_command_loads_neither_tensorflow_nor_kafka(
    tmp_path: Path, config: Path, model: Path, data: Path, command: str
) -> None:
    extra: dict[str, tuple[str | Path, ...]] = {
        "score": ("--model", model, "--out", "s.csv", "--data", data),
        "publish": ("--data", data),
        "alerts": ("--from-beginning", "--exit"),
        "dead-letters": ("--json",),
        "state": ("show",),
    }
    if command == "state":  # of a broker that is there
        made = detector("alerts", "--exit", "--config", config, cwd=tmp_path)
        assert made.returncode == 0, made.stderr
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, command, "--config", config, *extra[command]],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=120,
        check=False,
    )  # fmt: skip
    names = loaded(succeeded(done))
    assert "detector" in names
    assert not names & (HEAVY | {"kafka"})


def test_the_daemon_loads_neither_tensorflow_nor_kafka(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    succeeded(detector("publish", "--config", config, "--data", data, cwd=tmp_path))
    command = (sys.executable, "-c", WATCHED)
    with RunningDaemon(config, model, cwd=tmp_path, command=command) as daemon:
        daemon.wait_ready()
        daemon.wait_accounted(ROWS)
        assert daemon.terminate() == 0
        names = loaded(daemon.output())
    assert {"detector", "prometheus_client"} <= names
    assert ("onnxruntime" in names) == (not instruction_sets()), "the one engine or the other"
    assert not names & (HEAVY | {"kafka"})
