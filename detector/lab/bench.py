"""Speed and memory, measured beside the machine's own single-precision matrix product.

Machines are noisy: every figure is a median of several rounds, and the matrix product runs
between them, so that the ratio compares the same moments. One thread throughout.
"""

from __future__ import annotations

import dataclasses
import functools
import multiprocessing
import os
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from detector.artifact import Artifact, load_artifact
from detector.config import Config, load_config, parse_config
from detector.core.engine import open_session
from detector.core.ticks import TickBatch
from detector.errors import DetectorError, UsageError
from detector.lab.daemon_process import DaemonProcess, sum_samples
from detector.lab.demo import nanoseconds
from detector.lab.publishing import Pacer
from detector.model.architecture import Architecture
from detector.model.weights import random_network
from detector.service.wiring import make_broker, make_pipeline, prepare_topics
from detector.transport.broker import Message

Results = dict[str, Any]
_ROUNDS = 7
_BATCH = 256  # windows
_SERIES = 64
FIELDS = ("a", "b", "c", "d")
_LENGTH, _UNITS = 32, (32, 16)  # the reference model of docs/benchmarks.md


def scoring(config: Config, model: Path | None, ticks: int) -> Results:
    """Windows a second in batches, the time of one window, and both beside two ceilings: NumPy's
    matrix product, and ONNX Runtime on the network's layers alone."""
    with tempfile.TemporaryDirectory() as directory:
        artifact = artifact_of(model, Path(directory))
        scorer = artifact.open_scorer(threads=1)
    random = np.random.default_rng(0)
    shape = (_BATCH, artifact.length, len(artifact.features.names))
    windows = random.normal(0, 1, shape).astype(np.float32)
    flop = flop_per_window(artifact)
    calls = max(4, int(1e9 / (flop * _BATCH)))
    layers = layers_alone(artifact)
    rates, singles, matrix, ratios = [], [], [], []
    for _ in range(_ROUNDS):
        matrix.append(matrix_product_gflops())
        rates.append(_rate(lambda: scorer.errors(windows), calls))
        if layers:
            ratios.append(rates[-1] / _rate(layers, calls))
        for _ in range(300):
            started = time.perf_counter()
            scorer.errors(windows[:1])
            singles.append(time.perf_counter() - started)
    rate, ceiling = float(np.median(rates)), float(np.median(matrix)) * 1e9 / flop
    return {
        "kind": artifact.manifest["model"]["kind"],
        "window": f"{artifact.length} x {len(artifact.features.names)}",
        "mflop_per_window": round(flop / 1e6, 3),
        "one_window_ms_p50": round(float(np.median(singles)) * 1e3, 4),
        "one_window_ms_p99": round(float(np.percentile(singles, 99)) * 1e3, 4),
        "windows_per_s": round(rate),
        "gflops": round(rate * flop / 1e9, 1),
        "matrix_product_gflops": round(float(np.median(matrix)), 1),
        "matrix_product_windows_per_s": round(ceiling),
        "ratio_to_matrix_product": round(rate / ceiling, 3),
        "ratio_to_layers_alone": round(float(np.median(ratios)), 3) if ratios else None,
    }


def layers_alone(artifact: Artifact) -> Callable[[], Any] | None:
    """Runs a network as that of the artifact, without scaling and error, on a batch of windows;
    None where there is nothing to write the graph with."""
    try:
        from detector.model.export import layers_graph  # needs onnx
    except ModuleNotFoundError:
        return None
    one = Architecture.from_manifest(artifact.manifest)
    session = open_session(layers_graph(one, random_network(one)), threads=1)
    windows = np.random.default_rng(0).normal(0, 1, (one.length, _BATCH, one.features))
    windows = windows.astype(np.float32)
    if not one.recurrent:
        windows = windows.reshape(_BATCH, -1)
    return lambda: session.run(None, {"windows": windows})


def _rate(call: Callable[[], Any], calls: int) -> float:
    """Windows a second of calls with a batch each."""
    started = time.perf_counter()
    for _ in range(calls):
        call()
    return _BATCH * calls / (time.perf_counter() - started)


