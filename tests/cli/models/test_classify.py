"""Kinds of faults learnt and told, as a user asks for it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from detector.config import AlertsConfig, load_config
from detector.core.alerts import ANOMALIES
from detector.core.moments import parse_moment
from detector.data.faults import FAULT_KINDS
from detector.data.labels import read_labels
from detector.data.simulate import FEATURES
from detector.data.sources import DataFile
from detector.model.directory import load_artifact
from detector.offline import classify
from detector.offline.classify import split_in_time
from detector.offline.labelled import label_windows
from tests.artifacts import make_artifact, with_classifier
from tests.cli.models.making import CONFIG, LENGTH, SMALL_TRAINING, TICKS, run_daemon
from tests.integration.commands import refusal, succeeded, trained_here
from tests.processes import detector, write_config


def require_valid(events: Sequence[dict[str, Any]]) -> None:
    schema = json.loads((files("detector") / "schemas" / "alert.schema.json").read_text())
    for event in events:
        jsonschema.Draft202012Validator(schema).validate(event)


def test_the_daemon_and_score_say_what_an_alert_looks_like(
    tmp_path: Path, config: Path, data: Path
) -> None:
    plain = make_artifact(tmp_path / "m", length=LENGTH)
    known = with_classifier(plain, ["normal", "spike", "frozen"])
    assert known.version != plain.version
    events = run_daemon(config, tmp_path / "m", data, ticks=sum(TICKS.values()))
    require_valid(events)
    assert {e["data"]["model_version"] for e in events} == {known.version}
    for event in events:
        found = event["data"].get("fault")
        assert (found is None) == (event["data"]["state"] == "resolved")
        assert found is None or found["kind"] in ("spike", "frozen")
    opened = [e["data"]["fault"]["kind"] for e in events if e["data"]["state"] == "opened"]
    done = detector("alerts", "--config", config, "--from-beginning", "--exit", cwd=tmp_path)
    assert sum("looks like " in line for line in succeeded(done).splitlines()) == sum(
        "fault" in e["data"] for e in events
    )
    arguments = ("--config", config, "--model", "m", "--data", data, "--out", "s.csv")
    report = json.loads(succeeded(detector("score", *arguments, "--json", cwd=tmp_path)))
    assert report["faults"] == {kind: opened.count(kind) for kind in sorted(set(opened))}
    assert sum(report["faults"].values()) == report["alerts"] > 0


def test_a_model_without_a_classifier_says_nothing_of_kinds(
    config: Path, model: Path, data: Path
) -> None:
    events = run_daemon(config, model, data, ticks=sum(TICKS.values()))
    require_valid(events)
    assert events
    assert not any("fault" in e["data"] for e in events)


@pytest.mark.training
def test_kinds_of_faults_are_learnt_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A simulated rhythm from end to end: simulate, train, classify train, the daemon's alerts."""
    config = write_config(
        tmp_path / "config.yaml",
        CONFIG
        | {
            "features": FEATURES,
            "input": {"timestamp_unit": "s"},
            "model": {"units": [12]},
            "training": SMALL_TRAINING | {"epochs": 6, "windows_per_epoch": 8192},
            "threshold": {"method": "pot", "false_alarms_per_window": 1e-4},
        },
    )
    for name, seed, count in (("normal", 1, 0), ("taught", 2, 3), ("live", 3, 2)):
        succeeded(
            detector(
                *("simulate", "--out", f"{name}.csv", "--faults-out", f"{name}.json"),
                *("--rhythm", "--seed", str(seed), "--series", "2", "--ticks", "2500"),
                *("--faults-per-kind", str(count)),
                cwd=tmp_path,
            )
        )
    train = ("train", "--config", config, "--data", "normal.csv", "--out", "m")
    done = trained_here(*train, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = load_artifact(tmp_path / "m")
    arguments = ("classify", "train", "--config", config, "--model", "m", "--data", "taught.csv")
    wrong = ("--labels", "live.json", "--limit", "100", "--json")
    assert "labels of kind" in refusal(trained_here(*arguments, *wrong, cwd=tmp_path), 65)

    # All sizes and seeds would be some minutes.
    monkeypatch.setattr(classify, "SIZES", (40,))
    monkeypatch.setattr(classify, "SEEDS", (1,))
    done = trained_here(*arguments, "--labels", "taught.json", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    after = load_artifact(tmp_path / "m")
    assert after.version == report["model_version"] != before.version
    assert after.files["scorer.onnx"] == before.files["scorer.onnx"]
    assert set(after.manifest["files"]) == {*before.manifest["files"], "classifier.onnx"}
    # What alerts open on is what was learnt: windows up to alerts.of_last ticks after a fault.
    options, of_last = load_config(config), AlertsConfig().of_last
    found = label_windows(
        after,
        options,
        [DataFile(tmp_path / "taught.csv", "taught")],
        read_labels(tmp_path / "taught.json"),
        recent=of_last,
        seed=options.training.seed,
        read=lambda _: None,
    )
    parts = tuple(len(rows) for rows in split_in_time(found))
    assert (report["training"], report["held_out"]) == parts
    assert (report["labels"], report["labels_without_windows"]) == (3 * len(FAULT_KINDS), 0)
    section = after.manifest["classifier"]
    assert section["classes"] == ["normal", *sorted({*FAULT_KINDS})]
    assert [(row["windows"], row["start"]) for row in section["comparison"]] == [
        (40, "encoder"), (40, "random"),
    ]  # fmt: skip
    assert all(len(row["macro_f1"]) == 1 for row in section["comparison"])
    assert section["macro_f1"] > 0.4, "chance is a seventh"

    ticks = len((tmp_path / "live.csv").read_text().splitlines()) - 1
    events = run_daemon(config, tmp_path / "m", tmp_path / "live.csv", ticks=ticks)
    require_valid(events)
    opened = [
        e["data"]
        for e in events
        if e["data"]["state"] == "opened" and e["data"]["kind"] in ANOMALIES
    ]
    assert len(opened) >= 4, "how many, and of which faults, is the training's"
    faults = json.loads((tmp_path / "live.json").read_text())
    truth = [kind_at(o["series"], parse_moment(o["event_time"], "iso8601"), faults) for o in opened]
    right = [o["fault"]["kind"] == kind for o, kind in zip(opened, truth, strict=True)]
    # How well it has learnt is measured above; by chance it would be a sixth of these few.
    assert sum(right) > sum(kind is not None for kind in truth) / 4


def kind_at(series: str, time_ns: int, faults: Sequence[dict[str, Any]]) -> str | None:
    """Of the fault at that time, or not two seconds before it."""
    for fault in faults:
        begun = time_ns >= fault["start_ns"] - 1000
        if fault["series"] == series and begun and time_ns <= fault["end_ns"] + 2 * 10**9:
            kind: str = fault["kind"]
            return kind
    return None


def test_a_dense_model_cannot_be_taught(tmp_path: Path, config: Path, data: Path) -> None:
    make_artifact(tmp_path / "m", length=LENGTH, units=(4,), kind="dense")
    arguments = ("--config", config, "--model", "m", "--data", data, "--labels", "l.json")
    line = refusal(detector("classify", "train", *arguments, cwd=tmp_path), 65)
    assert "kind dense has no encoder" in line
