"""Ticks a second through the configured broker, then tick-to-alert at loads that are given and at
half of what it can."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np

from detector.bench.load import bench_config, measure_delays, publish, watch
from detector.bench.machine import (
    FIELDS,
    Results,
    flop_per_window,
    matrix_product_gflops,
    model_to_measure,
)
from detector.clients.daemon_process import DaemonProcess, sum_samples
from detector.config import Config, load_config
from detector.errors import UsageError
from detector.transport.configured import make_broker, prepare_topics

#: Ticks a second at which tick-to-alert is measured, and for how long: a spike every fifth of one.
_LOADS = (1000, 5000)
_SECONDS = 15


def pipeline(config: Config, model: Path | None, ticks: int) -> Results:
    """Ticks a second through the configured broker, then tick-to-alert at loads that are given and
    at half of that. The daemon is a process of its own; topics are new ones."""
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        if artifact.features.fields != FIELDS:
            raise UsageError("bench pipeline runs the reference model only: leave out --model")
        path = bench_config(config, directory)
        bench = load_config(path, {})
        broker = make_broker(bench)
        prepare_topics(bench, broker)
        matrix = [matrix_product_gflops() for _ in range(3)]
        publish(bench, ticks, rate=None, spikes=False, first=0)
        with DaemonProcess(path, artifact.path, directory / "daemon.log") as daemon:
            daemon.wait_ready()
            rate, cpu_s = watch(daemon, ticks)
            half, done = rate / 2, ticks
            at_load: Results = {}
            for load in (*_LOADS, half):
                more = int(load * _SECONDS)
                delays_ms = measure_delays(bench, daemon, done, more, load)
                done += more
                text = daemon.wait_accounted(done, 120)
                if load is not half:
                    at_load[f"tick_to_alert_ms_p50_p99_at_{load}"] = [
                        round(float(np.percentile(delays_ms, q)), 2) for q in (50, 99)
                    ]
        matrix += [matrix_product_gflops() for _ in range(3)]
        stages = {
            stage: round(_labelled(text, "detector_processing_seconds_sum", f'stage="{stage}"'), 2)
            for stage in ("poll", "decode", "process", "commit", "wait")
        }
    return {
        "broker": broker.describe() if config.transport == "kafka" else "embedded",
        "ticks": ticks,
        "ticks_per_s": round(rate),
        "cpu_us_per_tick": round(cpu_s / ticks * 1e6, 1),
        "matrix_product_gflops": round(float(np.median(matrix)), 1),
        "ratio_to_matrix_product": round(
            rate * flop_per_window(artifact) / (float(np.median(matrix)) * 1e9), 3
        ),
        **at_load,
        "load_for_delay_ticks_per_s": round(half),
        "alerts_measured": len(delays_ms),
        "tick_to_alert_ms_p50": round(float(np.percentile(delays_ms, 50)), 2),
        "tick_to_alert_ms_p99": round(float(np.percentile(delays_ms, 99)), 2),
        "committed_in_ms_p99": round(
            histogram_quantile(text, "detector_tick_to_alert_seconds", 0.99) * 1e3, 1
        ),
        "commit_ms_p50_p99": [
            round(histogram_quantile(text, "detector_commit_seconds", q) * 1e3, 1)
            for q in (0.5, 0.99)
        ],
        "stage_seconds": stages,
        "resident_mb": round(sum_samples(text, "process_resident_memory_bytes") / 1e6),
    }


def _labelled(exposition: str, name: str, label: str) -> float:
    return sum(
        float(line.rpartition(" ")[2])
        for line in exposition.splitlines()
        if line.startswith(name + "{") and label in line
    )


def histogram_quantile(exposition: str, name: str, q: float) -> float:
    """As Prometheus does it: linear within the bucket."""
    buckets = [
        (float(line.partition('le="')[2].partition('"')[0]), float(line.rpartition(" ")[2]))
        for line in exposition.splitlines()
        if line.startswith(name + "_bucket")
    ]
    rank = q * buckets[-1][1]
    low, below = 0.0, 0.0
    for bound, count in buckets:
        if count >= rank:
            if bound == float("inf"):
                return low
            return low + (bound - low) * (rank - below) / max(count - below, 1e-9)
        low, below = bound, count
    return low
