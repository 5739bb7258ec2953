"""Whether a second worker helps: one and two daemons work off the same kind of backlog.

Kafka only. The rate of two is measured from when both have processed something until one of them
has nothing left: joining and the leftovers of one are not counted. Broker and workers share this
machine's processors, so two workers on two processors cannot be twice as fast as one.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import yaml

from detector.bench.load import bench_config, publish
from detector.bench.machine import FIELDS, Results, model_to_measure
from detector.clients.daemon_process import DaemonProcess, sum_samples
from detector.config import Config, load_config
from detector.errors import DetectorError, UsageError
from detector.transport.configured import make_broker, prepare_topics

_ROUNDS = 3
_DEADLINE_S = 300.0
_LOOK_EVERY_S = 0.1

#: When, and what each worker had processed by then.
Look = tuple[float, Sequence[float]]


def workers(config: Config, model: Path | None, ticks: int) -> Results:
    """Ticks a second of one and of two workers, in turn, medians of three rounds."""
    if config.transport != "kafka" or config.topics.partitions < 2:
        raise UsageError("bench workers shares a topic of Kafka: --config with a Kafka, and "
                         "topics.partitions above 1")  # fmt: skip
    rates: dict[int, list[float]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        if artifact.features.fields != FIELDS:
            raise UsageError("bench workers runs the reference model only: leave out --model")
        for _ in range(_ROUNDS):
            for count, found in rates.items():
                found.append(_rate(config, artifact.path, directory, ticks, count))
    ratios = sorted(two / one for one, two in zip(rates[1], rates[2], strict=True))
    return {
        "broker": make_broker(config).describe(),
        "processors": os.cpu_count(),
        "partitions": config.topics.partitions,
        "ticks": ticks,
        "rounds": _ROUNDS,
        "one_worker_ticks_per_s": round(sorted(rates[1])[_ROUNDS // 2]),
        "two_workers_ticks_per_s": round(sorted(rates[2])[_ROUNDS // 2]),
        "two_beside_one": round(ratios[_ROUNDS // 2], 3),
    }


def _rate(config: Config, model: Path, directory: Path, ticks: int, count: int) -> float:
    first = bench_config(config, directory)
    bench = load_config(first, {})
    prepare_topics(bench, make_broker(bench))
    publish(bench, ticks, rate=None, spikes=False, first=0)
    paths = [_with_identity(first, number) for number in range(count)]
    with ExitStack() as stack:
        daemons = [
            stack.enter_context(DaemonProcess(path, model, path.with_suffix(".log")))
            for path in paths
        ]
        for daemon in daemons:
            daemon.wait_ready()
        looks: list[Look] = []
        deadline = time.monotonic() + _DEADLINE_S
        while not looks or sum(looks[-1][1]) < ticks:
            if time.monotonic() > deadline:
                raise DetectorError(f"{ticks} ticks were not processed in {_DEADLINE_S:g} s")
            texts = [daemon.get("/metrics") or "" for daemon in daemons]
            seen = [sum_samples(text, "detector_ticks_total") for text in texts]
            looks.append((time.monotonic(), seen))
            time.sleep(_LOOK_EVERY_S)
    return rate_while_all_work(looks)


def _with_identity(path: Path, number: int) -> Path:
    """The configuration of one worker of several."""
    tree: dict[str, Any] = yaml.safe_load(path.read_text())
    tree["kafka"]["transactional_id"] += f"-{number}"
    own = path.with_name(f"worker-{number}.yaml")
    own.write_text(yaml.safe_dump(tree))
    own.chmod(0o600)
    return own


def rate_while_all_work(looks: Sequence[Look]) -> float:
    """Ticks a second of all together, from the first look that finds each at work to the last one
    before one of them rests for good. Raises UsageError where that is no time."""
    last = [
        max((i for i in range(1, len(looks)) if looks[i][1][w] > looks[i - 1][1][w]), default=0)
        for w in range(len(looks[0][1]))
    ]
    first = next((i for i, (_, seen) in enumerate(looks) if min(seen) > 0), len(looks))
    end = min(last)
    if end - first < 2:
        raise UsageError("the workers had too little to do together: raise --ticks")
    (began_s, before), (ended_s, after) = looks[first], looks[end]
    return (sum(after) - sum(before)) / (ended_s - began_s)
