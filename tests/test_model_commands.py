"""encode, plot, compare and classify as a user runs them: a process of its own."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from detector.artifact import load_artifact
from detector.cli import main
from detector.config import AlertsConfig, load_config
from detector.lab import classify
from detector.lab.classify import split_in_time
from detector.lab.datasets import DataFile
from detector.lab.demo import nanoseconds
from detector.lab.encode import Encodings, read_encodings
from detector.lab.labels import label_windows, read_labels
from detector.lab.simulate import FAULT_KINDS, FEATURES
from tests.artifacts import make_artifact, with_classifier
from tests.integration.commands import refusal, succeeded
from tests.processes import RunningDaemon, clean_environment, detector, write_config

LENGTH = 8
START_MS = 1_700_000_000_000
TICKS = {"a": 40, "b": 25, "c": LENGTH}  # of each series
CONFIG: dict[str, Any] = {
    "features": {"value": "value"},
    "input": {"timestamp_unit": "ms"},
    "window": {"length": LENGTH},
    "threshold": {"method": "fixed", "value": 1.0},
    "embedded": {"path": "broker.sqlite", "synchronous": "normal"},
    "delivery": {"commit_interval_ms": 20},
    "http": {"port": 0},
}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    make_artifact(path, length=LENGTH)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "config.yaml", CONFIG)


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


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_ticks(tmp_path / "data.csv")


# -- encode


def encode(config: Path, model: Path, data: Path, out: str, *options: str) -> Encodings:
    path = config.parent / out
    arguments: tuple[str | Path, ...] = ("--config", config, "--model", model, "--data", data)
    arguments += ("--out", path, *options)
    report = json.loads(succeeded(detector("encode", *arguments, "--json", cwd=config.parent)))
    found = read_encodings(path)
    assert found.vectors.shape == (report["vectors"], report["units"])
    return found


def same(one: Encodings, other: Encodings) -> bool:
    return (one.series, one.columns()["timestamp"]) == (
        other.series, other.columns()["timestamp"],
    ) and all(
        np.array_equal(getattr(one, name), getattr(other, name))
        for name in ("vectors", "ticks", "label", "score", "anomalous")
    )  # fmt: skip


def test_every_kind_of_file_holds_the_same_vectors(config: Path, model: Path, data: Path) -> None:
    pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    found = encode(config, model, data, "e.npz")
    assert len(found.vectors) == sum(n - LENGTH + 1 for n in TICKS.values())
    assert set(found.series) == set(TICKS)
    assert found.label is not None
    assert found.label.sum() == sum(n // 10 for n in TICKS.values())
    assert found.score is not None
    assert found.anomalous is not None
    np.testing.assert_array_equal(found.anomalous, found.score > 1.0)
    assert 0 < found.anomalous.sum() < len(found.anomalous)
    assert np.abs(found.vectors).max() > 0.1, "vectors of zeros would prove nothing"
    for name in ("e.csv", "e.parquet"):
        assert same(encode(config, model, data, name), found), name


def test_a_file_without_a_usable_tick_is_passed_over(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    """Read beside a good one, in both ways; alone it is refused."""
    empty = tmp_path / "empty.csv"
    empty.write_text("series,timestamp,value,label\na,1,nan,0\na,2,nan,0\n")
    for options in ((), ("--sequences",)):
        alone = encode(config, model, data, "one.npz", *options)
        beside = ("--config", config, "--model", model, "--data", empty, data, "--out", "two.npz")
        succeeded(detector("encode", *beside, *options, cwd=tmp_path))
        assert same(read_encodings(tmp_path / "two.npz"), alone)
        only = ("--config", config, "--model", model, "--data", empty, "--out", "no.npz")
        assert "to encode" in refusal(detector("encode", *only, *options, cwd=tmp_path), 65)


def test_a_sequence_as_long_as_the_window_has_the_vector_of_its_window(
    config: Path, model: Path, data: Path
) -> None:
    windows = encode(config, model, data, "w.npz")
    sequences = encode(config, model, data, "s.csv", "--sequences")
    assert dict(zip(sequences.series, sequences.ticks.tolist(), strict=True)) == TICKS
    assert sequences.score is None
    assert sequences.anomalous is None
    of_window = windows.vectors[windows.series.index("c")]
    of_sequence = sequences.vectors[sequences.series.index("c")]
    np.testing.assert_allclose(of_sequence, of_window, rtol=1e-5, atol=1e-6)


def test_a_gap_begins_another_sequence(tmp_path: Path, model: Path) -> None:
    config = write_config(
        tmp_path / "config.yaml", CONFIG | {"window": {"length": LENGTH, "max_gap_s": 1}}
    )
    times = [*range(0, 50, 10), *range(5000, 5030, 10)]
    (tmp_path / "pump.csv").write_text(
        "timestamp,value\n" + "".join(f"{START_MS + ms},{ms / 1e4}\n" for ms in times)
    )
    found = encode(config, model, tmp_path / "pump.csv", "s.npz", "--sequences")
    assert (found.series, found.ticks.tolist()) == (("pump", "pump"), [5, 3])
    assert found.label is None


def test_a_model_without_an_encoder_is_refused(tmp_path: Path, config: Path, data: Path) -> None:
    make_artifact(tmp_path / "m", length=LENGTH, units=(4,), kind="dense")
    arguments = ("--config", config, "--model", "m", "--data", data, "--out", "e.csv")
    line = refusal(detector("encode", *arguments, cwd=tmp_path), 65)
    assert "kind dense has no encoder" in line


def test_data_without_a_full_window_is_refused(config: Path, model: Path, data: Path) -> None:
    arguments = ("--config", config, "--model", model, "--data", data, "--limit", "5")
    done = detector("encode", *arguments, "--out", "e.csv", cwd=config.parent)
    assert f"no full window of {LENGTH} ticks" in refusal(done, 65)


@pytest.mark.parametrize(("out", "word"), [("e.txt", ".parquet"), ("no/e.csv", "no directory")])
def test_a_file_that_could_not_be_written_is_refused_before_anything_is_read(
    tmp_path: Path, out: str, word: str
) -> None:
    arguments = ("--model", "missing", "--data", "missing.csv", "--out", out)
    line = refusal(detector("encode", *arguments, cwd=tmp_path), 64)
    assert out in line
    assert word in line


# -- plot

WITHOUT_MATPLOTLIB = """
import sys
sys.modules["matplotlib"] = None
from detector.cli import main
raise SystemExit(main(sys.argv[1:]))
"""
PNG = b"\x89PNG"


def plot(*arguments: str | Path, cwd: Path) -> bytes:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    done = detector("plot", *arguments, "--out", "p.png", cwd=cwd)
    assert succeeded(done) == "p.png\n"
    return (cwd / "p.png").read_bytes()


@pytest.mark.parametrize("colour", ["series", "label", "alert"])
def test_embeddings_are_drawn(config: Path, model: Path, data: Path, colour: str) -> None:
    encode(config, model, data, "e.csv")
    drawn = plot("embeddings", "--encodings", "e.csv", "--colour", colour, cwd=config.parent)
    assert drawn.startswith(PNG)


def test_embeddings_of_sequences_have_no_alerts_to_colour_by(
    config: Path, model: Path, data: Path
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    encode(config, model, data, "e.csv", "--sequences")
    arguments = ("embeddings", "--encodings", "e.csv", "--colour", "alert", "--out", "p.png")
    assert "no score" in refusal(detector("plot", *arguments, cwd=config.parent), 65)


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


@pytest.fixture
def published(config: Path, model: Path, data: Path) -> Path:
    """A directory whose embedded broker holds alerts."""
    assert run_daemon(config, model, data, ticks=sum(TICKS.values()))
    return config.parent


def test_the_window_of_an_alert_is_drawn_from_the_topic_and_from_a_file(published: Path) -> None:
    assert plot("window", "--config", "config.yaml", cwd=published).startswith(PNG)
    events = [json.loads(line) for line in (published / "alerts.jsonl").read_text().splitlines()]
    from_file = ("window", "--alerts", "alerts.jsonl")
    assert plot(*from_file, "--alert", events[0]["id"][:12], cwd=published).startswith(PNG)
    done = detector("plot", *from_file, "--alert", "zz", "--out", "q.png", cwd=published)
    assert f"none of {len(events)} alert events" in refusal(done, 65)
    (published / "other.jsonl").write_text('{"id": 1}\n')
    done = detector("plot", "window", "--alerts", "other.jsonl", "--out", "q.png", cwd=published)
    assert "line 1 is no alert" in refusal(done, 65)
    assert not (published / "q.png").exists()


def test_the_layers_of_a_model_are_drawn(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    make_artifact(tmp_path / "m", length=LENGTH, kind="composite", horizon=3)
    text = succeeded(detector("inspect", "m", "--plot", "layers.svg", cwd=tmp_path))
    assert "composite" in text
    assert "<svg" in (tmp_path / "layers.svg").read_text()


def test_a_model_that_was_not_trained_has_no_curves(tmp_path: Path, model: Path) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    done = detector("plot", "training", "--model", model, "--out", "p.png", cwd=tmp_path)
    assert "not trained" in refusal(done, 65)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["plot", "embeddings", "--encodings", "e.csv", "--out", "p.png"], "detector[plot]"),
        (["plot", "window", "--out", "p.png"], "detector[plot]"),
        (["inspect", "MODEL", "--plot", "p.png"], "detector[plot]"),
    ],
)
def test_without_matplotlib_a_picture_is_refused_and_says_what_to_install(
    tmp_path: Path, model: Path, arguments: Sequence[str], word: str
) -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_MATPLOTLIB,
         *(str(model) if a == "MODEL" else a for a in arguments)],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert word in refusal(done, 65)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["plot", "training", "--model", "m", "--out", "p.txt"], ["p.txt", ".png"]),
        (["plot", "training", "--out", "p.png"], ["--model"]),
        (["plot", "embeddings", "--out", "p.png"], ["--encodings"]),
        (["plot", "window", "--model", "m", "--out", "p.png"], ["--model", "plot training"]),
        (["plot", "weather", "--out", "p.png"], ["weather", "embeddings"]),
        (["compare", "--data", "d.csv", "--variants", "dense", "--seeds", "0"], ["--seeds"]),
        (["compare", "--data", "d.csv", "--variants", "dense:4"], ["'4'", "option=value"]),
        (["classify", "guess", "--data", "d.csv"], ["guess", "train"]),
    ],
)
def test_a_wrong_command_line_ends_with_64(
    tmp_path: Path, arguments: Sequence[str], words: Sequence[str]
) -> None:
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (an extra)")
    line = refusal(detector(*arguments, cwd=tmp_path), 64)
    assert all(word in line for word in words), line
    assert list(tmp_path.iterdir()) == []


# -- compare

SMALL_TRAINING = {"epochs": 1, "windows_per_epoch": 512, "xla": False}


def write_wave(path: Path, *, label: bool, ticks: int = 3000) -> Path:
    random = np.random.default_rng(1)
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", "value", *(["label"] if label else [])])
        for n in range(ticks):
            odd = n % 500 > 480
            value = 4.0 if odd and label else float(np.sin(n / 3) + random.normal(0, 0.05))
            writer.writerow([START_MS + 10 * n, value, *([int(odd)] if label else [])])
    return path


@pytest.mark.training
def test_variants_are_compared_under_one_budget(tmp_path: Path) -> None:
    config = write_config(
        tmp_path / "config.yaml",
        CONFIG | {"training": SMALL_TRAINING, "model": {"units": [4]}},
    )
    train = write_wave(tmp_path / "train.csv", label=False)
    test = write_wave(tmp_path / "test.csv", label=True, ticks=1500)
    arguments = ("--config", config, "--data", train, "--test", test, "--plot", "c.png")
    variants = ("--variants", "reconstruction", "prediction:horizon=2:units=6,3")
    done = detector("compare", *arguments, *variants, "--seeds", "2", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rows = json.loads(done.stdout)
    assert [row["variant"] for row in rows] == list(variants[1:])
    assert rows[0]["parameters"] != rows[1]["parameters"]
    for row in rows:
        assert row["epochs"] == [1, 1]
        assert len(set(row["held_out_error"])) == 2, "each seed trains its own network"
        assert all(0 < v <= 1 for v in row["vus_pr"])
        assert all(0 <= v <= 1 for v in row["event_f1"])
        assert all(v > 0 for v in row["windows_per_s"] + row["training_s"])
    assert (tmp_path / "c.png").read_bytes().startswith(PNG)
    done = detector("compare", *arguments[:4], "--variants", "last_step", cwd=tmp_path)
    head, _, row = done.stdout.splitlines()
    assert head.startswith("| variant | parameters |")
    assert row.startswith("| last_step |")
    assert row.endswith("| - | - |"), "nothing was measured on test files"
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "c.png", "config.yaml", "test.csv", "train.csv",
    ]  # fmt: skip


def test_test_files_without_labels_are_refused_before_any_training(
    tmp_path: Path, config: Path
) -> None:
    plain = write_ticks(tmp_path / "plain.csv", label=False)
    arguments = ("--config", config, "--data", plain, "--test", plain, "--variants", "last_step")
    line = refusal(detector("compare", *arguments, cwd=tmp_path), 65)
    assert "plain.csv" in line
    assert "no column 'label'" in line


def test_test_files_without_an_anomaly_are_refused_before_any_training(
    tmp_path: Path, config: Path, data: Path
) -> None:
    calm = tmp_path / "calm.csv"
    calm.write_text("series,timestamp,value,label\na,1,0.5,0\n")
    arguments = ("--config", config, "--data", data, "--test", calm, "--variants", "last_step")
    line = refusal(detector("compare", *arguments, cwd=tmp_path), 65)
    assert "calm.csv: no tick is labelled as anomalous (label above 0)" in line


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("transformer", ["model.kind", "reconstruction, sequence", "transformer"]),
        ("sequence:unist=4", ["model.unist", "did you mean 'units'"]),
        ("sequence:horizon=4", ["model.horizon", "prediction or composite"]),
    ],
)
def test_a_variant_that_cannot_be_is_refused_as_in_the_configuration(
    config: Path, data: Path, variant: str, words: Sequence[str]
) -> None:
    arguments = ("--config", config, "--data", data, "--variants", "reconstruction", variant)
    line = refusal(detector("compare", *arguments, cwd=config.parent), 78)
    assert all(word in line for word in words), line


# -- classify


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
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Simulated quotes from end to end: simulate, train, classify train, the daemon's alerts."""
    config = write_config(
        tmp_path / "config.yaml",
        CONFIG
        | {
            "features": FEATURES,
            "input": {"timestamp_unit": "s"},
            "model": {"units": [12]},
            "training": SMALL_TRAINING
            | {"epochs": 6, "windows_per_epoch": 8192, "max_seconds": 20},
            "threshold": {"method": "pot", "false_alarms_per_window": 1e-4},
        },
    )
    for name, seed, count in (("normal", 1, 0), ("taught", 2, 3), ("live", 3, 2)):
        succeeded(
            detector(
                *("simulate", "--out", f"{name}.csv", "--faults-out", f"{name}.json"),
                *("--seed", str(seed), "--series", "2", "--ticks", "2500"),
                *("--faults-per-kind", str(count)),
                cwd=tmp_path,
            )
        )
    done = detector("train", "--config", config, "--data", "normal.csv", "--out", "m", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    before = load_artifact(tmp_path / "m")
    arguments = ("classify", "train", "--config", config, "--model", "m", "--data", "taught.csv")
    wrong = ("--labels", "live.json", "--limit", "100", "--json")
    assert "labels of kind" in refusal(detector(*arguments, *wrong, cwd=tmp_path), 65)

    # In this process: all sizes and seeds would be some minutes.
    monkeypatch.setattr(classify, "SIZES", (10, 40))
    monkeypatch.setattr(classify, "SEEDS", (1, 2))
    monkeypatch.chdir(tmp_path)
    assert main([*map(str, arguments), "--labels", "taught.json", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    after = load_artifact(tmp_path / "m")
    assert after.version == report["model_version"] != before.version
    assert after.scorer == before.scorer
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
        (10, "encoder"), (10, "random"), (40, "encoder"), (40, "random"),
    ]  # fmt: skip
    assert all(len(row["macro_f1"]) == 2 for row in section["comparison"])
    assert section["macro_f1"] > 0.4, "chance is a seventh"

    ticks = len((tmp_path / "live.csv").read_text().splitlines()) - 1
    events = run_daemon(config, tmp_path / "m", tmp_path / "live.csv", ticks=ticks)
    require_valid(events)
    opened = [e["data"] for e in events if e["data"]["state"] == "opened"]
    assert len(opened) >= 6
    faults = json.loads((tmp_path / "live.json").read_text())
    truth = [kind_at(o["series"], nanoseconds(o["event_time"]), faults) for o in opened]
    right = [o["fault"]["kind"] == kind for o, kind in zip(opened, truth, strict=True)]
    assert sum(right) > sum(kind is not None for kind in truth) / 3, "chance is a sixth"


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
