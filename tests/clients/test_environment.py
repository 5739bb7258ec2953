"""Demo and benchmarks bring their own configuration: options in the environment are not theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.bench import demo
from detector.clients.daemon_process import DaemonProcess
from detector.config import load_config
from detector.core.records import Message
from detector.errors import DetectorError
from detector.transport.configured import make_broker, prepare_topics
from tests.artifacts import make_artifact
from tests.processes import write_config


def test_the_commands_of_the_demo_obey_its_configuration_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = write_config(tmp_path / "config.yaml", {})
    arguments = ("check", "--offline", "--config", config)
    monkeypatch.setenv("DETECTOR_WINDOW__LENGTH_TICKS", "abc")
    demo._command(arguments)
    write_config(config, {"window": {"length_ticks": "abc"}})
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
            "window": {"length_ticks": 8},
            "threshold": {"method": "fixed", "value": 1.0},
            "embedded": {"path": str(tmp_path / "broker.sqlite")},
            "http": {"port": 0},
        },
    )
    monkeypatch.setenv("DETECTOR_LOG__FORMAT", "json")
    with DaemonProcess(config, model, tmp_path / "daemon.log") as daemon:
        daemon.wait_ready(30)
        assert daemon.get("/livez") is not None


def test_a_demo_in_the_directory_of_an_earlier_one_begins_with_empty_topics(tmp_path: Path) -> None:
    """demo --keep DIR, twice: the alerts of the first were counted with those of the second."""

    def records() -> int:
        reader = broker.reader(config.alerts.topic, from_beginning=True)
        found = len(reader.poll(timeout_s=0))
        reader.close()
        return found

    demo._begin_anew(tmp_path)
    config = load_config(demo._write_config(tmp_path), {})
    broker = make_broker(config)
    prepare_topics(config, broker)
    publisher = broker.publisher()
    publisher.publish(config.alerts.topic, [Message(b"s", b"{}")])
    publisher.flush()
    publisher.close()
    assert records() == 1
    demo._begin_anew(tmp_path)
    broker = make_broker(config)
    prepare_topics(config, broker)
    assert records() == 0
