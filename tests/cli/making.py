"""Configuration and ticks for the commands."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from tests.integration.commands import succeeded
from tests.processes import (
    detector,
    write_config,
)

LENGTH = 8


ROWS = 400  # of two series together


START_MS = 1_700_000_000_000


CONFIG: dict[str, Any] = {
    "features": {"value": "value"},
    "input": {"timestamp_unit": "ms"},
    "window": {"length_ticks": LENGTH},
    "threshold": {"method": "fixed", "value": 1.0},
    "embedded": {"path": "broker.sqlite", "synchronous": "normal"},
    "delivery": {"commit_interval_ms": 20},
    "http": {"port": 0},
}


def configured(directory: Path, **sections: Any) -> Path:
    tree = dict(CONFIG)
    for section, options in sections.items():
        merged = isinstance(options, dict) and section != "features"
        tree[section] = {**tree.get(section, {}), **options} if merged else options
    return write_config(directory / "config.yaml", tree)


def rows() -> list[tuple[str, int, float]]:
    """Two series in turn, quiet but for two spikes of each."""
    random = np.random.default_rng(3)
    return [
        (f"s{n % 2}", START_MS + 10 * n, 100.0 if n % 200 in (150, 151) else float(v))
        for n, v in enumerate(random.normal(0, 0.1, ROWS).round(6))
    ]


def write_csv(path: Path, table: Sequence[tuple[Any, ...]] | None = None) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["series", "timestamp", "value"])
        writer.writerows(rows() if table is None else table)
    return path


def score(config: Path, model: Path, *data: str | Path, out: Path) -> list[dict[str, str]]:
    arguments = ("--config", config, "--model", model, "--out", out, "--data", *data)
    done = detector("score", *arguments, "--json", cwd=out.parent)
    report = json.loads(succeeded(done))
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert report["ticks"] == len(found) == sum(report["outcomes"].values())
    return found


def alerts(config: Path, *options: str) -> str:
    return succeeded(
        detector(
            *("alerts", "--config", config, "--from-beginning", "--exit"),
            *options,
            cwd=config.parent,
        )
    )
