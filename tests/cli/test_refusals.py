"""Refusals: one line, and the exit code says whose fault it is."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.cli.making import LENGTH, START_MS, configured, write_csv
from tests.integration.commands import refusal
from tests.processes import (
    RunningDaemon,
    clean_environment,
    detector,
    wait_for,
    write_config,
)


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
        ("window: {lenght: 8}", ["window.lenght", "did you mean 'length_ticks'"]),
        ("windw: {length: 8}", ["windw", "did you mean 'window'"]),
        ("window: {length_ticks: many}", ["window.length_ticks", "a whole number", "'many'"]),
        ("window: {length_ticks: 1.5}", ["window.length_ticks", "a whole number"]),
        ("window: {length_ticks: 1}", ["window.length_ticks", "from 2 to"]),
        ("window: [8]", ["window", "section"]),
        ("log: {level: loud}", ["log.level", "debug, error"]),
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
        ({"DETECTOR_WINDOW__LENGTH_TICKS": "many"}, ["window.length_ticks"]),
        ({"DETECTOR_WINDOW__LENGHT": "8"}, ["window.lenght", "did you mean 'length_ticks'"]),
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
            manifest.read_text().replace('"schema_version": 1', '"schema_version": 3')
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
        ("score", "newer", "schema version 3"),
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
        (
            ["run"],
            {"window": {"length_ticks": 16}},
            ["windows of 8 ticks", "window.length_ticks is 16"],
        ),
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
            "window": {"length_ticks": LENGTH},
            "delivery": {"retry_timeout_s": 60},
            "kafka": {"bootstrap_servers": "127.0.0.1:9"},
            "http": {"port": 0},
        },
    )
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        wait_for(lambda: "serving address" in daemon.log(), "it has begun to start")
        assert daemon.terminate() == 0, daemon.log()


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
        done = detector(command, "--config", config, *extra.get(command, ()), cwd=tmp_path)
    line = refusal(done, 69)
    assert servers in line
    assert "kafka.bootstrap_servers" in line


def test_who_waits_for_a_broker_is_told_so(tmp_path: Path) -> None:
    config = configured(
        tmp_path,
        transport="kafka",
        kafka={"bootstrap_servers": "127.0.0.1:9"},
        delivery={"retry_timeout_s": 60},
    )
    with subprocess.Popen(
        [sys.executable, "-m", "detector", "alerts", "--config", config],
        stderr=subprocess.PIPE,
        env=clean_environment(),
        text=True,
    ) as process:
        try:
            assert process.stderr is not None
            line = process.stderr.readline()
            assert process.poll() is None, "it waits on"
            assert line == "Kafka at 127.0.0.1:9 does not answer; waiting up to 60 s\n"
        finally:
            process.kill()


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


def test_a_file_that_is_given_an_empty_name_is_refused(tmp_path: Path, config: Path) -> None:
    data = write_csv(tmp_path / "data.csv")
    data.write_text("timestamp,value\n1,2\n")
    arguments = ("train", "--config", config, "--data", "=data.csv", "--out", "m")
    assert "names no series" in refusal(detector(*arguments, cwd=tmp_path), 65)


def test_a_bad_row_is_named_counted_and_skipped_or_the_end(tmp_path: Path, config: Path) -> None:
    bad = write_csv(tmp_path / "bad.csv", [("a", START_MS, 1.0), ("a",), ("a", START_MS + 1, 1.0)])
    arguments = ("publish", "--config", config, "--data", bad)
    done = detector(*arguments, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "published 2 ticks to ticks, 1 rows skipped\n")
    assert "bad.csv: line 3 has 1 cells, the header 3" in done.stderr
    assert json.loads(detector(*arguments, "--json", cwd=tmp_path).stdout)["skipped"] == 1
    assert "line 3 has 1 cells" in refusal(detector(*arguments, "--strict", cwd=tmp_path), 65)


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


@pytest.mark.parametrize(
    "command",
    [("mute", "a*", "--for", "1h"), ("mute", "list"), ("unmute", "a"), ("state", "show")],
    ids=" ".join,
)
def test_who_asks_a_broker_that_nobody_has_made_is_told_so(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    done = detector(*command, cwd=tmp_path)
    assert done.returncode == 65
    assert "var/detector.sqlite: no such file seen from" in done.stderr
    assert list(tmp_path.iterdir()) == []
