"""What the daemon takes: memory a series, and the time and memory of its start."""

from __future__ import annotations

import resource
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from detector.bench.load import bench_config
from detector.bench.machine import Results, model_to_measure
from detector.build import make_pipeline
from detector.clients.daemon_process import DaemonProcess, sum_samples
from detector.config import Config
from detector.core.ticks import TickBatch


def memory(config: Config, model: Path | None, ticks: int) -> Results:
    """Resident bytes a series of 32 x 4 windows adds, at 100 000 series with full windows."""
    series, wave = 100_000, 5_000
    with tempfile.TemporaryDirectory() as directory:
        artifact = model_to_measure(model, Path(directory))
        limits = replace(config.limits, max_series=series + 1)
        window = replace(config.window, length_ticks=artifact.length)
        pipeline = make_pipeline(
            replace(config, features="auto", limits=limits, window=window), artifact
        )
    random = np.random.default_rng(0)
    fields = len(artifact.features.fields)

    def feed(names: Sequence[str], length: int) -> None:
        n = len(names)
        for step in range(length):
            pipeline.process(
                TickBatch(
                    series=names,
                    time_ns=np.full(n, step * 10**9, np.int64),
                    values=random.normal(1, 0.01, (n, fields)),
                    partition=np.zeros(n, np.int32),
                    offset=np.arange(step * n, (step + 1) * n),
                    index=np.zeros(n, np.int32),
                    received_ms=np.full(n, step * 1000, np.int64),
                )
            )

    feed(["first"], artifact.length)  # the engine's buffers, once
    base = resident_bytes()
    for start in range(0, series, wave):
        feed([f"series-{i:08d}" for i in range(start, start + wave)], artifact.length)
    grown = resident_bytes() - base
    return {
        "series": pipeline.active_series(),
        "warming_series": pipeline.warming_series(),
        "base_mb": round(base / 1e6, 1),
        "bytes_per_series": round(grown / series),
    }


def startup(config: Config, model: Path | None, ticks: int) -> Results:
    """From starting `detector run` to /readyz, and the resident memory of the idle daemon."""
    seconds, resident = [], []
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        path = bench_config(config, directory)
        for _ in range(5):
            started = time.monotonic()
            with DaemonProcess(path, artifact.path, directory / "daemon.log") as daemon:
                daemon.wait_ready()
                seconds.append(time.monotonic() - started)
                time.sleep(1.0)  # idle: memory is read after start-up has settled
                text = daemon.get("/metrics") or ""
                resident.append(sum_samples(text, "process_resident_memory_bytes"))
    return {
        "broker": config.transport,
        "ready_s_median": round(float(np.median(seconds)), 2),
        "ready_s_worst": round(max(seconds), 2),
        "idle_resident_mb": round(float(np.median(resident)) / 1e6, 1),
    }


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
