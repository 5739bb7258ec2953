"""Every command as a user runs it: a process of its own, on the embedded broker."""

from __future__ import annotations

import csv
import gzip
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from tests.artifacts import make_artifact
from tests.integration.commands import refusal, succeeded
from tests.processes import (
    RunningDaemon,
    by_label,
    clean_environment,
    detector,
    total,
    wait_for,
    write_config,
)

LENGTH = 8
ROWS = 400  # of two series together
START_MS = 1_700_000_000_000
CONFIG: dict[str, Any] = {
    "features": {"value": "value"},
    "input": {"timestamp_unit": "ms"},
    "window": {"length": LENGTH},
    "threshold": {"method": "fixed", "value": 1.0},
    "embedded": {"path": "broker.sqlite", "synchronous": "normal"},
    "delivery": {"commit_interval_ms": 20},
    "http": {"port": 0},
}
HEAVY = {"tensorflow", "keras", "onnx", "scipy"}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    make_artifact(path, length=LENGTH)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configured(tmp_path)


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


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "data.csv")


# -- score


def score(config: Path, model: Path, *data: str | Path, out: Path) -> list[dict[str, str]]:
    arguments = ("--config", config, "--model", model, "--out", out, "--data", *data)
    done = detector("score", *arguments, "--json", cwd=out.parent)
    report = json.loads(succeeded(done))
    with out.open(newline="") as file:
        found = list(csv.DictReader(file))
    assert report["ticks"] == len(found) == sum(report["outcomes"].values())
    return found


