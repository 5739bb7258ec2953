"""Training on series that are not alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.build import make_pipeline
from detector.config import parse_config
from detector.core.ticks import TickBatch
from detector.data.sources import parse_data_argument
from detector.model.directory import load_artifact
from detector.offline.train import train_model

pytestmark = pytest.mark.training

LOUDNESS = {"quiet": 0.01, "middle": 1.0, "loud": 100.0}


def ticks(seed: int) -> list[dict[str, Any]]:
    random = np.random.default_rng(seed)
    return [
        {
            "series": name,
            "timestamp": i,
            "level": 1000 * size + size * random.normal(),
            "other": random.normal(),
        }
        for i in range(900)
        for name, size in LOUDNESS.items()
    ]


def batch(rows: list[dict[str, Any]]) -> TickBatch:
    return TickBatch(
        series=[row["series"] for row in rows],
        time_ns=np.array([row["timestamp"] for row in rows]) * 10**9,
        values=np.array([[row["level"], row["other"]] for row in rows]),
        partition=np.zeros(len(rows), np.int32),
        offset=np.arange(len(rows)),
        index=np.zeros(len(rows), np.int32),
        received_ms=np.zeros(len(rows), np.int64),
    )


def test_several_series_are_each_seen_in_a_scale_of_their_own(tmp_path: Path) -> None:
    """What the loudest does all the time is beyond everything the quietest ever did."""
    data = tmp_path / "normal.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in ticks(0)))
    live = ticks(1)
    for row in live[600 * 3 : 605 * 3]:
        if row["series"] == "quiet":
            row["level"] += 0.5  # 50 times what it usually moves by; the loud one hardly does
    found = {}
    for scaling in ("auto", "shared"):
        tree = {
            "features": {"level": "level", "other": "other"},
            "window": {"length_ticks": 6},
            "model": {"units": [4], "scaling": scaling},
            "training": {"epochs": 2, "patience": 1, "learning_rate": 0.01},
        }
        config, out = parse_config(tree), tmp_path / scaling
        report = train_model(
            config,
            [parse_data_argument(str(data))],
            out,
            progress=lambda *_: None,
            read=lambda _: None,
        )
        artifact, own = load_artifact(out), scaling == "auto"
        assert report.series_scaled == (3 if own else 0)
        assert (artifact.scales is not None) == own
        assert artifact.manifest["schema_version"] == (2 if own else 1)
        result = make_pipeline(config, artifact).process(batch(live))
        quiet = result.score[[row["series"] == "quiet" for row in live]]
        found[scaling] = float(quiet[600:605].max())
        for alert in result.alerts:  # in the features' own units
            for rows in (alert.observed, alert.expected):
                assert abs(rows[-1, 0] / LOUDNESS[alert.series] - 1000) < 100
    assert found["auto"] > 4 > found["shared"]
