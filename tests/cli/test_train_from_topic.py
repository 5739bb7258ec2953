"""A new model from what is in the topic, as a user asks for it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.artifacts import make_artifact
from tests.cli.making import LENGTH, START_MS, alerts, configured, write_csv
from tests.integration.commands import refusal, succeeded, trained_here
from tests.processes import RunningDaemon, detector

#: Of each of two series, with a fault in the first at each of these.
TICKS, FAULTS, FAULT_TICKS = 1500, (700, 1400), 20
TINY: dict[str, Any] = {
    "model": {"units": [4]},
    "training": {"epochs": 2, "batch_size": 64, "windows_per_epoch": 512, "xla": False},
    "threshold": {"method": "quantile", "false_alarms_per_window": 0.02, "value": None},
}


def rows() -> list[tuple[str, int, float]]:
    random = np.random.default_rng(5)
    table = []
    for n in range(TICKS):
        for series, lag in (("s0", 0), ("s1", 3)):
            value = float(np.sin((n + lag) / 4) * 0.3 + random.normal(0, 0.02))
            if series == "s0" and any(f <= n < f + FAULT_TICKS for f in FAULTS):
                value = 50.0
            table.append((series, START_MS + 10 * n, round(value, 6)))
    return table


def ms(moment: str) -> int:
    return round(float(np.datetime64(moment.removesuffix("Z"), "us").astype(np.int64)) / 1000)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A topic of ticks, one of them broken, that a daemon with the model in old has judged."""
    directory = tmp_path_factory.mktemp("topic")
    config = configured(directory, **TINY)
    make_artifact(directory / "old", length=LENGTH, seed=1)
    data = write_csv(directory / "live.csv", [*rows(), ("s0", START_MS + 10**6, "broken")])
    succeeded(detector("publish", "--config", config, "--data", data, cwd=directory))
    with RunningDaemon(config, directory / "old", cwd=directory) as daemon:
        daemon.wait_ready()
        daemon.wait_accounted(2 * TICKS + 1)
        assert daemon.terminate() == 0
    return directory


def expected_left_out(config: Path) -> tuple[int, int]:
    """Ticks and alerts, counted from what the alert topic shows."""
    events = [json.loads(line)["data"] for line in alerts(config, "--json").splitlines()]
    opened = {e["alert_id"]: e for e in events if e["state"] == "opened"}
    ends = {e["alert_id"]: ms(e["event_time"]) for e in events if e["state"] == "resolved"}
    gone = set()
    for identity, event in opened.items():
        times = [t for series, t, _ in rows() if series == event["series"]]
        first = times.index(ms(event["opened_time"])) - LENGTH
        end = ends.get(identity, times[-1])
        gone |= {(event["series"], t) for t in times[max(0, first) :] if t <= end}
    return len(gone), len(opened)


@pytest.mark.training
def test_a_model_is_trained_on_the_topic_without_its_alerts_and_compared(place: Path) -> None:
    config = place / "config.yaml"
    arguments = ("train", "--config", config, "--from-topic", "--compare", "old", "--out", "new")
    done = trained_here(*arguments, "--json", cwd=place)
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    topic, left_out = report["topic"], report["topic"]["left_out"]
    ticks, episodes = expected_left_out(config)
    assert episodes >= len(FAULTS)
    assert (left_out["ticks"], left_out["incidents"]) == (ticks, episodes)
    assert report["ticks"] == left_out["whole"] == 2 * TICKS
    assert report["outcomes"]["accepted"] == 2 * TICKS
    assert (topic["unusable"], topic["unjudged"]) == ({"wrong_type": 1}, 0)
    assert "left out, no ticks that can be used: 1 wrong_type" in done.stderr
    assert "that flatters the model that alerted" in done.stderr

    comparison = topic["comparison"]
    assert comparison["refused"] is None
    assert comparison["budget"] == 0.02
    assert comparison["series"] == 2
    old, new = comparison["old"], comparison["new"]
    assert new["model_version"] == report["model_version"] != old["model_version"]
    assert old["windows"] == new["windows"] > 300
    assert (old["incidents"], new["incidents"]) == (comparison["incidents"],) * 2
    assert new["highest_score"] >= new["mean_score"] > 0

    manifest = json.loads((place / "new" / "manifest.json").read_text())
    assert manifest["training"]["withheld"] == ticks
    assert [file["name"] for file in manifest["training"]["files"]] == ["ticks-0"]
    # 50 is far from everything that was learned.
    assert abs(manifest["scaling"]["center"][0]) < 1
    assert manifest["scaling"]["scale"][0] < 5
    # The daemon's offsets are where they were, and the new model runs.
    checked = detector("check", "--config", config, "--model", "new", cwd=place)
    assert checked.returncode == 0, checked.stderr


@pytest.mark.training
def test_the_report_is_a_table_and_the_old_model_may_be_replaced(place: Path) -> None:
    config = place / "config.yaml"
    make_artifact(place / "in-use", length=LENGTH, seed=1)
    version = json.loads((place / "in-use" / "manifest.json").read_text())["model_version"]
    arguments = ("--from-topic", "--compare", "in-use", "--out", "in-use")
    done = trained_here("train", "--config", config, *arguments, cwd=place)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    ticks, episodes = expected_left_out(config)
    (left_out,) = (line for line in lines if line.startswith("left out"))
    assert f"{ticks} ticks" in left_out
    assert left_out.endswith(f"in {episodes} alerts")
    (models,) = (line for line in lines[lines.index("") :] if line.startswith("model"))
    assert models.split()[2] == version, "the one that was there"
    assert any(line.startswith("above it (budget 2 %)") for line in lines)
    again = json.loads((place / "in-use" / "manifest.json").read_text())["model_version"]
    assert models.split()[1] == again != version


@pytest.mark.training
def test_without_a_topic_of_alerts_everything_is_learned_from(tmp_path: Path) -> None:
    data = write_csv(tmp_path / "live.csv", rows())
    config = configured(tmp_path, **TINY)
    succeeded(detector("publish", "--config", config, "--data", data, cwd=tmp_path))
    config = configured(tmp_path, **TINY, features="auto", alerts={"topic": "none-yet"})
    done = trained_here(
        *("train", "--config", config, "--from-topic", "--out", "new", "--json"), cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["features"] == ["value"]
    assert (report["topic"]["alerts"], report["topic"]["left_out"]["ticks"]) == (False, 0)
    assert "there is no topic none-yet yet: nothing was left out" in done.stderr
    assert f"no detector has judged the last {2 * TICKS} records of ticks" in done.stderr


def test_what_cannot_be_is_refused_in_a_line(tmp_path: Path) -> None:
    config = configured(tmp_path)
    command = ("train", "--config", config, "--out", "new")

    def refused(*options: str, code: int) -> str:
        return refusal(detector(*command, *options, cwd=tmp_path), code)

    assert "has no topic ticks (input.topic)" in refused("--from-topic", code=69)
    assert "no model directory there" in refused("--from-topic", "--compare", "old", code=65)
    assert "--compare is for --from-topic" in refused("--data", "x", "--compare", "old", code=64)
    assert "not allowed with" in refused("--data", "x", "--from-topic", code=64)
    assert "one of the arguments --data --from-topic is required" in refused(code=64)
    data = write_csv(tmp_path / "live.csv")
    succeeded(detector("publish", "--config", config, "--data", data, cwd=tmp_path))
    assert "holds no ticks" in refused("--from-topic", "--since", "2030-01-01", code=65)
    assert "--limit must be at least 1" in refused("--from-topic", "--limit", "0", code=64)
    assert not (tmp_path / "new").exists()
