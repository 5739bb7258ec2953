"""How soon a worker stands where another fell."""

from __future__ import annotations

import signal
import tempfile
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from detector.bench.load import bench_config, publish
from detector.bench.machine import FIELDS, Results, model_to_measure
from detector.build import make_pipeline
from detector.clients.daemon_process import DaemonProcess, sum_samples
from detector.config import Config, load_config
from detector.core.records import Message
from detector.core.state import VERSION, WATERMARK_KEY, StateCodec, Watermark, series_key
from detector.core.ticks import TickBatch
from detector.errors import UsageError
from detector.model.directory import Artifact
from detector.transport.configured import deployment, make_broker, prepare_topics, topics

_ROUNDS = 3
_KEEP_AT_ONCE = 5_000
_DEADLINE_S = 120.0


def recovery(config: Config, model: Path | None, ticks: int) -> Results:
    """Time to restore 10 000 and 100 000 series; on Kafka also fail-over after SIGKILL and
    hand-over after SIGTERM between two workers of 10 000 series each, under load."""
    results: Results = {"broker": config.transport}
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        for series in (10_000, 100_000):
            path = bench_config(config, directory)
            bench = load_config(path, {})
            prepare_topics(bench, make_broker(bench))
            size = _save_state(bench, artifact, series)
            seconds, ready_s = [], []
            for _ in range(_ROUNDS):
                started = time.monotonic()
                with DaemonProcess(path, artifact.path, directory / "daemon.log") as daemon:
                    daemon.wait_ready(_DEADLINE_S)
                    ready_s.append(time.monotonic() - started)
                    text = daemon.get("/metrics") or ""
                    seconds.append(sum_samples(text, "detector_state_restore_seconds"))
                    restored = sum_samples(text, "detector_restored_series_total")
                    assert restored == series, restored
            results[f"restore_s {series} series"] = round(float(np.median(seconds)), 2)
            results[f"start_to_ready_s {series} series"] = round(float(np.median(ready_s)), 2)
            results[f"state_bytes_per_series {series} series"] = round(size / series)
        if config.transport == "kafka":
            results |= _fail_over(config, artifact, directory)
    return results


def _save_state(config: Config, artifact: Artifact, series: int) -> int:
    """Commit the state of that many series with full windows; its bytes."""
    pipeline = make_pipeline(config, artifact)
    codec, random = StateCodec(pipeline), np.random.default_rng(0)
    keeper = make_broker(config).keeper(topics(config))
    size = 0
    try:
        partitions = sorted(keeper.standing())
        share = {p: range(i, series, len(partitions)) for i, p in enumerate(partitions)}
        for partition, numbers in share.items():
            names = [f"series-{i:06d}" for i in numbers]
            n = len(names)
            for step in range(artifact.length):
                pipeline.process(
                    TickBatch(
                        series=names,
                        time_ns=np.full(n, step * 10**9, np.int64),
                        values=random.normal(0, 1, (n, len(FIELDS))),
                        partition=np.full(n, partition, np.int32),
                        offset=np.zeros(n, np.int64),
                        index=np.arange(n, dtype=np.int32),
                        received_ms=np.full(n, step * 1000, np.int64),
                    )
                )
            slots = pipeline.stream.series.slots(partition, names)
            for start in range(0, len(names), _KEEP_AT_ONCE):
                part = slots[start : start + _KEEP_AT_ONCE]
                state = pipeline.snapshot(part)
                messages = [
                    Message(series_key(name), value, partition=partition)
                    for (_, name), value in zip(
                        state.series,
                        codec.encode(state, np.zeros(len(part), np.int64)),
                        strict=True,
                    )
                ]
                mark = Watermark(
                    version=VERSION,
                    committed=0,
                    needed_from=0,
                    event_ns=pipeline.event_ns(partition),
                    group=deployment(config).group,
                    alerts=deployment(config).alerts,
                    model=artifact.version,
                )
                messages.append(Message(WATERMARK_KEY, mark.encode(), partition=partition))
                keeper.replace(messages, {partition: 0})
                size += sum(len(m.value or b"") + len(m.key or b"") for m in messages)
    finally:
        keeper.close()
    return size


def _fail_over(config: Config, artifact: Artifact, directory: Path) -> Results:
    """Two workers share a topic of 10 000 series; one is killed, then one is stopped."""
    detected, restored, handed = [], [], []
    for end in (signal.SIGKILL, signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGTERM):
        path = bench_config(config, directory)
        bench = load_config(path, {})
        prepare_topics(bench, make_broker(bench))
        _save_state(bench, artifact, 10_000)
        second = _other_worker(path)
        log = directory / f"second-{time.monotonic_ns()}.log"
        first = DaemonProcess(path, artifact.path, directory / f"{log.stem}-first.log")
        with DaemonProcess(second, artifact.path, log) as stays:
            stays.wait_ready(_DEADLINE_S)
            first.__enter__()
            try:
                first.wait_ready(_DEADLINE_S)
                _wait_partitions(log, bench.topics.partitions // 2)
                publish(bench, 2_000, rate=1_000, spikes=False, first=0)
                seen = len(log.read_text())
                began = time.time()
                first.end(end)
                gained, done = _gained(log, seen)
            finally:
                first.end(signal.SIGKILL)
        if end == signal.SIGKILL:
            detected.append(gained - began)
            restored.append(done - gained)
        else:
            handed.append(done - began)
    return {
        "session_timeout_s": config.kafka.session_timeout_ms / 1000,
        "fail_over_detection_s": round(float(np.median(detected)), 2),
        "fail_over_restore_s": round(float(np.median(restored)), 2),
        "hand_over_s": round(float(np.median(handed)), 2),
    }


def _other_worker(path: Path) -> Path:
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    tree["kafka"]["transactional_id"] += "-second"
    other = path.with_name("second.yaml")
    other.write_text(yaml.safe_dump(tree))
    other.chmod(0o600)
    return other


def _lines(log: Path, after: int) -> Iterator[tuple[float, str]]:
    """Lines of a daemon's log with their time, seconds since the epoch."""
    for line in log.read_text()[after:].splitlines():
        stamp, _, rest = line.partition(" ")
        try:
            yield datetime.fromisoformat(stamp).timestamp(), rest
        except ValueError:
            continue


def _wait_partitions(log: Path, most: int) -> None:
    """Until the worker has given up partitions and holds at most so many."""
    deadline = time.monotonic() + _DEADLINE_S
    while not any("lost=[" in r and "lost=[]" not in r for _, r in _lines(log, 0)):
        if time.monotonic() > deadline:
            raise UsageError(
                "the second worker got no partition: topics.partitions must be above 1"
            )
        time.sleep(0.05)


def _gained(log: Path, after: int) -> tuple[float, float]:
    """When the partitions of the other came, and when the last of them was restored."""
    deadline = time.monotonic() + _DEADLINE_S
    while time.monotonic() < deadline:
        lines = list(_lines(log, after))
        gained = [
            at for at, rest in lines if "partitions changed" in rest and "gained=[]" not in rest
        ]
        ready = [at for at, rest in lines if rest.startswith("info    ready")]
        if gained and ready and ready[-1] >= gained[-1]:
            return gained[0], ready[-1]
        time.sleep(0.05)
    raise UsageError("nobody took over within two minutes")
