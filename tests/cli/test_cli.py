"""Every command as a user runs it: a process of its own, on the embedded broker."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from detector.model.in_use import held
from tests.artifacts import make_artifact
from tests.cli.making import LENGTH, ROWS, START_MS, alerts, configured, score, write_csv
from tests.integration.commands import refusal, succeeded
from tests.processes import (
    RunningDaemon,
    by_label,
    clean_environment,
    detector,
    total,
    wait_for,
)

# -- publish, run, alerts


def test_ticks_published_become_alerts_and_sigterm_ends_the_daemon_with_0(
    tmp_path: Path, config: Path, model: Path, data: Path
) -> None:
    published = detector("publish", "--config", config, "--data", data, "--json", cwd=tmp_path)
    assert json.loads(succeeded(published)) == {"published": ROWS, "skipped": 0}
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
    assert alerts(config, "--to", "json") == alerts(config, "--json")
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
        assert by_time[event["series"], event["event_time"]] == str(event["score"])


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
    will_create = "; will create ticks, alerts, dead-letters, detector-state-commands"
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


@pytest.fixture
def of_evidence(tmp_path: Path) -> Path:
    make_artifact(tmp_path / "evidence", length=LENGTH, evidence=True)
    return tmp_path / "evidence"


def test_check_and_inspect_tell_how_many_alerts_to_expect(
    tmp_path: Path, model: Path, of_evidence: Path
) -> None:
    budget = {"method": "pot", "false_alarms_per_window": 0.1}
    plenty = configured(tmp_path, threshold=budget)
    check = ("check", "--config", plenty, "--offline", "--model")
    _, told, alerts = succeeded(detector(*check, of_evidence, cwd=tmp_path)).splitlines()
    assert "threshold 0.9" in told
    assert alerts.startswith("normal alerts: about ")
    assert ", extrapolated" not in alerts
    inspected = succeeded(detector("inspect", of_evidence, "--config", plenty, cwd=tmp_path))
    assert alerts.removeprefix("normal alerts: ") in inspected
    assert re.search(r"^  series +\d+ opened$", inspected, re.M), inspected
    earlier = succeeded(detector("inspect", model, cwd=tmp_path))
    assert "one trained anew, on ticks whose times differ, tells" in earlier


def test_a_budget_may_be_given_by_the_day(tmp_path: Path, model: Path, of_evidence: Path) -> None:
    thresholds = []
    for a_day in (1000, 10, 0.001):
        budget = {"method": "pot", "false_alarms_per_day": a_day, "fall_back": False}
        config = configured(tmp_path, threshold=budget)
        check = ("check", "--config", config, "--offline", "--model", of_evidence)
        told = succeeded(detector(*check, cwd=tmp_path))
        thresholds.append(float(re.findall(r"threshold ([0-9.]+)", told)[0]))
        said = float(re.findall(r"about ([0-9.e,-]+) a day", told)[0].replace(",", ""))
        assert a_day / 2 < said < a_day * 2
    assert thresholds == sorted(thresholds)
    assert thresholds[2] - thresholds[1] == pytest.approx(4, abs=0.3), "four decades rarer"
    check = ("check", "--config", config, "--offline", "--model", model)
    line = refusal(detector(*check, cwd=tmp_path), 78)
    assert "threshold.false_alarms_per_day" in line
    assert "train it again" in line


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
            *("--faults-per-kind", "1", "--faults-out", "faults.json", "--start", "2024-05-02T12"),
            cwd=tmp_path,
        )
        assert succeeded(done).endswith(f"6 faults: {name}\n")
    assert (tmp_path / "a.csv").read_bytes() == (tmp_path / "b.csv").read_bytes()
    assert len(json.loads((tmp_path / "faults.json").read_text())) == 6
    found = score(config, tmp_path / "model", tmp_path / "a.csv", out=tmp_path / "scores.csv")
    assert {r["series"] for r in found} == {"SIM000", "SIM001"}
    assert found[0]["timestamp"].startswith("2024-05-02T12:00:00.")


def test_faults_are_simulated_at_each_strength_that_is_asked_for(tmp_path: Path) -> None:
    asked = ("--faults-per-kind", "1", "--strength", "0.5", "4", "--ticks", "3000", "--series", "2")
    out = ("--out", "a.csv", "--faults-out", "f.json")
    assert "12 faults" in succeeded(detector("simulate", *out, *asked, cwd=tmp_path))
    faults = json.loads((tmp_path / "f.json").read_text())
    assert sorted(fault["strength"] for fault in faults) == [0.5] * 6 + [4.0] * 6


def test_a_rhythm_is_simulated_as_well(tmp_path: Path) -> None:
    asked = ("--rhythm", "--faults-per-kind", "1", "--ticks", "1500", "--start", "2024-01-01")
    out = ("--out", "a.csv", "--faults-out", "f.json")
    assert "6 faults" in succeeded(detector("simulate", *out, *asked, cwd=tmp_path))
    faults = json.loads((tmp_path / "f.json").read_text())
    assert {fault["strength"] for fault in faults} == {None}


def test_what_is_simulated_begins_now(tmp_path: Path) -> None:
    """So that ticks that are published later are not late."""
    before_s = int(time.time())
    succeeded(detector("simulate", "--out", "a.csv", "--ticks", "9", cwd=tmp_path))
    with (tmp_path / "a.csv").open() as file:
        first_s = float(next(csv.DictReader(file))["timestamp"])
    assert before_s <= first_s <= time.time() + 1


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--out", "no/where.csv"), "no/where.csv: No such file"),
        (("--out", "a.csv", "--faults-out", "no/where.json", "--ticks", "9"), "no/where.json: No"),
        (("--out", "a.csv", "--series", "0"), "--series must be at least 1"),
        (("--out", "a.csv", "--ticks", "0"), "--ticks must be at least 1"),
        (("--out", "a.csv", "--strength", "2", "0"), "--strength must be above 0"),
        (("--out", "a.csv", "--strength", "nan"), "--strength must be above 0"),
        (("--out", "a.csv", "--strength", "2", "--rhythm"), "not with --rhythm"),
        (("--out", "a.csv", "--faults-per-kind", "-1"), "--faults-per-kind must be at least 0"),
    ],
)
def test_what_cannot_be_simulated_is_refused(
    tmp_path: Path, arguments: Sequence[str], says: str
) -> None:
    assert says in refusal(detector("simulate", *arguments, cwd=tmp_path), 64)


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
    make_artifact(tmp_path / "trained", length=LENGTH)
    with held(tmp_path / "trained"):  # as a daemon does
        done = detector(
            *("train", "--config", config, "--data", data, "--out", "trained", "--json"),
            cwd=tmp_path,
        )
    assert done.returncode == 0, done.stderr
    assert done.stderr.startswith("note: a detector is running with the model in trained: it takes")
    assert len(done.stdout.splitlines()) == 1
    report = json.loads(done.stdout)
    assert report["ticks"] == 4000
    assert report["epochs"] == 1
    trained = tmp_path / "trained"
    manifest = json.loads(succeeded(detector("inspect", trained, "--json", cwd=tmp_path)))
    assert manifest["model_version"] == report["model_version"]
    found = score(config, trained, data, out=tmp_path / "scores.csv")
    assert [float(r["threshold"]) for r in found[:1]] == [pytest.approx(report["threshold"], 1e-4)]


# -- what is loaded


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
            text=True, timeout=120, check=False,
        )  # fmt: skip
    finally:
        os.close(write_end)
    assert (done.returncode, done.stderr) == (0, "")
