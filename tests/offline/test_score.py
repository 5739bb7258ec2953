"""Scoring and training over files: the pipeline of the daemon, one row a tick."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

import numpy as np
import pytest

from detector.build import make_pipeline, tick_format
from detector.config import Config, parse_config
from detector.core.codec import Codec
from detector.core.records import RecordBlock
from detector.data.sources import DataFile
from detector.errors import ArtifactError, ConfigError, DataError
from detector.model.directory import Artifact
from detector.offline.score import ScoringReport, score_files
from detector.offline.train import train_model
from tests.artifacts import make_artifact

LENGTH = 4
FEATURES = {"price": "price", "step": "diff(price)"}


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "model", FEATURES, length=LENGTH)


def make_config(**changes: object) -> Config:
    tree = {
        "features": FEATURES,
        "window": {"length_ticks": LENGTH},
        "threshold": {"method": "fixed", "value": 2.0},
        "alerts": {"open_after": 1, "of_last": 1, "resolve_after": 2},
    }
    return parse_config(tree | changes)


def ticks(count: int = 60) -> list[dict[str, object]]:
    """Two series with an outlier, a repeat, a late tick and a gap of a value."""
    random = np.random.default_rng(0)
    rows: list[dict[str, object]] = [
        {"series": "ab"[i % 2], "timestamp": 1000 + i, "price": float(random.normal(0, 0.1))}
        for i in range(count)
    ]
    rows[30]["price"] = 1e6
    rows[41] = rows[39]
    rows[44]["timestamp"] = 5
    rows[46]["price"] = math.nan
    return rows


def write(path: Path, rows: list[dict[str, object]]) -> DataFile:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return DataFile(path, "file")


def score(
    config: Config, artifact: Artifact, *files: DataFile
) -> tuple[ScoringReport, list[dict[str, str]], list[int]]:
    out = io.StringIO()
    read: list[int] = []
    report = score_files(config, artifact, files, out, read=read.append)
    return report, list(csv.DictReader(io.StringIO(out.getvalue()))), read


def test_every_tick_has_its_row(tmp_path: Path, artifact: Artifact) -> None:
    report, rows, read = score(make_config(), artifact, write(tmp_path / "x.jsonl", ticks()))
    assert len(rows) == report.ticks == sum(read) == sum(report.outcomes.values()) == 60
    assert [row["series"] for row in rows] == [t["series"] for t in ticks()]
    assert rows[0]["timestamp"] == "1970-01-01T00:16:40.000000000Z"
    assert report.outcomes["late"] == report.outcomes["duplicate"] == 1
    assert report.outcomes["rejected"] == 1
    assert report.outcomes["warming"] == 2 * LENGTH
    scored = [row for row in rows if row["score"]]
    assert len(scored) == report.outcomes["scored"]
    assert {row["threshold"] for row in rows} == {"2.0"}
    assert all((row["score"] == "") == (row["anomalous"] == "") for row in rows)
    assert [r["anomalous"] == "1" for r in scored] == [float(r["score"]) > 2 for r in scored]
    assert report.anomalous == sum(row["anomalous"] == "1" for row in rows) > 0
    assert report.alerts >= 1
    assert report.threshold == 2.0


def test_the_rows_are_what_the_daemon_would_find(tmp_path: Path, artifact: Artifact) -> None:
    """The same ticks as records, decoded and processed in small batches."""
    config = make_config()
    _, rows, _ = score(config, artifact, write(tmp_path / "x.jsonl", ticks()))
    pipeline = make_pipeline(config, artifact)
    codec = Codec(tick_format(config), artifact.features.fields)
    usable = [t for t in ticks() if t["price"] == t["price"]]
    found: list[str] = []
    for start in range(0, len(usable), 7):
        values = [json.dumps(t).encode() for t in usable[start : start + 7]]
        n = len(values)
        block = RecordBlock("ticks", 0, list(range(start, start + n)), [0] * n, [None] * n, values)
        batch, rejects = codec.decode(block)
        assert rejects == []
        result = pipeline.process(batch)
        found += ["" if s != s else str(s) for s in result.score.tolist()]
    expected = [r["score"] for r, t in zip(rows, ticks(), strict=True) if t["price"] == t["price"]]
    assert found == expected


def test_a_series_goes_on_in_the_next_file(tmp_path: Path, artifact: Artifact) -> None:
    whole = score(make_config(), artifact, write(tmp_path / "x.jsonl", ticks()))
    first = write(tmp_path / "1.jsonl", ticks()[:25])
    second = write(tmp_path / "2.jsonl", ticks()[25:])
    assert score(make_config(), artifact, first, second)[:2] == whole[:2]


def test_a_model_for_another_window_is_refused(tmp_path: Path, artifact: Artifact) -> None:
    file = write(tmp_path / "x.jsonl", ticks())
    with pytest.raises(ArtifactError, match=r"window\.length_ticks is 9"):
        score(make_config(window={"length_ticks": 9}), artifact, file)


def test_a_rate_too_small_for_the_calibration_is_refused(
    tmp_path: Path, artifact: Artifact
) -> None:
    config = make_config(threshold={"method": "quantile", "false_alarms_per_window": 1e-5})
    with pytest.raises(ConfigError, match="at least 99999 calibration windows"):
        score(config, artifact, write(tmp_path / "x.jsonl", ticks()))


def _train(config: Config, out: Path, *files: DataFile) -> None:
    train_model(config, files, out, progress=lambda *_: None, read=lambda _: None)


def test_training_on_no_ticks_says_so(tmp_path: Path) -> None:
    file = DataFile(write(tmp_path / "x.jsonl", ticks()).path, "s", limit=0)
    with pytest.raises(DataError, match="holds no ticks"):
        _train(make_config(), tmp_path / "out", file)
    assert not (tmp_path / "out").exists()


def test_training_on_text_says_which_field(tmp_path: Path) -> None:
    rows = [{"timestamp": i, "price": "cheap"} for i in range(100)]
    with pytest.raises(DataError, match=r"100 of 100 ticks cannot be used: a field \(price\)"):
        _train(make_config(), tmp_path / "out", write(tmp_path / "x.jsonl", list(rows)))


def test_training_without_a_numeric_column_says_so(tmp_path: Path) -> None:
    rows: list[dict[str, object]] = [{"timestamp": i, "name": "x"} for i in range(100)]
    with pytest.raises(DataError, match="no numeric column"):
        _train(make_config(features="auto"), tmp_path / "out", write(tmp_path / "x.jsonl", rows))
