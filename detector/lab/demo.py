"""The demonstration: train, run the daemon, publish faults, read the alerts, count.

It uses the commands a user would, in processes of their own, on an embedded broker in a
directory of its own. Every number comes from the alert topic as a subscriber reads it, except
the windows, which the metrics endpoint tells.
"""

from __future__ import annotations

import csv
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from detector.config import Config, environment_without_options, load_config
from detector.errors import DetectorError
from detector.lab.daemon_process import DaemonProcess, sum_samples
from detector.lab.evaluate import EventScore, OpenedAlert, score_events
from detector.lab.publishing import Pacer
from detector.lab.simulate import FEATURES, FIELDS, Simulation, rows, simulate
from detector.service.wiring import make_broker, prepare_topics
from detector.transport.broker import Message, Record

_SERIES = 8
_TRAINING_TICKS = 7_000  # a series
_LIVE_TICKS = 9_000  # a series
_FAULTS_PER_KIND = 4
_RATE = 4_000.0  # ticks a second
_DRAIN_S = 60.0

Say = Callable[[str], None]
Show = Callable[[dict[str, Any], float], None]


@dataclass(frozen=True, slots=True)
class DemoResult:
    ticks: int
    windows: int
    alerts_opened: int
    injected: int
    detected: int
    precision: float | None
    recall: float | None
    false_alarms_per_100k_windows: float | None
    tick_to_alert_ms: dict[str, float | None]
    wall_s: float
    by_kind: dict[str, str]


@dataclass(slots=True)
class _Subscription:
    """Alerts as a subscriber sees them, with when it saw them."""

    seen: list[tuple[dict[str, Any], float]]
    stop: threading.Event
    failure: BaseException | None = None


def run_demo(directory: Path, *, seed: int, say: Say, show: Show) -> DemoResult:
    """Run everything in `directory`. Raises DetectorError if a part fails."""
    started = time.monotonic()
    config_path = _write_config(directory)
    config = load_config(config_path, {})
    now_ns = time.time_ns()
    say(f"simulating {_SERIES} series of normal ticks")
    normal = simulate(
        series=_SERIES,
        ticks_per_series=_TRAINING_TICKS,
        faults_per_kind=0,
        seed=seed,
        start_ns=now_ns - 3600 * 10**9,
    )
    data = directory / "normal.csv"
    write_csv(normal, data)
    say("training an LSTM autoencoder on them")
    model = directory / "model"
    _command(["train", "--config", config_path, "--data", data, "--out", model])
    live = simulate(
        series=_SERIES,
        ticks_per_series=_LIVE_TICKS,
        faults_per_kind=_FAULTS_PER_KIND,
        seed=seed + 1,
        start_ns=now_ns,
    )
    broker = make_broker(config)
    prepare_topics(config, broker)
    subscription = _Subscription([], threading.Event())
    follower = threading.Thread(target=_follow, args=(config, subscription, show))
    with DaemonProcess(config_path, model, directory / "daemon.log") as daemon:
        daemon.wait_ready()
        say(f"the daemon is ready; its metrics are at {daemon.address}/metrics")
        follower.start()
        try:
            say(f"publishing {len(live)} ticks with {len(live.faults)} faults")
            _publish(config, live)
            metrics = daemon.wait_accounted(len(live), _DRAIN_S)
            windows = int(sum_samples(metrics, "detector_windows_scored_total"))
        finally:
            daemon.stop()  # commits the last alerts
            subscription.stop.set()
            follower.join()
    if subscription.failure is not None:
        raise subscription.failure
    return _result(live, windows, subscription.seen, config, time.monotonic() - started)


