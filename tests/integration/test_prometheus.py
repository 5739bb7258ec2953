"""A real Prometheus scrapes a real daemon: no rule and no panel asks for what is not there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from tests.artifacts import make_artifact
from tests.bridge.running import RunningBridge
from tests.deploy.prometheus_server import (
    PrometheusServer,
    panel_expressions,
    prometheus_unavailable_reason,
    rule_expressions,
    without_comparisons,
)
from tests.processes import RunningDaemon, clean_environment, wait_for, write_config
from tests.records import START_S

LENGTH = 8
RATE, SECONDS = 400, 10


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusServer]:
    """Scrapes a daemon that has worked through a stream with alerts and bad ticks."""
    reason = prometheus_unavailable_reason()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("prometheus")
    make_artifact(directory / "model", length=LENGTH)
    config = write_config(
        directory / "config.yaml",
        {
            "features": {"value": "value"},
            "window": {"length_ticks": LENGTH},
            "threshold": {"method": "fixed", "value": 1.0},
            "embedded": {"path": "broker.sqlite", "synchronous": "normal"},
            "http": {"port": 0},
        },
    )
    write_ticks(directory / "ticks.csv", RATE * SECONDS)
    with (
        RunningDaemon(config, directory / "model", cwd=directory) as daemon,
        RunningBridge(config, "--exec", "cat", "--metrics-port", "0") as bridge,
    ):
        daemon.wait_ready()
        bridge.wait_ready()
        with PrometheusServer(
            [daemon.address.removeprefix("http://")],
            bridges=[bridge.address.removeprefix("http://")],
        ) as server:
            wait_for(lambda: len(server.query("up == 1")) == 2, "daemon and bridge are scraped")
            with publishing(config, directory / "ticks.csv"):
                daemon.wait_accounted(RATE * SECONDS)
                yield server
        assert daemon.terminate() == 0


def write_ticks(path: Path, ticks: int) -> None:
    """Eight quiet series with spikes, and now and then a value that is none."""
    random = np.random.default_rng(5)
    lines = ["series,timestamp,value"]
    for n, value in enumerate(random.normal(0, 0.1, ticks).round(5).tolist()):
        shown = 100.0 if n % 1000 > 970 else "" if n % 100 == 50 else value
        lines.append(f"s{n % 8},{START_S + n * 0.01},{shown}")
    path.write_text("\n".join(lines) + "\n")


@contextmanager
def publishing(config: Path, data: Path) -> Iterator[None]:
    """A publisher at a bounded rate, in a process of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "detector", "publish", "--config", config, "--data", data,
         "--rate", str(RATE)],
        cwd=config.parent, env=clean_environment(), stdout=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
        assert process.wait(120) == 0
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "expression",
    [pytest.param(expression, id=name) for name, expression in rule_expressions()],
)
def test_a_rule_has_data_when_its_comparison_is_taken_away(
    prometheus: PrometheusServer, expression: str
) -> None:
    assert prometheus.wait_for(without_comparisons(expression))


@pytest.mark.parametrize(
    "expression",
    [pytest.param(expression, id=name) for name, expression in panel_expressions()],
)
def test_a_panel_has_data(prometheus: PrometheusServer, expression: str) -> None:
    assert prometheus.wait_for(expression)


def test_the_recorded_rates_tell_what_was_published(prometheus: PrometheusServer) -> None:
    ticks = f"sum(detector_ticks_total) == {RATE * SECONDS}"
    assert prometheus.wait_for(ticks)
    (rejected,) = prometheus.wait_for('sum(detector_ticks_total{outcome="rejected"})')
    assert rejected.value == sum(
        n % 100 == 50 and not n % 1000 > 970 for n in range(RATE * SECONDS)
    )
    assert prometheus.wait_for("detector:tick_to_alert_seconds:p99_5m > 0")
    assert prometheus.wait_for("detector:ticks_rejected:ratio_rate5m > 0")
