"""The engines that can run here beside each other and the matrix product, and beside what else
runs the same network on a CPU."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import numpy as np

from detector.bench.machine import Results
from detector.bench.rounds import Measured, Runner
from detector.core.graphs import Graph
from detector.core.ticks import Float32
from detector.engines import open_graph
from detector.engines.native import NativeGraph, instruction_sets
from detector.engines.tensors import UnknownGraphError
from detector.errors import UsageError
from detector.model.family import Architecture

#: Threads of the figure that is called two_threads.
_TWO = 2
Open = Callable[..., Graph]


def engines() -> dict[str, Open]:
    """(serialized graph, threads=) -> a graph, by the name that graph gives its engine: the native
    one on every instruction set of this processor, and ONNX Runtime."""
    found: dict[str, Open] = {
        f"native ({one})": partial(NativeGraph, instructions=one) for one in instruction_sets()
    }
    return found | {"onnxruntime": partial(open_graph, engine="onnxruntime")}


def asking(graph: Graph, outputs: list[str]) -> Callable[[Float32], Any]:
    return lambda windows: graph.run(outputs, {"windows": windows})


def network_runners(serialized: bytes, windows: Float32) -> dict[str, Runner]:
    """Of every engine that knows the graph: "NAME" on one thread and "NAME, 2 threads", asked for
    nothing but the errors."""
    found = {}
    for name, opened in engines().items():
        try:
            one, two = (opened(serialized, threads=n) for n in (1, _TWO))
        except UnknownGraphError:
            continue  # the native engine does not know it: its place in the table stays empty
        found[name] = Runner(asking(one, ["errors"]), windows)
        found[f"{name}, 2 threads"] = two_threads(two, ["errors"], windows)
    return found


def two_threads(graph: Graph, outputs: list[str], windows: Float32) -> Runner:
    """Twice the windows in a call: as many a thread as one alone has."""
    return Runner(asking(graph, outputs), np.concatenate([windows] * _TWO), one_window=False)


def peer_runners(
    architecture: Architecture, serialized: bytes, windows: Float32
) -> tuple[dict[str, Runner], dict[str, str]]:
    """What else is installed that runs the same network, each on one thread, and why others are
    absent. The graph's network is random_network(architecture), unscaled. Raises UsageError where
    a peer says something else of the windows than ONNX Runtime does."""
    from detector.model.peers import peers  # TensorFlow: where somebody asks for it

    found, absent = peers(architecture, serialized)
    graph = open_graph(serialized, threads=1, engine="onnxruntime")
    (expected,) = graph.run(["errors"], {"windows": windows})
    for name, call in found.items():
        if not np.allclose(call(windows), expected, rtol=1e-3, atol=1e-4):
            raise UsageError(f"{name} runs another network: its errors are others")
    return {name: Runner(call, windows) for name, call in found.items()}, absent


def row(found: Mapping[str, Measured], name: str, ceiling: list[float]) -> Results:
    """The figures of one. ceiling: windows a second of the matrix product, by round."""
    one, two = found[name], found.get(f"{name}, 2 threads")
    figures: Results = {
        "windows_per_s": round(one.rate),
        "ratio_to_matrix_product": round(float(np.median(np.array(one.rates) / ceiling)), 3),
        **one.one_window_ms(),
        "cores": round(float(np.median(one.cores)), 2),
    }
    if two is not None:
        figures["two_threads_windows_per_s"] = round(two.rate)
    return figures
