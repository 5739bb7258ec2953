"""What the guarantees cost.

Variants are measured in turn, several rounds over, so that each sees the same moods of the
machine; medians are reported, and ratios within the run.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Literal

import numpy as np
from msgspec.structs import replace

from detector.bench.load import bench_config, measure_delays, publish, watch
from detector.bench.machine import Results, model_to_measure
from detector.clients.daemon_process import DaemonProcess, sum_samples
from detector.config import Config, load_config
from detector.errors import UsageError
from detector.transport.configured import make_broker, prepare_topics

Guarantee = Literal["exactly_once", "at_least_once"]
_ROUNDS = 3
_DELAY_S = 10
_DEADLINE_S = 120.0
_BASE = "at_least_once 100 ms"


def delivery(config: Config, model: Path | None, ticks: int) -> Results:
    """Throughput, tick-to-alert at one load for all, and state written, by guarantee and commit
    interval. Kafka only."""
    if config.transport != "kafka":
        raise UsageError("bench delivery compares guarantees of Kafka: --config with a Kafka")
    variants: list[tuple[Guarantee, int]] = [
        ("at_least_once", 100),
        ("exactly_once", 20),
        ("exactly_once", 100),
        ("exactly_once", 500),
    ]
    found: dict[str, list[dict[str, float]]] = {}
    load: float | None = None
    for _ in range(_ROUNDS):
        for guarantee, interval_ms in variants:
            delivery = replace(config.delivery, guarantee=guarantee, commit_interval_ms=interval_ms)
            variant = replace(config, delivery=delivery)
            measured = _one(variant, model, ticks, load)
            load = load or measured["ticks_per_s"] / 2
            found.setdefault(f"{guarantee} {interval_ms} ms", []).append(measured)
    result: Results = {"ticks": ticks, "rounds": _ROUNDS, "load_for_delay": round(load or 0)}
    median = {
        name: {key: float(np.median([one[key] for one in rounds])) for key in rounds[0]}
        for name, rounds in found.items()
    }
    for name, values in median.items():
        for key, value in values.items():
            result[f"{name}: {key}"] = round(value, 1)
        # Round by round, so that the machine's moods cancel out.
        shares = [
            one["ticks_per_s"] / other["ticks_per_s"]
            for one, other in zip(found[name], found[_BASE], strict=True)
        ]
        result[f"{name}: rate beside at_least_once"] = round(float(np.median(shares)), 3)
    return result


def _one(config: Config, model: Path | None, ticks: int, load: float | None) -> dict[str, float]:
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        path = bench_config(config, directory)
        bench = load_config(path, {})
        prepare_topics(bench, make_broker(bench))
        publish(bench, ticks, rate=None, spikes=False, first=0)
        with DaemonProcess(path, artifact.path, directory / "daemon.log") as daemon:
            daemon.wait_ready()
            rate, _ = watch(daemon, ticks)
            half = load or rate / 2
            more = int(half * _DELAY_S)
            before = daemon.get("/metrics") or ""
            started = time.monotonic()
            delays_ms = measure_delays(bench, daemon, ticks, more, half)
            text = daemon.wait_accounted(ticks + more, _DEADLINE_S)
            seconds = time.monotonic() - started
    written = sum_samples(text, "detector_state_bytes_total") - sum_samples(
        before, "detector_state_bytes_total"
    )
    return {
        "ticks_per_s": rate,
        "tick_to_alert_ms_p50": float(np.percentile(delays_ms, 50)),
        "tick_to_alert_ms_p99": float(np.percentile(delays_ms, 99)),
        "state_bytes_per_s": written / seconds,
    }