def pipeline(config: Config, model: Path | None, ticks: int) -> Results:
    """Ticks a second through the configured broker, then tick-to-alert at half that load. The
    daemon is a process of its own; topics are new ones."""
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = artifact_of(model, directory)
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
            half = rate / 2
            # Fifteen seconds at half the load, with a spike every fifth of a second.
            more = int(half * 15)
            delays_ms = measure_delays(bench, daemon, ticks, more, half)
            text = daemon.wait_accounted(ticks + more, 120)
        matrix += [matrix_product_gflops() for _ in range(3)]
        stages = {
            stage: round(_labelled(text, "detector_processing_seconds_sum", f'stage="{stage}"'), 2)
            for stage in ("poll", "decode", "process", "commit")
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


def memory(config: Config, model: Path | None, ticks: int) -> Results:
    """Resident bytes a series of 32 x 4 windows adds, at 100 000 series with full windows."""
    series, wave = 100_000, 5_000
    with tempfile.TemporaryDirectory() as directory:
        artifact = artifact_of(model, Path(directory))
        limits = dataclasses.replace(config.limits, max_series=series + 1)
        pipeline = make_pipeline(
            dataclasses.replace(
                config, features="auto", limits=limits, window=_window(config, artifact)
            ),
            artifact,
        )
    random = np.random.default_rng(0)
    fields = len(artifact.features.fields)

    def feed(names: Sequence[str], length: int) -> None:
        slot = pipeline.series.slots(0, names)
        for step in range(length):
            n = len(slot)
            pipeline.process(
                TickBatch(
                    slot=slot,
                    time_ns=np.full(n, step * 10**9, np.int64),
                    values=random.normal(1, 0.01, (n, fields)),
                    partition=np.zeros(n, np.int32),
                    offset=np.arange(step * n, (step + 1) * n),
                    index=np.zeros(n, np.int32),
                    received_ms=np.full(n, step * 1000, np.int64),
                )
            )

    feed(["first"], artifact.length)  # the engine's buffers, once
    base = _resident_bytes()
    for start in range(0, series, wave):
        feed([f"series-{i:08d}" for i in range(start, start + wave)], artifact.length)
    grown = _resident_bytes() - base
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
        artifact = artifact_of(model, directory)
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


def matrix_product_gflops(size: int = 1024) -> float:
    """Rate of a square float32 matrix product in NumPy's BLAS, one thread (see cli.py)."""
    a = _square(size)
    started = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * size**3 / (time.perf_counter() - started) / 1e9


@functools.cache
def _square(size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(0, 1, (size, size)).astype(np.float32)


def artifact_of(model: Path | None, directory: Path) -> Artifact:
    if model is not None:
        return load_artifact(model)
    try:
        from detector.model.reference import save_reference_model  # needs onnx
    except ModuleNotFoundError as error:
        raise DetectorError(
            f"the reference model needs {error.name}: pip install 'detector[train]', "
            "or name a model with --model"
        ) from None
    save_reference_model(directory / "model", fields=FIELDS, length=_LENGTH, units=_UNITS)
    return load_artifact(directory / "model")


def flop_per_window(artifact: Artifact) -> int:
    return Architecture.from_manifest(artifact.manifest).flops_per_window()


def _window(config: Config, artifact: Artifact) -> Any:
    return dataclasses.replace(config.window, length=artifact.length)


def bench_config(config: Config, directory: Path) -> Path:
    """The user's transport and delivery, with topics and files of our own."""
    stamp = f"bench-{os.getpid()}-{time.time_ns()}"
    tree: dict[str, Any] = {
        "transport": config.transport,
        "features": {f: f for f in FIELDS},
        "window": {"length": _LENGTH},
        # A score of 20 is far above the bench's noise and far below its spikes.
        "threshold": {"method": "fixed", "value": 20.0},
        "alerts": {"topic": f"{stamp}-alerts", "open_after": 1, "of_last": 1, "resolve_after": 8},
        "input": {"topic": f"{stamp}-ticks"},
        "dead_letters": {"topic": f"{stamp}-dead"},
        "state": {**dataclasses.asdict(config.state), "topic": f"{stamp}-state"},
        "delivery": dataclasses.asdict(config.delivery),
        "topics": dataclasses.asdict(config.topics),
        "embedded": {**dataclasses.asdict(config.embedded), "path": str(directory / "b.sqlite")},
        "kafka": {
            **dataclasses.asdict(config.kafka),
            "group": stamp,
            "transactional_id": stamp,
        },
        "http": {"port": 0},
    }
    parse_config(tree)
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    path.chmod(0o600)  # it may hold a password
    return path


def publish(config: Config, ticks: int, *, rate: float | None, spikes: bool, first: int) -> None:
    """Standard-normal ticks of 64 series in turn; a spike in one of them five times a second
    of stream time."""
    publisher = make_broker(config).publisher()
    pacer = Pacer(rate)
    random = np.random.default_rng(first)
    batch_size = 1000 if rate is None else max(1, int(rate / 100))
    spike_every = 0 if not spikes or rate is None else int(rate / 5)
    try:
        for start in range(0, ticks, batch_size):
            n = min(batch_size, ticks - start)
            values = random.normal(0, 1, (n, 4)).round(4).tolist()
            batch = []
            for i, row in enumerate(values, start + first):
                name = f"series-{i % _SERIES:02d}"
                if spike_every and i % spike_every == spike_every - 1:
                    row[0] = 1e6
                tick = {
                    "series": name,
                    "timestamp": i / 1000,
                    **dict(zip(FIELDS, row, strict=True)),
                }
                # The partition is given: hashing keys would cost the publisher a third more.
                batch.append(
                    Message(
                        name.encode(),
                        msgspec.json.encode(tick),
                        partition=i % _SERIES % config.topics.partitions,
                    )
                )
            pacer.wait(n)
            publisher.publish(config.input.topic, batch)
        publisher.flush()
    finally:
        publisher.close()


def watch(daemon: DaemonProcess, ticks: int) -> tuple[float, float]:
    """(ticks a second, CPU seconds) while the daemon works off what was published before."""
    samples: list[tuple[float, float]] = []
    deadline = time.monotonic() + 300
    cpu_before = sum_samples(daemon.get("/metrics") or "", "process_cpu_seconds_total")
    while time.monotonic() < deadline:
        text = daemon.get("/metrics") or ""
        seen = sum_samples(text, "detector_ticks_total")
        if seen > (samples[-1][1] if samples else 0):
            samples.append((time.monotonic(), seen))
        if seen >= ticks:
            cpu_s = sum_samples(text, "process_cpu_seconds_total") - cpu_before
            (t0, n0), (t1, n1) = samples[0], samples[-1]
            if len(samples) < 3:
                raise UsageError("too few ticks to measure a rate: raise --ticks")
            return (n1 - n0) / (t1 - t0), cpu_s
        time.sleep(0.1)
    raise DetectorError(f"only {seen:.0f} of {ticks} ticks were processed in 300 s")


def measure_delays(
    config: Config, daemon: DaemonProcess, first: int, ticks: int, rate: float
) -> list[float]:
    """From the broker's timestamp of the tick to a subscriber's sight of the alert, in ms."""
    reader = make_broker(config).reader(config.alerts.topic, from_beginning=False)
    # A process of its own: in one with the subscriber they would wait for each other's turn.
    publisher = multiprocessing.get_context("spawn").Process(
        target=publish,
        args=(config, ticks),
        kwargs={"rate": rate, "spikes": True, "first": first},
    )
    publisher.start()
    delays_ms = []
    try:
        while publisher.is_alive():
            for record in reader.poll(timeout_s=0.1):
                seen_ms = time.time() * 1e3
                event = msgspec.json.decode(record.value or b"")
                if event["data"]["state"] == "opened":
                    received_ms = nanoseconds(event["data"]["received_time"]) / 1e6
                    delays_ms.append(seen_ms - received_ms)
    finally:
        publisher.join()
        reader.close()
    if publisher.exitcode != 0:
        raise DetectorError(f"the publisher ended with {publisher.exitcode}")
    if not delays_ms:
        raise DetectorError("no alert came: the benchmark measured nothing")
    return delays_ms


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


def _resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()
