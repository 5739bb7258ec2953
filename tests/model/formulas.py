"""Every network of the family written down from its formulas, in float64 and step by step."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.scaling import Scaling
from detector.model.family import Architecture, Target
from detector.model.weights import DecoderWeights, DenseWeights, LstmWeights, NetworkWeights

Array = NDArray[np.float64]


def architectures(length: int, features: int) -> dict[str, Architecture]:
    """Every kind with every option that it takes, by a name to read in a test's report."""

    def made(units: tuple[int, ...] = (6, 4), **options: Any) -> Architecture:
        return Architecture(length, features, units, **options)

    cases = {
        "reconstruction": made(),
        "reconstruction, one layer": made((5,)),
        "reconstruction, deep": made((7, 5, 3)),
        "reconstruction, wide": made((32, 16)),
        "sequence": made(kind="sequence"),
        "sequence, one layer": made((2,), kind="sequence"),
        "last_step": made(kind="last_step"),
        "last_step, one layer": made((5,), kind="last_step"),
        "dense": made(kind="dense"),
        "dense, one layer": made((5,), kind="dense"),
        "dense, deep": made((12, 7, 3), kind="dense"),
    }
    for kind in ("reconstruction", "prediction", "composite"):
        for horizon in (1, 2, length - 1) if kind != "reconstruction" else (1,):
            for order in ("forward", "reversed"):
                for conditioned in (False, True):
                    name = f"{kind}, horizon {horizon}, {order}, {conditioned=}"
                    options: dict[str, Any] = {"target_order": order, "conditioned": conditioned}
                    cases[name] = made(kind=kind, horizon=horizon, **options)
    cases["reconstruction, deep, conditioned"] = made((7, 5, 3), conditioned=True)
    cases["composite, of the prediction mostly"] = made(
        kind="composite", horizon=3, prediction_weight=0.9
    )
    relu = {
        f"{name}, relu": made(case.units, activation="relu", **_options(case))
        for name, case in cases.items()
    }
    return cases | relu


def _options(case: Architecture) -> dict[str, Any]:
    names = ("kind", "horizon", "target_order", "conditioned", "prediction_weight")
    return {name: getattr(case, name) for name in names}


def scaled(x: NDArray[Any], scaling: Scaling) -> Array:
    z: Array = scaling.squash * np.arcsinh((x - scaling.center) / scaling.scale / scaling.squash)
    return z


def encoding(network: NetworkWeights, z: Array) -> Array:
    """(n, steps, features) -> (n, units[-1])."""
    hidden = z
    for layer in network.encoder:
        hidden = lstm(hidden, layer)
    return hidden[:, -1]


def outputs(
    architecture: Architecture, network: NetworkWeights, z: Array, *, taught: bool = False
) -> list[Array]:
    """What each decoder says of scaled windows, in its own order of time: (n, steps, features).
    taught: conditioned decoders read the true previous tick, else their own."""
    if architecture.kind == "dense":
        flat = z.reshape(len(z), -1)
        for each in network.decoders[0].dense:
            flat = dense(flat, each)
        return [flat.reshape(z.shape)]
    read = z[:, : architecture.inputs]
    vector = encoding(network, read)
    found = []
    for target, decoder in zip(architecture.targets, network.decoders, strict=True):
        if architecture.kind == "last_step":
            found.append(dense(vector, decoder.dense[0])[:, None])
        elif architecture.conditioned:
            truth = in_order(architecture, z[:, target.start : target.start + target.steps])
            found.append(conditioned(vector, decoder, target, truth if taught else None))
        else:
            hidden = np.repeat(vector[:, None], target.steps, axis=1)
            if architecture.kind == "sequence":
                hidden = read
                for layer in network.encoder:
                    hidden = lstm(hidden, layer)
            for layer in decoder.lstm:
                hidden = lstm(hidden, layer)
            found.append(dense(hidden, decoder.dense[0]))
    return found


def in_order(architecture: Architecture, ticks: Array) -> Array:
    """From time to the decoder's order, or back."""
    return ticks[:, ::-1] if architecture.target_order == "reversed" else ticks


def conditioned(
    vector: Array, decoder: DecoderWeights, target: Target, truth: Array | None
) -> Array:
    states = [(np.zeros((len(vector), w.units)),) * 2 for w in decoder.lstm]
    frame = np.zeros((len(vector), len(decoder.dense[0].bias)))
    frames = []
    for step in range(target.steps):
        hidden = np.concatenate([vector, frame], axis=1)
        for i, layer in enumerate(decoder.lstm):
            states[i] = lstm_step(hidden, *states[i], layer)
            hidden = states[i][0]
        frames.append(dense(hidden, decoder.dense[0]))
        frame = frames[-1] if truth is None else truth[:, step]
    return np.stack(frames, axis=1)


def errors(
    architecture: Architecture, network: NetworkWeights, z: Array, error_scale: Array
) -> Array:
    """(n, features); error_scale: (targets, features)."""
    total = np.zeros((len(z), z.shape[2]))
    said = outputs(architecture, network, z)
    for target, output, scale in zip(architecture.targets, said, error_scale, strict=True):
        observed = z[:, target.start : target.start + target.steps]
        squared = (in_order(architecture, output) - observed) ** 2
        total += target.weight * squared.mean(axis=1) / scale
    return total


def lstm(sequence: Array, layer: LstmWeights) -> Array:
    """(n, length, inputs) -> (n, length, units)."""
    hidden = cell = np.zeros((len(sequence), layer.units))
    states = []
    for step in range(sequence.shape[1]):
        hidden, cell = lstm_step(sequence[:, step], hidden, cell, layer)
        states.append(hidden)
    return np.stack(states, axis=1)


def lstm_step(x: Array, hidden: Array, cell: Array, layer: LstmWeights) -> tuple[Array, Array]:
    """Hochreiter and Schmidhuber 1997 with forget gates, as Keras orders and applies them
    (input, forget, cell, output)."""
    inner = np.tanh if layer.activation == "tanh" else relu
    gates = x @ layer.kernel + hidden @ layer.recurrent + layer.bias
    i, f, c, o = np.split(gates, 4, axis=1)
    cell = sigmoid(f) * cell + sigmoid(i) * inner(c)
    return sigmoid(o) * inner(cell), cell


def dense(x: Array, layer: DenseWeights) -> Array:
    result: Array = x @ layer.kernel + layer.bias
    if layer.activation is None:
        return result
    return np.tanh(result) if layer.activation == "tanh" else relu(result)


def relu(x: Array) -> Array:
    result: Array = np.maximum(x, 0)
    return result


def sigmoid(x: Array) -> Array:
    result: Array = 1 / (1 + np.exp(-x))
    return result
