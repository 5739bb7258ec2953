"""Alertmanager's shipped configuration, and the bridge that feeds it in compose.yaml."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from detector.config import Config, load_config
from tests.deploy.prometheus_server import DEPLOY, PROMETHEUS_CONFIG

ALERTMANAGER_CONFIG = DEPLOY / "alertmanager" / "alertmanager.yml"
COMPOSE = DEPLOY / "compose.yaml"


def read(path: Path) -> dict[str, Any]:
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    return tree


def test_amtool_accepts_the_routes() -> None:
    program = shutil.which("amtool")
    if program is None:
        reason = "no amtool: install Alertmanager (Debian: prometheus-alertmanager)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    done = subprocess.run(
        [program, "check-config", str(ALERTMANAGER_CONFIG)],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    for labels, receiver in (
        ("alertname=DetectorAnomaly kind=reconstruction_error severity=critical", "pager"),
        ("alertname=DetectorAnomaly kind=reconstruction_error severity=warning", "tickets"),
        ("alertname=DetectorModelDrift kind=model_drift severity=warning", "tickets"),
        ("alertname=DetectorDown severity=critical", "pager"),
    ):
        done = subprocess.run(
            [program, "config", "routes", "test", f"--config.file={ALERTMANAGER_CONFIG}",
             f"--verify.receivers={receiver}", *labels.split()],
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip
        assert done.returncode == 0, (labels, done.stdout + done.stderr)


def test_a_short_alert_outlasts_the_wait_of_its_group() -> None:
    route = read(ALERTMANAGER_CONFIG)["route"]
    assert int(route["group_wait"].removesuffix("s")) < Config().bridge.keep_firing_s
    (target,) = read(PROMETHEUS_CONFIG)["alerting"]["alertmanagers"][0]["static_configs"]
    assert target["targets"] == ["alertmanager:9093"]


def test_the_bridge_of_compose_is_configured() -> None:
    environment = dict(read(COMPOSE)["services"]["bridge"]["environment"])
    config = load_config(None, environment)
    assert config.bridge.alertmanagers == ("http://alertmanager:9093",)
    assert config.bridge.host == "0.0.0.0"
    assert config.transport == "kafka"