def write_csv(simulation: Simulation, path: Path) -> None:
    """series,timestamp,bid,ask,volume,label; label is 1 in a fault."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["series", "timestamp", *FIELDS, "label"])
        for row, fault in zip(rows(simulation), simulation.fault.tolist(), strict=True):
            writer.writerow([*row.values(), int(fault > 0)])


def _write_config(directory: Path) -> Path:
    directory.mkdir(parents=True, exist_ok=True)
    tree = {
        "transport": "embedded",
        "features": FEATURES,
        "training": {"epochs": 8, "patience": 4, "windows_per_epoch": 16_000},
        "threshold": {"method": "pot", "false_alarms_per_window": 1e-5},
        "embedded": {"path": str(directory / "demo.sqlite")},
        "http": {"port": 0},
    }
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(tree, sort_keys=False))
    return path


def _command(arguments: Sequence[str | Path]) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "detector", *arguments],
        stdout=sys.stderr,
        env=environment_without_options(),
    )
    if done.returncode != 0:
        raise DetectorError(f"`detector {arguments[0]}` ended with {done.returncode}")


def _publish(config: Config, live: Simulation) -> None:
    publisher = make_broker(config).publisher()
    pacer = Pacer(_RATE)
    batch: list[Message] = []
    try:
        for row in rows(live):
            batch.append(Message(str(row["series"]).encode(), msgspec.json.encode(row)))
            if len(batch) == 20:
                pacer.wait(len(batch))
                publisher.publish(config.input.topic, batch)
                batch = []
        publisher.publish(config.input.topic, batch)
        publisher.flush()
    finally:
        publisher.close()


def _follow(config: Config, subscription: _Subscription, show: Show) -> None:
    try:
        reader = make_broker(config).reader(config.alerts.topic, from_beginning=True)
        try:
            ending = False
            while True:
                records = reader.poll(timeout_s=0.2)
                for record in records:
                    seen_s = time.time()
                    alert = _alert(record)
                    subscription.seen.append((alert, seen_s))
                    show(alert, seen_s)
                if ending and not records:
                    return
                ending = subscription.stop.is_set()  # then once more, for what came last
        finally:
            reader.close()
    except BaseException as error:  # noqa: BLE001 - carried to the main thread, raised there
        subscription.failure = error


def _alert(record: Record) -> dict[str, Any]:
    event: dict[str, Any] = msgspec.json.decode(record.value or b"")
    return event


def _result(
    live: Simulation,
    windows: int,
    seen: list[tuple[dict[str, Any], float]],
    config: Config,
    wall_s: float,
) -> DemoResult:
    opened = [e["data"] for e, _ in seen if e["data"]["state"] == "opened"]
    score: EventScore = score_events(
        live.faults,
        [OpenedAlert(d["series"], nanoseconds(d["event_time"])) for d in opened],
        # A window still holds a fault until length ticks, at 20 a second, have passed.
        aftermath_ns=int((config.window.length + config.alerts.of_last) * 0.05 * 1.2 * 1e9),
    )
    delays_ms = [
        seen_s * 1e3 - nanoseconds(e["data"]["received_time"]) / 1e6
        for e, seen_s in seen
        if e["data"]["state"] == "opened"
    ]
    by_kind: dict[str, list[bool]] = {}
    for fault, found in zip(live.faults, score.found, strict=True):
        by_kind.setdefault(fault.kind, []).append(found)
    return DemoResult(
        ticks=len(live),
        windows=windows,
        alerts_opened=score.alerts,
        injected=score.injected,
        detected=score.detected,
        precision=score.precision,
        recall=score.recall,
        false_alarms_per_100k_windows=score.false_alarms / windows * 1e5 if windows else None,
        tick_to_alert_ms={
            f"p{p}": round(float(np.percentile(delays_ms, p)), 2) if delays_ms else None
            for p in (50, 99)
        },
        wall_s=round(wall_s, 1),
        by_kind={kind: f"{sum(f)} of {len(f)}" for kind, f in sorted(by_kind.items())},
    )


def nanoseconds(moment: str) -> int:
    """Our own RFC 3339 form (core.cloudevents.rfc3339) back to nanoseconds."""
    whole, _, fraction = moment.removesuffix("Z").partition(".")
    seconds = int(datetime.fromisoformat(whole).replace(tzinfo=UTC).timestamp())
    return seconds * 10**9 + int(fraction)
