"""Real quotes of two venues through a real Kafka, with the example configuration as shipped."""

from __future__ import annotations

import json
import uuid
from collections import Counter
from pathlib import Path

import pytest
import yaml

from tests.artifacts import make_artifact
from tests.kafka_broker import KafkaBroker
from tests.processes import RunningDaemon, by_label, detector, total

pytestmark = pytest.mark.kafka

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / "deploy" / "examples" / "nzdusd-quotes.yaml"
QUOTES = ROOT.parent / "shared" / "data" / "ticks"
VENUES = ("oanda", "fxcm")
ROWS = 20_000  # of each venue


@pytest.fixture
def data() -> list[str]:
    paths = {venue: QUOTES / f"nzdusd-{venue}-quotes.csv.gz" for venue in VENUES}
    if not all(path.exists() for path in paths.values()):
        pytest.skip("no quotes in ../shared/data/ticks beside the repository")
    return [f"{venue}={path}" for venue, path in paths.items()]


def test_every_real_quote_is_accounted_for_as_offline_scoring_does(
    kafka: KafkaBroker, tmp_path: Path, data: list[str]
) -> None:
    shipped = yaml.safe_load(CONFIG.read_text())
    model = tmp_path / "model"
    # Random weights, but features and scale as they are: scores are of the usual size.
    make_artifact(model, shipped["features"], length=shipped["window"]["length_ticks"])
    name = f"quotes-{uuid.uuid4().hex[:12]}"
    environment = {
        "DETECTOR_INPUT__TOPIC": f"{name}-ticks",
        "DETECTOR_ALERTS__TOPIC": f"{name}-alerts",
        "DETECTOR_DEAD_LETTERS__TOPIC": f"{name}-dead",
        "DETECTOR_KAFKA__BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "DETECTOR_KAFKA__GROUP": name,
        "DETECTOR_KAFKA__TRANSACTIONAL_ID": name,
        "DETECTOR_HTTP__PORT": "0",
    }
    limit = ("--limit", str(ROWS))

    def run(command: str, *arguments: str | Path) -> str:
        done = detector(
            *(command, "--config", CONFIG, *arguments), cwd=tmp_path, environment=environment
        )
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout

    published = json.loads(run("publish", "--data", *data, *limit, "--json"))
    assert published == {"published": len(VENUES) * ROWS, "skipped": 0}
    with RunningDaemon(CONFIG, model, cwd=tmp_path, environment=environment) as daemon:
        daemon.wait_ready()
        metrics = daemon.wait_accounted(len(VENUES) * ROWS)
        assert daemon.terminate() == 0

    outcomes = by_label(metrics, "detector_ticks_total", "outcome")
    assert sum(outcomes.values()) == len(VENUES) * ROWS
    scored = ("--model", model, "--out", tmp_path / "scores.csv")
    report = json.loads(run("score", *scored, "--data", *data, *limit, "--json"))
    assert outcomes == {k: v for k, v in report["outcomes"].items() if v}
    assert total(metrics, "detector_alerts_total", state="opened") == report["alerts"] > 0
    lines = run("alerts", "--from-beginning", "--exit", "--json").splitlines()
    events = [json.loads(line) for line in lines]
    assert len({event["id"] for event in events}) == len(events)
    assert Counter(event["data"]["state"] for event in events)["opened"] == report["alerts"]
