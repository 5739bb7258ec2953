"""Configuration and ticks for the commands of models."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import numpy as np

from detector.data.encodings import Encodings, read_encodings
from tests.integration.commands import succeeded
from tests.processes import RunningDaemon, detector

LENGTH = 8


START_MS = 1_700_000_000_000


TICKS = {"a": 40, "b": 25, "c": LENGTH}  # of each series


CONFIG: dict[str, Any] = {
    "features": {"value": "value"},
    "input": {"timestamp_unit": "ms"},
    "window": {"length_ticks": LENGTH},
    "threshold": {"method": "fixed", "value": 1.0},
    "embedded": {"path": "broker.sqlite", "synchronous": "normal"},
    "delivery": {"commit_interval_ms": 20},
    "http": {"port": 0},
}


def write_ticks(path: Path, *, label: bool = True) -> Path:
    """Three series in turn; every tenth tick is labelled, and far off."""
    random = np.random.default_rng(3)
    names = ["series", "timestamp", "value", *(["label"] if label else [])]
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(names)
        for tick in range(max(TICKS.values())):
            for series, count in TICKS.items():
                if tick < count:
                    odd = tick % 10 == 9
                    value = round(float(random.normal(5 if odd else 0, 0.1)), 6)
                    row = [series, START_MS + 10 * tick, value, int(odd)]
                    writer.writerow(row[: len(names)])
    return path


PNG = b"\x89PNG"


def run_daemon(config: Path, model: Path, data: Path, *, ticks: int) -> list[dict[str, Any]]:
    """Publish the data, let the daemon go over it; the alerts, also in alerts.jsonl."""
    directory = config.parent
    succeeded(detector("publish", "--config", config, "--data", data, cwd=directory))
    with RunningDaemon(config, model, cwd=directory) as daemon:
        daemon.wait_ready()
        daemon.wait_accounted(ticks)
        assert daemon.terminate() == 0
    done = detector(
        "alerts", "--config", config, "--from-beginning", "--exit", "--json", cwd=directory
    )
    (directory / "alerts.jsonl").write_text(succeeded(done))
    return [json.loads(line) for line in done.stdout.splitlines()]


SMALL_TRAINING = {"epochs": 1, "windows_per_epoch": 512, "steps_per_epoch": 1, "xla": False}


def encode(config: Path, model: Path, data: Path, out: str, *options: str) -> Encodings:
    path = config.parent / out
    arguments: tuple[str | Path, ...] = ("--config", config, "--model", model, "--data", data)
    arguments += ("--out", path, *options)
    report = json.loads(succeeded(detector("encode", *arguments, "--json", cwd=config.parent)))
    found = read_encodings(path)
    assert found.vectors.shape == (report["vectors"], report["units"])
    return found
