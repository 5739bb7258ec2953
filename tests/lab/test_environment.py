"""Demo and benchmarks bring their own configuration: options in the environment are not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.errors import DetectorError
from detector.lab import demo
from detector.lab.daemon_process import DaemonProcess
from tests.artifacts import make_artifact
from tests.processes import write_config


def test_the_commands_of_the_demo_obey_its_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "config.yaml", {})
    arguments = ("check", "--offline", "--config", config)
    monkeypatch.setenv("DETECTOR_WINDOW__LENGTH", "abc")
    demo._command(arguments)
    write_config(config, {"window": {"length": "abc"}})
    with pytest.raises(DetectorError, match="`detector check` ended with 78"):
        demo._command(arguments)


def test_the_daemon_of_a_benchmark_obeys_its_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As json the log would not say where it serves in the form that is looked for."""
    model = make_artifact(tmp_path / "model").path
    config = write_config(
        tmp_path / "config.yaml",
        {
            "features": {"value": "value"},
            "window": {"length": 8},
            "threshold": {"method": "fixed", "value": 1.0},
            "embedded": {"path": str(tmp_path / "broker.sqlite")},
            "http": {"port": 0},
        },
    )
    monkeypatch.setenv("DETECTOR_LOG__FORMAT", "json")
    with DaemonProcess(config, model, tmp_path / "daemon.log") as daemon:
        daemon.wait_ready(30)
        assert daemon.get("/livez") is not None
