"""CPU time a tick by stage of the loop, while a daemon works off a backlog.

The daemon is put together as `detector run` does it, in a process of its own that does nothing
else: nobody scrapes it. A stage is charged the CPU time of the loop's thread inside it (the metric
detector_processing_cpu_seconds_total, of CLOCK_THREAD_CPUTIME_ID), so neither waiting nor what else
the machine does is counted. scoring is the part of process that the graph's calls take. rest is the
loop's thread outside of any stage, and other_threads all other threads: the Kafka client's, the
engine's where limits.threads is above 1, the watchdog's. total is the CPU time of the whole process
from the loop's start to its stop, joining included, by ticks; so of few ticks it is too much.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import threading
import time
from collections.abc import Mapping, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray
from prometheus_client import CollectorRegistry, generate_latest

from detector.bench.load import bench_config, publish
from detector.bench.machine import FIELDS, LENGTH, Results, model_to_measure
from detector.clients.daemon_process import by_label, sum_samples
from detector.config import Config, load_config
from detector.core.features import FeatureSet
from detector.core.graphs import Graph, Shape
from detector.engines import ENGINES, open_graph
from detector.errors import DetectorError, UsageError
from detector.model.directory import load_artifact
from detector.service.assembly import make_daemon
from detector.service.heap import share_one_heap
from detector.transport.configured import make_broker, prepare_topics

_DEADLINE_S = 300.0
_LOOK_EVERY_S = 0.2  # looking takes 2 ms of another thread


def stages(config: Config, model: Path | None, ticks: int) -> Results:
    """For the model, and for one that costs next to nothing (a dense layer of one unit, without
    views): what is left is the path of a tick."""
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        if artifact.features.fields != FIELDS:
            raise UsageError("bench stages runs the reference model only: leave out --model")
        models = {"model": artifact.path, "next to nothing": directory / "cheap"}
        _save_cheap(models["next to nothing"])
        found = {name: _of(config, path, directory, ticks) for name, path in models.items()}
    return {
        "broker": config.transport,
        "format": config.input.format,
        "ticks": ticks,
        "ticks_per_s": {name: rate for name, (rate, _) in found.items()},
        "cpu_us_per_tick": {name: by_stage for name, (_, by_stage) in found.items()},
    }


def _save_cheap(path: Path) -> None:
    try:
        from detector.model.reference import save_random_model  # needs onnx
    except ModuleNotFoundError as error:
        raise DetectorError(
            f"the model that costs nothing needs {error.name}: pip install 'detector[train]'"
        ) from None
    features = FeatureSet.of_fields(FIELDS)
    save_random_model(path, features, length=LENGTH, units=(1,), kind="dense")


def _of(config: Config, model: Path, directory: Path, ticks: int) -> tuple[int, Results]:
    path = bench_config(config, directory)
    bench = load_config(path, {})
    prepare_topics(bench, make_broker(bench))
    publish(bench, ticks, rate=None, spikes=False, first=0)
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=work_off, args=(bench, model, ticks, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        if not ours.poll(_DEADLINE_S):
            raise DetectorError(f"{ticks} ticks were not processed in {_DEADLINE_S:g} s")
        text, cpu_s, rate = ours.recv()
        process.join(_DEADLINE_S)
    except EOFError:
        raise DetectorError("the daemon of the benchmark ended early") from None
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()
    seen = sum_samples(text, "detector_ticks_total")
    return round(rate), per_tick(
        by_label(text, "detector_processing_cpu_seconds_total", "stage"), cpu_s, seen
    )


def per_tick(by_stage: Mapping[str, float], cpu_s: Mapping[str, float], ticks: float) -> Results:
    """Microseconds. cpu_s: of the whole process (total), of the loop's thread (loop), and of the
    graph's calls (scoring)."""
    rest = cpu_s["loop"] - sum(by_stage.values())
    seconds = {
        **by_stage,
        "of process: scoring": cpu_s["scoring"],
        "rest": rest,
        "other_threads": cpu_s["total"] - cpu_s["loop"],
        "total": cpu_s["total"],
    }
    return {name: round(value / ticks * 1e6, 2) for name, value in seconds.items()}


class TimedGraph:
    """A graph that adds up the CPU time of its caller's thread inside it."""

    def __init__(self, graph: Graph) -> None:
        self._graph, self.cpu_s = graph, 0.0
        self.engine, self.batch = graph.engine, graph.batch
        self.inputs: Mapping[str, Shape] = graph.inputs
        self.outputs: Mapping[str, Shape] = graph.outputs

    def run(self, outputs: Sequence[str], inputs: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        began_s = time.thread_time()
        try:
            return self._graph.run(outputs, inputs)
        finally:
            self.cpu_s += time.thread_time() - began_s


def work_off(config: Config, model: Path, ticks: int, pipe: Connection) -> None:
    """A process: the daemon's loop until it has accounted for that many ticks; sends the metrics,
    CPU seconds and ticks a second."""
    share_one_heap()
    graphs: list[TimedGraph] = []

    def timed(serialized: bytes, threads: int) -> Graph:
        graphs.append(TimedGraph(open_graph(serialized, threads=threads, engine=config.engine)))
        return graphs[-1]

    ENGINES["timed"] = timed
    ours: Any = replace(config, engine="timed")  # known to this process alone
    registry = CollectorRegistry()
    daemon = make_daemon(ours, load_artifact(model), make_broker(config), registry)
    for graph in graphs:
        graph.cpu_s = 0.0  # it was tried when it was opened
    seen: list[tuple[float, float]] = []

    def stop_when_done() -> None:
        while not seen or seen[-1][1] < ticks:
            time.sleep(_LOOK_EVERY_S)
            number = sum_samples(generate_latest(registry).decode(), "detector_ticks_total")
            if number > (seen[-1][1] if seen else 0):
                seen.append((time.monotonic(), number))
        daemon.stop()

    watching = threading.Thread(target=stop_when_done, daemon=True)
    total_s, loop_s = time.process_time(), time.thread_time()
    watching.start()
    daemon.run()
    cpu_s = {
        "total": time.process_time() - total_s,
        "loop": time.thread_time() - loop_s,
        "scoring": sum(graph.cpu_s for graph in graphs),
    }
    at_s, numbers = np.array(seen).T
    rate = 0.0 if len(seen) < 2 else (numbers[-1] - numbers[0]) / (at_s[-1] - at_s[0])
    pipe.send((generate_latest(registry).decode(), cpu_s, float(rate)))
