"""Files scored as a user asks for it."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from tests.cli.making import LENGTH, ROWS, START_MS, rows, score, write_csv
from tests.integration.commands import refusal, succeeded
from tests.processes import (
    detector,
)


def test_score_writes_one_row_a_tick_with_an_empty_score_while_warming(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    found = score(config, model, data, out=tmp_path / "scores.csv")
    assert list(found[0]) == ["series", "timestamp", "score", "threshold", "anomalous"]
    assert [r["series"] for r in found] == [series for series, _, _ in rows()]
    assert found[0]["timestamp"] == "2023-11-14T22:13:20.000000000Z"
    assert found[1]["timestamp"] == "2023-11-14T22:13:20.010000000Z"
    assert {r["threshold"] for r in found} == {"1.0"}
    for series in ("s0", "s1"):
        mine = [r for r in found if r["series"] == series]
        assert all(r["score"] == r["anomalous"] == "" for r in mine[: LENGTH - 1])
        for row in mine[LENGTH - 1 :]:
            assert row["anomalous"] == str(int(float(row["score"]) > 1.0))
    # A spike lies in LENGTH windows of its series.
    assert sum(r["anomalous"] == "1" for r in found) == 4 * LENGTH


def test_every_kind_of_file_gives_the_same_scores(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    objects = [{"series": s, "timestamp": t, "value": v} for s, t, v in rows()]
    lines = "".join(json.dumps(o) + "\n" for o in objects)
    (tmp_path / "data.jsonl").write_text(lines)
    for name in ("data.csv", "data.jsonl"):
        with gzip.open(tmp_path / f"{name}.gz", "wb") as file:
            file.write((tmp_path / name).read_bytes())
    expected = score(config, model, data, out=tmp_path / "scores.csv")
    for name in ("data.csv.gz", "data.jsonl", "data.jsonl.gz"):
        assert score(config, model, tmp_path / name, out=tmp_path / "again.csv") == expected


def test_a_parquet_file_gives_the_same_scores(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    pyarrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    parquet = pytest.importorskip("pyarrow.parquet")
    series, timestamp, value = (list(column) for column in zip(*rows(), strict=True))
    table = pyarrow.table({"series": series, "timestamp": timestamp, "value": value})
    parquet.write_table(table, tmp_path / "data.parquet")
    expected = score(config, model, data, out=tmp_path / "scores.csv")
    found = score(config, model, tmp_path / "data.parquet", out=tmp_path / "again.csv")
    assert found == expected


def test_a_file_without_a_series_column_is_named_by_the_argument_or_by_itself(
    tmp_path: Path, config: Path, model: Path
) -> None:
    path = tmp_path / "pump.csv"
    path.write_text("timestamp,value\n" + "".join(f"{START_MS + n},0.1\n" for n in range(10)))
    named = score(config, model, f"kettle={path}", out=tmp_path / "a.csv")
    assert {r["series"] for r in named} == {"kettle"}
    assert {r["series"] for r in score(config, model, path, out=tmp_path / "b.csv")} == {"pump"}


def test_limit_since_and_until_choose_the_rows(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    def scored(*options: str) -> int:
        files = ("--model", model, "--out", tmp_path / "s.csv", "--data", data)
        done = detector("score", "--config", config, *files, *options, "--json", cwd=tmp_path)
        ticks: int = json.loads(succeeded(done))["ticks"]
        return ticks

    assert scored("--limit", "7") == 7
    assert scored("--since", "2023-11-14T22:13:21") == ROWS - 100
    assert scored("--until", "2023-11-14T22:13:21") == 100


def test_a_score_that_fails_leaves_no_file_and_keeps_the_old_one(
    tmp_path: Path, config: Path, model: Path
) -> None:
    bad = write_csv(tmp_path / "bad.csv", [*rows()[:20], ("s0", "yesterday", 1.0)])
    out = tmp_path / "scores.csv"
    arguments = ("--config", config, "--model", model, "--out", out, "--data", bad)
    assert "row 21" in refusal(detector("score", *arguments, cwd=tmp_path), 65)
    assert not out.exists()
    out.write_text("precious")
    refusal(detector("score", *arguments, cwd=tmp_path), 65)
    assert out.read_text() == "precious"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["bad.csv", "config.yaml", "scores.csv"]