def test_score_writes_one_row_a_tick_with_an_empty_score_while_warming(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    found = score(config, model, data, out=tmp_path / "scores.csv")
    assert list(found[0]) == ["series", "timestamp", "score", "threshold", "anomalous"]
    assert [r["series"] for r in found] == [series for series, _, _ in rows()]
    assert found[0]["timestamp"] == "2023-11-14T22:13:20.000000000Z"
    assert found[1]["timestamp"] == "2023-11-14T22:13:20.010000000Z"
    assert {r["threshold"] for r in found} == {"1"}
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


# -- publish, run, alerts


def alerts(config: Path, *options: str) -> str:
    return succeeded(
        detector(
            *("alerts", "--config", config, "--from-beginning", "--exit"),
            *options,
            cwd=config.parent,
        )
    )


def test_ticks_published_become_alerts_and_sigterm_ends_the_daemon_with_0(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    published = detector("publish", "--config", config, "--data", data, "--json", cwd=tmp_path)
    assert json.loads(succeeded(published)) == {"published": ROWS}
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        daemon.wait_ready()
        metrics = daemon.wait_accounted(ROWS)
        assert daemon.get("/livez") == (200, "ok\n")
        assert "detector" in daemon.get("/")[1]
        assert daemon.terminate() == 0
        assert daemon.output() == ""
    assert by_label(metrics, "detector_ticks_total", "outcome") == {
        "warming": 2 * (LENGTH - 1), "scored": ROWS - 2 * (LENGTH - 1),
    }  # fmt: skip
    events = [json.loads(line) for line in alerts(config, "--json").splitlines()]
    schema = json.loads((files("detector") / "schemas" / "alert.schema.json").read_text())
    for event in events:
        jsonschema.Draft202012Validator(schema).validate(event)
    opened = [e["data"]["series"] for e in events if e["data"]["state"] == "opened"]
    assert sorted(opened) == ["s0", "s0", "s1", "s1"]
    assert total(metrics, "detector_alerts_total", state="opened") == 4
    lines = alerts(config).splitlines()
    assert len(lines) == len(events)
    assert all(e["data"]["series"] in line for e, line in zip(events, lines, strict=True))


def test_the_daemon_finds_the_alerts_that_score_finds(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    found = score(config, model, data, out=tmp_path / "scores.csv")
    succeeded(detector("publish", "--config", config, "--data", data, cwd=tmp_path))
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        daemon.wait_ready()
        daemon.wait_accounted(ROWS)
        assert daemon.terminate() == 0
    by_time = {(r["series"], r["timestamp"]): r["score"] for r in found}
    events = [json.loads(line)["data"] for line in alerts(config, "--json").splitlines()]
    assert len(events) >= 8
    for event in events:
        assert by_time[event["series"], event["event_time"]] == f"{event['score']:.6g}"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_idle_daemon_ends_with_0(
    tmp_path: Path, config: Path, model: Path, number: signal.Signals
) -> None:
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        daemon.wait_ready()
        daemon.signal(number)
        assert daemon.wait_ended() == 0
        assert "stopped" in daemon.log()


def test_the_log_can_be_json_lines(tmp_path: Path, model: Path) -> None:
    config = configured(tmp_path, log={"format": "json"})
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        wait_for(lambda: '"ready"' in daemon.log(), "the daemon says that it is ready")
        assert daemon.terminate() == 0
        entries = [json.loads(line) for line in daemon.log().splitlines()]
    events = [entry["event"] for entry in entries]
    assert [e for e in events if e in ("starting", "serving", "ready", "stopped")] == [
        "starting", "serving", "ready", "stopped",
    ]  # fmt: skip


def test_a_publisher_at_a_rate_publishes_everything(
    tmp_path: Path, config: Path, data: Path
) -> None:
    done = detector("publish", "--config", config, "--data", data, "--rate", "2000", cwd=tmp_path)
    assert succeeded(done) == f"published {ROWS} ticks to ticks\n"


def test_alerts_of_an_empty_topic_end_without_a_line(tmp_path: Path, config: Path) -> None:
    assert alerts(config, "--json") == ""


def test_environment_variables_override_the_file(tmp_path: Path, config: Path, data: Path) -> None:
    done = detector(
        *("publish", "--config", config, "--data", data),
        cwd=tmp_path,
        environment={"DETECTOR_INPUT__TOPIC": "elsewhere"},
    )
    assert succeeded(done) == f"published {ROWS} ticks to elsewhere\n"


# -- check, inspect, simulate, bench, train


def test_check_tells_what_is_well_and_what_the_daemon_will_create(
    tmp_path: Path, config: Path, model: Path
) -> None:
    def check() -> list[str]:
        done = detector("check", "--config", config, "--model", model, cwd=tmp_path)
        return succeeded(done).splitlines()

    configuration, model_line, broker = check()
    assert configuration == "configuration: ok"
    assert "model: ok" in model_line
    assert "threshold 1.0000" in model_line
    will_create = "; will create ticks, alerts, dead-letters"
    assert broker == f"broker: ok (embedded broker broker.sqlite{will_create})"
    assert [p.name for p in tmp_path.iterdir()] == ["config.yaml"], "a check creates nothing"
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        daemon.wait_ready()
        assert daemon.terminate() == 0
    assert check()[2] == "broker: ok (embedded broker broker.sqlite)"


def test_check_names_missing_topics_that_may_not_be_created(tmp_path: Path) -> None:
    config = configured(tmp_path, topics={"create": False})
    line = refusal(detector("check", "--config", config, cwd=tmp_path), 69)
    assert "missing topics ticks, alerts, dead-letters" in line
    assert "topics.create: true" in line
    assert not (tmp_path / "broker.sqlite").exists()


def test_check_offline_asks_no_broker(tmp_path: Path) -> None:
    config = configured(tmp_path, transport="kafka", kafka={"bootstrap_servers": "127.0.0.1:1"})
    done = detector("check", "--config", config, "--offline", cwd=tmp_path)
    assert succeeded(done) == "configuration: ok\n"


def test_inspect_tells_what_a_model_is(tmp_path: Path, model: Path) -> None:
    manifest = json.loads(succeeded(detector("inspect", model, "--json", cwd=tmp_path)))
    assert manifest["window"]["length"] == LENGTH
    text = succeeded(detector("inspect", model, cwd=tmp_path))
    assert manifest["model_version"] in text
    assert f"{LENGTH} ticks x 1 features" in text
    assert "feature value" in text
    assert "conditioned" in text
    assert f"ticks 1 to {LENGTH} (reconstruction)" in text
    assert "horizon" not in text, "reconstruction knows none"


def test_inspect_shows_every_option_of_an_architecture(tmp_path: Path) -> None:
    options: dict[str, Any] = {"kind": "composite", "horizon": 3, "prediction_weight": 0.25}
    make_artifact(tmp_path / "m", length=LENGTH, target_order="reversed", **options)
    lines = succeeded(detector("inspect", "m", cwd=tmp_path)).splitlines()
    shown = {line[:18].strip(): line[18:].strip() for line in lines}
    assert "composite" in shown["model"]
    assert (shown["horizon"], shown["target order"]) == ("3", "reversed")
    assert (shown["conditioned"], shown["prediction weight"]) == ("False", "0.25")
    length = int(shown["window"].split()[0])
    assert shown["reads"] == f"ticks 1 to {length - 3} of each window"
    assert shown["gives back"] == (
        f"ticks 1 to {length - 3} (reconstruction); ticks {length - 2} to {length} (prediction)"
    )


def test_simulate_writes_ticks_that_can_be_scored_and_repeats_them(tmp_path: Path) -> None:
    features = {"return": "log_return(mid(bid, ask))", "volume": "log(volume)"}
    make_artifact(tmp_path / "model", features, length=LENGTH)
    config = configured(tmp_path, features=features, input={"timestamp_unit": "s"})
    for name in ("a.csv", "b.csv"):
        done = detector(
            *("simulate", "--out", name, "--series", "2", "--ticks", "1500", "--seed", "5"),
            *("--faults-per-kind", "1", "--faults-out", "faults.json"),
            cwd=tmp_path,
        )
        assert succeeded(done).endswith(f"6 faults: {name}\n")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(json.loads((tmp_path / "faults.json").read_text())) == 6
    found = score(config, tmp_path / "model", tmp_path / "a.csv", out=tmp_path / "scores.csv")
    assert {r["series"] for r in found} == {"SIM000", "SIM001"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--out", "no/where.csv"), "no/where.csv: No such file"),
        (("--out", "a.csv", "--faults-out", "no/where.json", "--ticks", "9"), "no/where.json: No"),
        (("--out", "a.csv", "--series", "0"), "--series must be at least 1"),
        (("--out", "a.csv", "--ticks", "0"), "--ticks must be at least 1"),
        (("--out", "a.csv", "--faults-per-kind", "-1"), "--faults-per-kind must be at least 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    tmp_path: Path, arguments: Sequence[str], says: str
) -> None:
    assert says in refusal(detector("simulate", *arguments, cwd=tmp_path), 64)


def test_bench_measures_the_reference_model(tmp_path: Path) -> None:
    done = detector("bench", "scoring", "--json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["windows_per_s"] > 0


@pytest.mark.training
def test_train_makes_a_model_that_the_other_commands_take(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        model={"units": [4]},
        training={"epochs": 1, "windows_per_epoch": 512, "xla": False},
        threshold={"method": "pot", "false_alarms_per_window": 1e-3, "value": None},
    )
    random = np.random.default_rng(1)
    table = [("s", START_MS + 10 * n, float(v)) for n, v in enumerate(random.normal(size=4000))]
    data = write_csv(tmp_path / "train.csv", table)
    done = detector(
        *("train", "--config", config, "--data", data, "--out", "trained", "--json"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 1
    report = json.loads(done.stdout)
    assert report["ticks"] == 4000
    assert report["epochs"] == 1
    trained = tmp_path / "trained"
    manifest = json.loads(succeeded(detector("inspect", trained, "--json", cwd=tmp_path)))
    assert manifest["model_version"] == report["model_version"]
    found = score(config, trained, data, out=tmp_path / "scores.csv")
    assert [float(r["threshold"]) for r in found[:1]] == [pytest.approx(report["threshold"], 1e-4)]


# -- refusals: one line, and the exit code says whose fault it is


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "COMMAND"),
        (["rnu"], "rnu"),
        (["run"], "--model"),
        (["run", "--modle", "m"], "--mod"),
        (["score", "--model", "m", "--out", "o"], "--data"),
        (["publish", "--data", "d.csv", "--rate", "fast"], "--rate"),
        (["publish", "--data", "d.csv", "--rate", "0"], "--rate"),
        (["publish", "--data", "d.csv", "--limit", "0"], "--limit"),
        (["publish", "--data", "d.csv", "--since", "noon"], "'noon'"),
        (["inspect"], "DIR"),
        (["state", "reset"], "--to"),
        (["state", "reset", "--to", "yesterday"], "yesterday"),
        (["state", "show", "--to", "earliest"], "--to"),
        (["state", "grow", "--to", "latest"], "--to"),
        (["state", "shrink"], "shrink"),
        (["dead-letters", "--since", "noon"], "'noon'"),
        (["simulate", "--out", "o.csv", "--ticks", "10", "--faults-per-kind", "1"], "ticks"),
    ],
)
def test_a_wrong_command_line_ends_with_64(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    assert words in refusal(detector(*arguments, cwd=tmp_path), 64)
    assert list(tmp_path.iterdir()) == []


def test_scores_into_a_directory_that_is_not_there_end_with_64(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    arguments = ("--config", config, "--model", model, "--out", "no/s.csv", "--data", data)
    assert "no/s.csv" in refusal(detector("score", *arguments, cwd=tmp_path), 64)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("window: {lenght: 8}", ["window.lenght", "did you mean 'length'"]),
        ("windw: {length: 8}", ["windw", "did you mean 'window'"]),
        ("window: {length: many}", ["window.length", "a whole number", "'many'"]),
        ("window: {length: 1.5}", ["window.length", "a whole number"]),
        ("window: {length: 1}", ["window.length", "from 2 to"]),
        ("window: [8]", ["window", "section"]),
        ("log: {level: loud}", ["log.level", "debug, info"]),
        ("features: {value: valeu(x)}", ["features.value", "valeu"]),
        ("threshold: {method: fixed}", ["threshold.value"]),
        ("alerts: {topic: ticks}", ["topic"]),
        ("- a list", ["section"]),
        ("a: [", ["not YAML"]),
    ],
)
def test_a_wrong_configuration_ends_with_78_and_names_the_option(
    tmp_path: Path, text: str, words: list[str]
) -> None:
    (tmp_path / "wrong.yaml").write_text(text)
    line = refusal(detector("check", "--config", "wrong.yaml", "--offline", cwd=tmp_path), 78)
    assert all(word in line for word in words), line


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"DETECTOR_WINDOW__LENGTH": "many"}, ["window.length"]),
        ({"DETECTOR_WINDOW__LENGHT": "8"}, ["window.lenght", "did you mean 'length'"]),
        ({"DETECTOR_TRANSPORT__X": "8"}, ["DETECTOR_TRANSPORT__X"]),
    ],
)
def test_a_wrong_environment_variable_ends_with_78(
    tmp_path: Path, config: Path, environment: Mapping[str, str], words: list[str]
) -> None:
    with config.open("a") as file:
        file.write("transport: embedded\n")
    done = detector("check", "--config", config, "--offline", cwd=tmp_path, environment=environment)
    assert all(word in refusal(done, 78) for word in words)


