"""The examples do what they say, and nothing that they do not."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

import detector
from detector.clients.publish import Feed, publish
from detector.config import parse_config
from detector.core.cloudevents import decode_alert
from detector.data.sources import DataFile
from detector.data.tables import refuse
from detector.transport.configured import make_broker
from tests.kafka_broker import KafkaBroker
from tests.processes import clean_environment, wait_for

EXAMPLES = Path(__file__).parents[2] / "docs" / "examples"
BUDGET = {"threshold": {"false_alarms_per_window": 1e-5}}
TRAINING = ("tensorflow", "keras", "onnx", "scipy", "kafka")


def test_the_notebook_runs_without_the_training_tools(tmp_path: Path) -> None:
    """In an environment of its own: `make examples`."""
    shutil.copytree(EXAMPLES, tmp_path / "examples")
    notebook = json.loads((EXAMPLES / "notebook.ipynb").read_text())
    code = ["".join(c["source"]) for c in notebook["cells"] if c["cell_type"] == "code"]
    assert all(not c["outputs"] for c in notebook["cells"] if c["cell_type"] == "code")
    blocked = "\n".join(f"sys.modules[{name!r}] = None" for name in TRAINING)
    program = "\n".join(["import sys", blocked, *code])
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=tmp_path / "examples",
        env=clean_environment() | {"MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "the same to the last bit: True" in done.stdout


# -- Quix Streams


@contextmanager
def operator(broker: KafkaBroker, name: str, directory: Path) -> Iterator[subprocess.Popen[bytes]]:
    with (directory / "operator.log").open("ab") as log:
        process = subprocess.Popen(
            [
                *(sys.executable, str(EXAMPLES / "quix_operator.py")),
                *("--broker", broker.bootstrap_servers, "--model", str(EXAMPLES / "model")),
                *("--ticks", f"{name}-ticks", "--alerts", f"{name}-alerts", "--group", name),
            ],
            cwd=directory,
            env=clean_environment(),
            stderr=log,
        )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait(60)


class States(dict[str, dict[str, bytes]]):
    """Quix' store: what each key has written."""

    def of(self, key: str) -> Any:
        mine = self.setdefault(key, {})
        return SimpleNamespace(get_bytes=mine.get, set_bytes=mine.__setitem__)


def test_the_operator_says_the_same_whenever_it_starts_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Series that are quiet for months, more keys than there is room for in memory at once, and
    ticks that are none: each key has the alerts it would have alone."""
    path = EXAMPLES / "quix_operator.py"
    spec = importlib.util.spec_from_file_location("quix_operator", path)
    assert spec is not None
    assert spec.loader is not None
    example: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    offset = 0
    monkeypatch.setattr(example, "message_context", lambda: SimpleNamespace(offset=offset))
    config = {
        "threshold": {"method": "fixed", "value": 2.0, "cold_windows": 0},
        "limits": {"max_series": 3},
    }

    def tick(series: str, number: int) -> dict[str, Any]:
        day = number + (200 if series == "k0" and number >= 40 else 0)
        return {"timestamp": day * 86400.0, "bid": 1.0, "ask": 1.01, "volume": 1.0, "x": "y"}

    ticks = [(f"k{key}", tick(f"k{key}", number)) for number in range(60) for key in range(6)]
    ticks.insert(100, ("k1", {"bid": 1.0, "ask": 1.0}))
    ticks.insert(200, ("k2", {**tick("k2", 33), "bid": None}))

    def run(restart_every: int) -> dict[str, list[Any]]:
        nonlocal offset
        states, found = States(), dict[str, list[Any]]()
        for offset, (series, one) in enumerate(ticks):
            if offset % restart_every == 0:
                operator = example.Operator(str(EXAMPLES / "model"), config)
            said = operator(one, series.encode(), 0, None, states.of(series))
            found.setdefault(series, []).extend(json.loads(event)["data"] for event in said)
            assert operator.detector.series == []
        for events in found.values():
            for event in events:
                del event["detected_time"]
        return found

    whole = run(10_000)
    assert all(whole[f"k{key}"] for key in range(6))
    assert not any(event.get("reason") for events in whole.values() for event in events)
    assert run(7) == whole


@pytest.mark.kafka
def test_in_a_stream_of_quix_no_alert_is_lost_or_repeated(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    """Killed in the middle, it says what the library says of the whole."""
    name = f"quix-{uuid.uuid4().hex[:8]}"
    config = parse_config(
        {
            "transport": "kafka",
            "input": {"topic": f"{name}-ticks"},
            "alerts": {"topic": f"{name}-alerts"},
            "topics": {"partitions": 2},
            "kafka": {"bootstrap_servers": kafka.bootstrap_servers, "group": name},
        }
    )
    data = tmp_path / "quotes.csv"
    simulate = (
        "simulate",
        "--rhythm",
        "--seed",
        "8",
        "--ticks",
        "700",
        "--faults-per-kind",
        "1",
        "--start",
        "2024-01-01",
    )
    subprocess.run(
        [sys.executable, "-m", "detector", *simulate, "--out", str(data)],
        check=True,
        env=clean_environment(),
        stdout=subprocess.DEVNULL,
    )
    quotes = pd.read_csv(data)
    expected = detector.load(EXAMPLES / "model", config=BUDGET).update(quotes).alerts
    assert len(expected) > 4

    publish(
        config, [Feed(DataFile(data, "x"))], fields=None, rate=None, sent=lambda _: None,
        wrong=refuse,
    )  # fmt: skip
    reader: Any = make_broker(config).reader(config.alerts.topic, from_beginning=True)
    found: list[detector.Alert] = []

    def read() -> int:
        found.extend(decode_alert(r.value or b"").alert for r in reader.poll(timeout_s=0.2))
        return len(found)

    with operator(kafka, name, tmp_path) as first:
        wait_for(lambda: read() >= 2, "the first alerts")
        os.kill(first.pid, signal.SIGKILL)
        first.wait(60)
    with operator(kafka, name, tmp_path):
        wait_for(lambda: read() >= len(expected), "the others")
        for _ in range(10):  # and no more of them
            read()
    reader.close()

    def said(alerts: list[detector.Alert]) -> list[tuple[Any, ...]]:
        return sorted((a.series, a.time_ns, a.state.name, a.score, a.severity.name) for a in alerts)

    assert said(found) == said(expected)
    assert len({a.id for a in found}) == len(found)
