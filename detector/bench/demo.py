"""The demonstration: train, run the daemon, publish faults, read the alerts, count.

The quotes are a simulated market's, with normal bursts; the faults have stated strengths, from half
of what a series does itself at most to four times that.

It uses the commands a user would, in processes of their own, on an embedded broker in a
directory of its own. Every number comes from the alert topic as a subscriber reads it, except
the windows, which the metrics endpoint tells.
"""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec
import yaml

from detector.bench.verdict import Verdict, judge
from detector.clients.daemon_process import DaemonProcess, sum_samples
from detector.clients.pacer import Pacer
from detector.config import Config, environment_without_options, load_config
from detector.core.alerts import Alert
from detector.core.cloudevents import decode_alert
from detector.core.records import Message
from detector.data.simulate import FEATURES, Simulation, rows, simulate, write_csv
from detector.errors import DetectorError
from detector.model.directory import load_artifact
from detector.transport.configured import make_broker, prepare_topics

_BROKER = "demo.sqlite"
_SERIES = 8
_TRAINING_TICKS = 16_000  # a series
_LIVE_TICKS = 9_000  # a series
STRENGTHS = (0.5, 1.0, 2.0, 4.0)
_FAULTS_EACH = 3  # of each kind and strength
_RATE = 4_000.0  # ticks a second
_DRAIN_S = 60.0

Say = Callable[[str], None]
Show = Callable[[Alert], None]


@dataclass(slots=True)
class _Subscription:
    """Alerts as a subscriber sees them, with when it saw them."""

    seen: list[tuple[Alert, float]]
    stop: threading.Event
    failure: BaseException | None = None


def run_demo(directory: Path, *, seed: int, say: Say, show: Show) -> Verdict:
    """Run everything in `directory`. Raises DetectorError if a part fails."""
    started = time.monotonic()
    _begin_anew(directory)
    config_path = _write_config(directory)
    config = load_config(config_path, {})
    now_ns = time.time_ns()
    say(f"simulating a market: {_SERIES} series of normal ticks")
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
        faults_per_kind=_FAULTS_EACH,
        strengths=STRENGTHS,
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
            say(
                f"publishing {len(live)} ticks with {len(live.faults)} faults, "
                f"and {len(live.news)} bursts of news that are none"
            )
            _publish(config, live)
            metrics = daemon.wait_accounted(len(live), _DRAIN_S)
            windows = int(sum_samples(metrics, "detector_windows_scored_total"))
        finally:
            daemon.stop()  # commits the last alerts
            subscription.stop.set()
            follower.join()
    if subscription.failure is not None:
        raise subscription.failure
    return judge(
        live,
        subscription.seen,
        config,
        length=load_artifact(model).length,
        windows=windows,
        wall_s=time.monotonic() - started,
    )


def _begin_anew(directory: Path) -> None:
    """The topics of an earlier demo in this directory would be counted along."""
    directory.mkdir(parents=True, exist_ok=True)
    for ending in ("", "-wal", "-shm"):
        (directory / f"{_BROKER}{ending}").unlink(missing_ok=True)


def _write_config(directory: Path) -> Path:
    tree = {
        "transport": "embedded",
        "features": FEATURES,
        # max_seconds: two minutes for all on a busy machine too.
        "training": {
            "epochs": 8,
            "patience": 4,
            "windows_per_epoch": 16_000,
            "max_seconds": 50,
        },
        "threshold": {"method": "pot", "false_alarms_per_window": 1e-4},
        "embedded": {"path": str(directory / _BROKER)},
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
                    alert = decode_alert(record.value or b"").alert
                    subscription.seen.append((alert, seen_s))
                    show(alert)
                if ending and not records:
                    return
                ending = subscription.stop.is_set()  # then once more, for what came last
        finally:
            reader.close()
    except BaseException as error:  # noqa: BLE001 - carried to the main thread, raised there
        subscription.failure = error
