"""Windows a second in batches and the time of one, by engine, beside the machine's own matrix
product."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from detector.bench.contest import asking, engines, peer_runners, row, two_threads
from detector.bench.machine import Results, flop_per_window, model_to_measure
from detector.bench.rounds import Measured, Runner, in_rounds
from detector.bench.stac import unscaled_graph
from detector.config import Config
from detector.core.graphs import Graph
from detector.core.scaling import Scaling
from detector.core.ticks import Float32
from detector.engines import open_graph
from detector.engines.tensors import UnknownGraphError
from detector.model.directory import Artifact
from detector.model.weights import random_network

_BATCH = 256  # windows


def scoring(config: Config, model: Path | None, rounds: int, *, peers: bool) -> Results:
    """Of the configured engine: windows a second in batches and the time of one window, beside two
    ceilings, NumPy's matrix product and ONNX Runtime on the network's layers alone; what the views
    cost in shares of the network's own time. Then every engine that can run here, and with peers
    what else runs the network."""
    with tempfile.TemporaryDirectory() as directory:
        artifact = model_to_measure(model, Path(directory))
    shape = (_BATCH, artifact.length, len(artifact.features.names))
    windows = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    graph = artifact.files["scorer.onnx"]
    configured = open_graph(graph, threads=1, engine=config.engine).engine.name
    runners = _engine_runners(artifact, windows)
    parts = parts_of(artifact, config.engine)
    runners |= {f"part {name}": replace(part, windows=windows) for name, part in parts.items()}
    layers = layers_alone(artifact)
    if layers is not None:
        runners["layers"] = layers
    absent: dict[str, str] = {}
    others: list[str] = []
    if peers:
        network = unscaled_graph(artifact.architecture)
        found, absent = peer_runners(artifact.architecture, network, windows)
        runners, others = runners | found, list(found)
    measured, matrix = in_rounds(runners, rounds)
    flop, product = flop_per_window(artifact), float(np.median(matrix))
    ceiling = [gflops * 1e9 / flop for gflops in matrix]
    table = {name: _row(measured, name, ceiling) for name in engines() if name in measured}
    own = table[configured]
    results: Results = {
        "engine": configured,
        "kind": artifact.manifest["model"]["kind"],
        "window": f"{artifact.length} x {len(artifact.features.names)}",
        "mflop_per_window": round(flop / 1e6, 3),
        "one_window_ms_p50": own["one_window_ms_p50"],
        "one_window_ms_p99": own["one_window_ms_p99"],
        "windows_per_s": own["windows_per_s"],
        "gflops": round(own["windows_per_s"] * flop / 1e9, 1),
        "matrix_product_gflops": round(product, 1),
        "matrix_product_windows_per_s": round(product * 1e9 / flop),
        "ratio_to_matrix_product": own["ratio_to_matrix_product"],
        "ratio_to_layers_alone": _ratio(measured, configured, "layers"),
        "rounds": rounds,
    }
    results |= _shares(measured, configured, list(parts))
    results["engines"] = table
    if others:
        results["peers, the network alone"] = {
            name: _prefixed(row(measured, name, ceiling)) for name in others
        }
    return results | ({"absent": absent} if absent else {})


def _engine_runners(artifact: Artifact, windows: Float32) -> dict[str, Runner]:
    """By NAME what a score asks of the graph, by "NAME, 2 threads" the same, by "NAME, network" the
    errors alone. The native engine computes only what it is asked for, of the model's own graph;
    ONNX Runtime computes all of a graph, and is given one of the network alone where it can be
    written."""
    graph, found = artifact.files["scorer.onnx"], {}
    for name, opened in engines().items():
        try:
            one, two = (opened(graph, threads=threads) for threads in (1, 2))
        except UnknownGraphError:
            continue
        seen = _asked(one)
        found[name] = Runner(asking(one, seen), windows)
        found[f"{name}, 2 threads"] = two_threads(two, seen, windows)
        alone: Graph | None = one
        if name == "onnxruntime" and len(seen) > 1:
            written = _network_alone(artifact)
            alone = None if written is None else opened(written, threads=1)
        if alone is not None:
            found[f"{name}, network"] = Runner(asking(alone, ["errors"]), windows)
    return found


def _asked(graph: Graph) -> list[str]:
    return ["errors", "views"] if "views" in graph.outputs else ["errors"]


def _row(measured: Mapping[str, Measured], name: str, ceiling: list[float]) -> Results:
    figures = row(measured, name, ceiling)
    alone = f"{name}, network"
    if alone in measured:
        figures["ratio_to_network"] = _ratio(measured, alone, name)
        figures |= _prefixed(row(measured, alone, ceiling))
    return figures


def _prefixed(figures: Results) -> Results:
    return {f"network_{name}": value for name, value in figures.items() if name != "cores"} | {
        "cores": figures["cores"]
    }


def _ratio(measured: Mapping[str, Measured], above: str, below: str) -> float | None:
    """Of two rates, the median over the rounds; of times it is the other way around."""
    if above not in measured or below not in measured:
        return None
    first, second = (np.array(measured[name].rates) for name in (above, below))
    return round(float(np.median(first / second)), 3)


def _shares(measured: Mapping[str, Measured], name: str, parts: list[str]) -> Results:
    """Of the time of the network alone: what all takes, and what each view adds."""
    network = f"{name}, network"
    whole = _ratio(measured, network, name)
    found: Results = {} if whole is None else {"ratio_to_network": whole}
    for part in parts:
        ratio = _ratio(measured, network, f"part {part}")
        if ratio is not None:
            found[f"{part}_share"] = round(ratio - 1, 3)
    return found


def parts_of(artifact: Artifact, engine: str) -> dict[str, Runner]:
    """Where there is something to write graphs with, the same network with one group of views each,
    on an engine; nothing for a model without views. Their windows are filled in later."""
    try:
        from detector.model.export import scorer_graph  # needs onnx
        from detector.model.views import VIEWS, Normal
    except ModuleNotFoundError:
        return {}
    if artifact.score != "evidence":
        return {}
    one, scaling = artifact.architecture, Scaling.from_json(artifact.manifest["scaling"])
    network, scale = random_network(one), np.ones((len(one.targets), one.features))
    random = np.random.default_rng(0)
    windows = random.normal(0, 1, (1024, one.length, one.features)).astype(np.float32)
    last = None if one.last_ticks is None else np.square(windows[:, -1])
    found = {}
    for fit in VIEWS:
        graph = scorer_graph(one, network, scaling, scale, fit(Normal(windows, last)))
        opened = open_graph(graph, threads=1, engine=engine)
        name = fit.__module__.rpartition(".")[2]
        found[name] = Runner(asking(opened, _asked(opened)), windows[:0], one_window=False)
    return found


def _network_alone(artifact: Artifact) -> bytes | None:
    try:
        from detector.model.export import scorer_graph  # needs onnx
    except ModuleNotFoundError:
        return None
    one, scaling = artifact.architecture, Scaling.from_json(artifact.manifest["scaling"])
    return scorer_graph(
        one, random_network(one), scaling, np.ones((len(one.targets), one.features))
    )


def layers_alone(artifact: Artifact) -> Runner | None:
    """ONNX Runtime on a network as that of the artifact, without scaling and error; None where
    there is nothing to write the graph with."""
    try:
        from detector.model.export import layers_graph  # needs onnx
    except ModuleNotFoundError:
        return None
    one = artifact.architecture
    layers = open_graph(layers_graph(one, random_network(one)), threads=1, engine="onnxruntime")
    windows = np.random.default_rng(0).normal(0, 1, (one.length, _BATCH, one.features))
    windows = windows.astype(np.float32)
    if not one.recurrent:
        windows = windows.reshape(_BATCH, -1)
    run = partial(layers.run, list(layers.outputs), {"windows": windows})
    return Runner(lambda _: run(), np.empty(_BATCH, np.float32), one_window=False)