def test_an_environment_variable_that_is_no_yaml_ends_with_78(tmp_path: Path) -> None:
    done = detector("check", "--offline", cwd=tmp_path, environment={"DETECTOR_FEATURES": "{a: ["})
    assert "DETECTOR_FEATURES" in refusal(done, 78)


def test_a_configuration_that_is_not_there_ends_with_78(tmp_path: Path) -> None:
    done = detector("check", "--config", "none.yaml", "--offline", cwd=tmp_path)
    assert "none.yaml" in refusal(done, 78)


def damaged(model: Path, copy: Path, how: str) -> Path:
    if how == "missing":
        return copy
    shutil.copytree(model, copy)
    manifest = copy / "manifest.json"
    if how == "scorer":
        graph = bytearray((copy / "scorer.onnx").read_bytes())
        graph[len(graph) // 2] ^= 1
        (copy / "scorer.onnx").write_bytes(graph)
    elif how == "no manifest":
        manifest.unlink()
    elif how == "no JSON":
        manifest.write_text(manifest.read_text()[:-20])
    elif how == "newer":
        manifest.write_text(
            manifest.read_text().replace('"schema_version": 1', '"schema_version": 2')
        )
    elif how == "incomplete":
        tree = json.loads(manifest.read_text())
        del tree["window"]
        manifest.write_text(json.dumps(tree))
    return copy


@pytest.mark.parametrize(
    ("command", "how", "words"),
    [
        ("run", "missing", "no model directory"),
        ("score", "scorer", "checksum"),
        ("inspect", "no manifest", "manifest.json"),
        ("run", "no JSON", "manifest.json"),
        ("score", "newer", "schema version 2"),
        ("inspect", "incomplete", "window"),
    ],
)
def test_a_model_that_cannot_be_used_ends_with_65(
    tmp_path: Path, config: Path, model: Path, data: Path, how: str, words: str, command: str
) -> None:
    path = damaged(model, tmp_path / "copy", how)
    arguments: dict[str, tuple[str | Path, ...]] = {
        "run": ("--config", config, "--model", path),
        "score": ("--config", config, "--model", path, "--out", "s.csv", "--data", data),
        "inspect": (path,),
    }
    line = refusal(detector(command, *arguments[command], cwd=tmp_path), 65)
    assert words in line
    assert str(path) in line


@pytest.mark.parametrize(
    ("command", "sections", "words"),
    [
        (["run"], {"window": {"length": 16}}, ["windows of 8 ticks", "window.length is 16"]),
        (["check"], {"features": {"price": "value"}}, ["other features", "price", "value"]),
        (
            ["score", "--out", "s.csv", "--data", "data.csv"],
            {"features": {"value": "diff(value)"}},
            ["other features", "value"],
        ),
    ],
)
def test_a_model_for_another_configuration_ends_with_65(
    tmp_path: Path,
    model: Path,
    data: Path,
    command: list[str],
    sections: dict[str, Any],
    words: list[str],
) -> None:
    assert data == tmp_path / "data.csv"
    config = configured(tmp_path, **sections)
    done = detector(*command, "--config", config, "--model", model, cwd=tmp_path)
    line = refusal(done, 65)
    assert all(word in line for word in words), line


def test_a_daemon_that_waits_for_its_broker_ends_with_0_when_told_to(
    tmp_path: Path, model: Path
) -> None:
    config = write_config(
        tmp_path / "config.yaml",
        {
            "transport": "kafka",
            "features": {"value": "value"},
            "window": {"length": LENGTH},
            "delivery": {"retry_timeout_s": 60},
            "kafka": {"bootstrap_servers": "127.0.0.1:9"},
            "http": {"port": 0},
        },
    )
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        wait_for(lambda: "serving address" in daemon.log(), "it has begun to start")
        assert daemon.terminate(timeout_s=10) == 0, daemon.log()


@pytest.mark.parametrize("command", ["run", "publish", "alerts", "check", "dead-letters", "state"])
def test_a_kafka_that_cannot_be_reached_ends_with_69_when_the_time_is_up(
    tmp_path: Path, model: Path, data: Path, command: str
) -> None:
    with socket.socket() as closed:  # bound and not listening: nobody else can take it
        closed.bind(("127.0.0.1", 0))
        servers = f"127.0.0.1:{closed.getsockname()[1]}"
        config = configured(
            tmp_path,
            transport="kafka",
            kafka={"bootstrap_servers": servers},
            delivery={"retry_timeout_s": 0.5},
            log={"level": "error"},
        )
        extra: dict[str, tuple[str | Path, ...]] = {
            "run": ("--model", model), "publish": ("--data", data),
        }  # fmt: skip
        done = detector(
            command, "--config", config, *extra.get(command, ()), cwd=tmp_path, timeout_s=30
        )
    line = refusal(done, 69)
    assert servers in line
    assert "kafka.bootstrap_servers" in line


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("none.csv", None, ["none.csv", "No such file"]),
        ("data.txt", "timestamp,value\n1,2\n", ["data.txt", ".csv", ".parquet"]),
        ("data.csv", "timestamp,other\n1,2\n", ["'value'", "other"]),
        ("data.csv", "time,value\n1,2\n", ["'timestamp'", "time"]),
        ("data.csv", "timestamp,value\n1,2\n3\n", ["line 3"]),
        ("data.csv", "timestamp,value\n1,2\nnoon,2\n", ["row 2", "'noon'"]),
        ("data.jsonl", '{"timestamp": 1, "value": 2}\n{"timestamp"\n', ["line 2"]),
        ("data.jsonl", "[1, 2]\n", ["line 1"]),
        ("data.csv.gz", "no gzip", ["data.csv.gz"]),
        ("data.parquet", "no parquet", ["data.parquet"]),
        ("data.csv", b"timestamp,value\n1,\xff\n", ["UTF-8"]),
    ],
)
def test_data_that_cannot_be_used_ends_with_65_and_says_where(
    tmp_path: Path,
    config: Path,
    model: Path,
    name: str,
    content: str | bytes | None,
    words: list[str],
) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    if content is not None:
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    arguments = ("--config", config, "--model", model, "--out", "s.csv", "--data", name)
    line = refusal(detector("score", *arguments, cwd=tmp_path), 65)
    assert all(word in line for word in words), line


