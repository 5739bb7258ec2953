"""The inference of market data that STAC-ML calls LSTM_A, on every engine.

Two LSTM layers of 100 units over a sliding window of 50 ticks of 100 features, of which the last
step counts (STAC-ML Markets (Inference), model LSTM_A). Here that is a network of kind last_step,
which gives the 100 features of the last tick where theirs gives one number: a thousandth more.
The figures of others are of audited machines, under STAC's own load generator: look at the order of
magnitude.
"""

from __future__ import annotations

import numpy as np

from detector.bench.contest import network_runners, peer_runners, row
from detector.bench.machine import Results
from detector.bench.rounds import in_rounds
from detector.core.scaling import Scaling
from detector.errors import DetectorError
from detector.model.family import Architecture
from detector.model.weights import random_network

LSTM_A = Architecture(length=50, features=100, units=(100, 100), kind="last_step")
_BATCH = 64  # windows: each is 18 of the reference model


def stac(rounds: int, *, peers: bool) -> Results:
    """Windows a second in batches and the time of one window, by engine, one thread."""
    serialized = unscaled_graph(LSTM_A)
    shape = (_BATCH, LSTM_A.length, LSTM_A.features)
    windows = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    runners = network_runners(serialized, windows)
    absent: dict[str, str] = {}
    if peers:
        others, absent = peer_runners(LSTM_A, serialized, windows)
        runners |= others
    found, matrix = in_rounds(runners, rounds)
    flop = LSTM_A.flops_per_window()
    ceiling = [gflops * 1e9 / flop for gflops in matrix]
    names = [name for name in found if not name.endswith(", 2 threads")]
    results: Results = {
        "window": f"{LSTM_A.length} x {LSTM_A.features}",
        "units": list(LSTM_A.units),
        "mflop_per_window": round(flop / 1e6, 3),
        "matrix_product_gflops": round(float(np.median(matrix)), 1),
        "rounds": rounds,
        "engines": {name: row(found, name, ceiling) for name in names},
    }
    return results | ({"absent": absent} if absent else {})


def unscaled_graph(architecture: Architecture) -> bytes:
    """The graph `scorer` of random weights, over features as they are. Raises DetectorError."""
    try:
        from detector.model.export import scorer_graph  # needs onnx
    except ModuleNotFoundError as error:
        raise DetectorError(
            f"the network is written with {error.name}: pip install 'detector[train]'"
        ) from None
    count = architecture.features
    scaling = Scaling(np.zeros(count), np.ones(count), 4.0)
    scale = np.ones((len(architecture.targets), count))
    return scorer_graph(architecture, random_network(architecture), scaling, scale)
