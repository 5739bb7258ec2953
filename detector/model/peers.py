"""The same network in what else runs one on a CPU: Keras, tf.function, XLA and OpenVINO.

For comparison alone (`detector bench --peers`). Each takes the windows and gives the errors of the
graph `scorer` of random_network(architecture), with the scaling and the error as that graph has
them, so that all do the same work. What is not installed is left out and told.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from detector.core.ticks import Float32
from detector.errors import UsageError
from detector.model.family import Architecture
from detector.model.weights import NetworkWeights, random_network

Peer = Callable[[Float32], Any]
#: What the peers are compared at: features as they are, but for the squashing.
SQUASH = 4.0


def peers(architecture: Architecture, serialized: bytes) -> tuple[dict[str, Peer], dict[str, str]]:
    """The peers by name, and for those that are absent what would bring them. serialized: of the
    graph `scorer`. Raises UsageError for a network that differs in training: a taught decoder."""
    if architecture.conditioned:
        raise UsageError("--peers: a conditioned decoder is another network in Keras, while taught")
    found: dict[str, Peer] = {}
    absent = {}
    if importlib.util.find_spec("tensorflow") and importlib.util.find_spec("keras"):
        found |= _tensorflow(architecture)
    else:
        absent["tensorflow"] = "pip install 'detector[train]'"
    if importlib.util.find_spec("openvino"):
        found["openvino"] = _openvino(serialized)
    else:
        absent["openvino"] = "pip install openvino"
    return found, absent


def _tensorflow(architecture: Architecture) -> dict[str, Peer]:
    """Keras' own predict, as people call it, and the same network without its loop: as a
    tf.function, and compiled by XLA."""
    from detector.model.backend import keras  # before tensorflow: it says how that starts

    import tensorflow  # isort: skip

    model = _errors_model(keras, architecture)

    def predict(windows: Float32) -> Any:
        return model.predict(windows, batch_size=len(windows), verbose=0)

    def function(*, xla: bool) -> Peer:
        compiled = tensorflow.function(lambda x: model(x, training=False), jit_compile=xla)
        return lambda windows: compiled(tensorflow.constant(windows)).numpy()

    return {
        "keras predict": predict,
        "tf.function": function(xla=False),
        "tf.function, XLA": function(xla=True),
    }


def _errors_model(keras: Any, architecture: Architecture) -> Any:
    """windows (n, length, features) -> errors (n, features), as the graph `scorer` does it."""
    from detector.model.networks import build_network

    network = build_network(architecture)
    _give(network, architecture, random_network(architecture))
    windows = keras.Input((architecture.length, architecture.features))
    scaled = SQUASH * keras.ops.arcsinh(windows / SQUASH)
    said = network(scaled)
    errors = []
    for target in architecture.targets:
        own = said[target.name] if isinstance(said, dict) else said
        seen = scaled[:, target.start : target.start + target.steps]
        if architecture.target_order == "reversed":
            seen = keras.ops.flip(seen, axis=1)
        errors.append(target.weight * keras.ops.mean(keras.ops.square(own - seen), axis=1))
    return keras.Model(windows, sum(errors[1:], errors[0]))


def _give(network: Any, architecture: Architecture, weights: NetworkWeights) -> None:
    """Weights to the layers of build_network, by their names there."""

    def lstm(name: str, layer: Any) -> None:
        network.get_layer(name).set_weights([layer.kernel, layer.recurrent, layer.bias])

    for i, layer in enumerate(weights.encoder):
        lstm(f"encoder_{i}", layer)
    for target, decoder in zip(architecture.targets, weights.decoders, strict=True):
        for i, layer in enumerate(decoder.lstm):
            lstm(f"{target.name}_{i}", layer)
        for i, dense in enumerate(decoder.dense):
            name = f"{target.name}_dense" if architecture.recurrent else f"dense_{i}"
            network.get_layer(name).set_weights([dense.kernel, dense.bias])


def _openvino(serialized: bytes) -> Peer:
    import openvino

    core = openvino.Core()
    options = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    model = core.read_model(model=serialized, weights=b"")
    compiled = core.compile_model(model, "CPU", options)
    request, wanted = compiled.create_infer_request(), compiled.output("errors")
    return lambda windows: np.array(request.infer({"windows": windows}, share_inputs=True)[wanted])