def test_publish_refuses_a_bad_row_with_65(tmp_path: Path, config: Path) -> None:
    bad = write_csv(tmp_path / "bad.csv", [("a", START_MS, 1.0), ("a", "noon", 1.0)])
    done = detector("publish", "--config", config, "--data", bad, cwd=tmp_path)
    assert "row 2" in refusal(done, 65)


def test_a_port_in_use_ends_with_78(tmp_path: Path, model: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        config = configured(tmp_path, http={"port": port}, log={"level": "error"})
        done = detector("run", "--config", config, "--model", model, cwd=tmp_path)
    assert f"http.port: cannot listen on 127.0.0.1:{port}" in refusal(done, 78)


def test_a_second_daemon_on_one_file_ends_with_69_and_is_pointed_to_kafka(
    tmp_path: Path, config: Path, model: Path
) -> None:
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        daemon.wait_ready()
        environment = {"DETECTOR_LOG__LEVEL": "error"}
        arguments = ("run", "--config", config, "--model", model)
        done = detector(*arguments, cwd=tmp_path, environment=environment)
        assert "transport: kafka" in refusal(done, 69)
        assert daemon.terminate() == 0


@pytest.mark.parametrize("command", ["publish", "alerts", "check", "dead-letters", "state"])
def test_a_broker_file_that_is_no_database_ends_with_69(
    tmp_path: Path, config: Path, data: Path, command: str
) -> None:
    (tmp_path / "broker.sqlite").write_text("no database" * 1000)
    extra = ("--data", data) if command == "publish" else ()
    done = detector(command, "--config", config, *extra, cwd=tmp_path)
    assert "not a database" in refusal(done, 69)


# -- what is loaded


WATCHED = """
import sys
from detector.cli import main
code = main(sys.argv[1:])
print("loaded:", *sorted({name.partition(".")[0] for name in sys.modules}))
raise SystemExit(code)
"""


def loaded(output: str) -> set[str]:
    return set(output.rpartition("loaded:")[2].split())


@pytest.mark.parametrize("command", ["score", "publish", "alerts", "dead-letters", "state"])
def test_a_command_loads_neither_tensorflow_nor_kafka(
    tmp_path: Path, config: Path, model: Path, data: Path, command: str
) -> None:
    extra: dict[str, tuple[str | Path, ...]] = {
        "score": ("--model", model, "--out", "s.csv", "--data", data),
        "publish": ("--data", data),
        "alerts": ("--from-beginning", "--exit"),
        "dead-letters": ("--json",),
        "state": ("show",),
    }
    done = subprocess.run(
        [sys.executable, "-c", WATCHED, command, "--config", config, *extra[command]],
        cwd=tmp_path, env=clean_environment(), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    names = loaded(succeeded(done))
    assert "detector" in names
    assert not names & (HEAVY | {"kafka"})


def test_the_daemon_loads_neither_tensorflow_nor_kafka(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    succeeded(detector("publish", "--config", config, "--data", data, cwd=tmp_path))
    command = (sys.executable, "-c", WATCHED)
    with RunningDaemon(config, model, cwd=tmp_path, command=command) as daemon:
        daemon.wait_ready()
        daemon.wait_accounted(ROWS)
        assert daemon.terminate() == 0
        names = loaded(daemon.output())
    assert {"detector", "onnxruntime", "prometheus_client"} <= names
    assert not names & (HEAVY | {"kafka"})


def test_alerts_piped_into_a_reader_that_leaves_end_quietly(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    succeeded(detector("publish", "--config", config, "--data", data, cwd=tmp_path))
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        daemon.wait_ready()
        daemon.wait_accounted(ROWS)
        assert daemon.terminate() == 0
    read_end, write_end = os.pipe()
    os.close(read_end)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "detector", "alerts", "--config", config, "--from-beginning",
             "--json"],
            cwd=tmp_path, env=clean_environment(), stdout=write_end, stderr=subprocess.PIPE,
            text=True, timeout=60, check=False,
        )  # fmt: skip
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")
