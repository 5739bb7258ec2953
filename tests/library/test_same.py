"""The same ticks through the library, `detector score` and the daemon on both brokers: the same
scores to the last bit, and the same alerts, whole."""

from __future__ import annotations

import csv
import io
import threading
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

import detector
from detector.clients.publish import Feed, publish
from detector.config import Config, parse_config
from detector.core.cloudevents import decode_alert, encode_alert
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.ticks import TickBatch
from detector.data.sources import DataFile
from detector.data.tables import refuse
from detector.model.directory import load_artifact
from detector.offline.score import score_files
from detector.service.assembly import make_daemon
from detector.transport.configured import make_broker, prepare_topics
from tests.artifacts import make_artifact, with_classifier
from tests.kafka_broker import KafkaBroker
from tests.processes import wait_for

LENGTH, TICKS = 6, 3000
START_S = 1_700_000_000


@dataclass(frozen=True, slots=True)
class Ticks:
    series: list[str]
    time_s: list[float]
    value: list[float | None]

    def write(self, path: Path) -> Path:
        with path.open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["series", "timestamp", "value"])
            writer.writerows(zip(self.series, self.time_s, self.value, strict=True))
        return path


def all_sorts() -> Ticks:
    """Three series in turn: spikes, gaps, late and repeated ticks, values that are none, a series
    that falls silent and one that leaves."""
    random = np.random.default_rng(5)
    series, time_s, value = [], [], []
    now_s = float(START_S)
    for n in range(TICKS):
        now_s += 400.0 if n in (700, 1900) else 0.25
        name = "abc"[n % 3] if not 900 < n < 1500 else "ab"[n % 2]
        late_s = 100.0 if n % 97 == 0 else 0.0
        series.append("gone" if n < 40 else name)
        time_s.append(now_s - late_s)
        spike = 40.0 * (n % 200 > 190)
        value.append(None if n % 113 == 0 else float(random.normal(spike, 0.3)))
        if n % 50 == 0:
            series.append(series[-1])
            time_s.append(time_s[-1])
            value.append(value[-1])
    return Ticks(series, time_s, value)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    with_classifier(make_artifact(path, {"v": "value", "d": "diff(value)"}, length=LENGTH), "xy")
    return path


def tree(name: str, **sections: Any) -> dict[str, Any]:
    return {
        "features": {"v": "value", "d": "diff(value)"},
        "window": {"length_ticks": LENGTH, "max_gap_s": 60.0, "silence_s": 100.0},
        "threshold": {"method": "quantile", "false_alarms_per_window": 0.2},
        "alerts": {"topic": f"{name}-alerts", "open_after": 2, "of_last": 3, "resolve_after": 3},
        "dead_letters": {"topic": f"{name}-dead"},
        "state": {"topic": f"{name}-state"},
        "delivery": {"commit_interval_ms": 20, "max_poll_records": 77},
        "limits": {"forget_after_s": 600.0},
        "topics": {"partitions": 1},
        "input": {"topic": f"{name}-ticks", "max_future_s": None},
        **sections,
    }


def timeless(alert: detector.Alert) -> bytes:
    return encode_alert(replace(alert, received_ms=-1), source="here", detected_ns=0)


@dataclass(frozen=True, slots=True)
class Said:
    """Scores by tick and alerts without the two times that are of the run."""

    scores: list[float]
    alerts: list[bytes]


def same(one: Sequence[float], other: Sequence[float]) -> None:
    np.testing.assert_array_equal(np.array(one).view(np.int64), np.array(other).view(np.int64))


@contextmanager
def overheard() -> Iterator[dict[int, float]]:
    """The score of each tick of any pipeline of this process, by its offset."""
    found: dict[int, float] = {}
    process = Pipeline.process

    def listen(self: Pipeline, batch: TickBatch) -> BatchResult:
        result = process(self, batch)
        found.update(zip(batch.offset.tolist(), result.score.tolist(), strict=True))
        return result

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Pipeline, "process", listen)
        yield found


def library(config: dict[str, Any], model: Path, ticks: Ticks, size: int) -> Said:
    found = detector.load(model, config=config)
    parts = []
    for at in range(0, len(ticks.series), size):
        rows = slice(at, at + size)
        parts.append(found.update(ticks.series[rows], ticks.time_s[rows], ticks.value[rows]))
    assert sum(sum(p.counts().values()) for p in parts) == len(ticks.series)
    scores = np.concatenate([p.score for p in parts]).tolist()
    return Said(scores, [timeless(a) for p in parts for a in p.alerts])


def offline(config: Config, model: Path, data: Path) -> list[float]:
    out = io.StringIO()
    score_files(config, load_artifact(model), [DataFile(data, "x")], out, read=lambda _: None)
    out.seek(0)
    return [float(row["score"] or "nan") for row in csv.DictReader(out)]


def daemon(config: Config, model: Path, data: Path, ticks: int) -> Said:
    broker = make_broker(config)
    prepare_topics(config, broker)
    feed = Feed(DataFile(data, "x"))
    publish(config, [feed], fields=None, rate=None, sent=lambda _: None, wrong=refuse)
    with overheard() as scores:
        running = make_daemon(config, load_artifact(model), broker, CollectorRegistry())
        thread = threading.Thread(target=running.run)
        thread.start()
        try:
            # A value that is none never becomes a tick here: the codec refuses it.
            wait_for(lambda: ticks - 1 in scores, "the last tick is scored")
        finally:
            running.stop()
            thread.join(120)
    reader = make_broker(config).reader(config.alerts.topic, from_beginning=True)
    alerts = []
    while not reader.at_end():
        alerts += [timeless(decode_alert(r.value or b"").alert) for r in reader.poll(timeout_s=0.2)]
    reader.close()
    return Said([scores.get(n, float("nan")) for n in range(ticks)], alerts)


@pytest.fixture
def configured(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    name = f"same-{uuid.uuid4().hex[:8]}"
    if request.param == "embedded":
        return tree(name, embedded={"path": str(tmp_path / "b.sqlite"), "synchronous": "normal"})
    broker: KafkaBroker = request.getfixturevalue("kafka")
    servers = {"bootstrap_servers": broker.bootstrap_servers, "group": name}
    return tree(name, transport="kafka", kafka=servers | {"transactional_id": name})


@pytest.mark.parametrize(
    "configured",
    ["embedded", pytest.param("kafka", marks=pytest.mark.kafka)],
    indirect=True,
)
def test_library_scoring_and_daemon_say_the_same(
    configured: dict[str, Any], model: Path, tmp_path: Path
) -> None:
    ticks = all_sorts()
    data, config = ticks.write(tmp_path / "data.csv"), parse_config(configured)
    whole = library(configured, model, ticks, size=len(ticks.series))
    assert len(whole.alerts) > 20
    kinds = {decode_alert(a).alert.kind for a in whole.alerts}
    assert kinds == {"reconstruction_error", "silence"}
    assert any(decode_alert(a).alert.fault for a in whole.alerts)
    assert any(decode_alert(a).alert.reason for a in whole.alerts)
    for said in (
        library(configured, model, ticks, size=1),
        library(configured, model, ticks, size=333),
        daemon(config, model, data, len(ticks.series)),
    ):
        same(said.scores, whole.scores)
        assert said.alerts == whole.alerts
    same(offline(config, model, data), whole.scores)
