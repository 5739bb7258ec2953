"""Architectures as Keras models over scaled windows. TensorFlow is imported with this module.

The network of training: windows (n, length, features) -> what its decoders say, in their own
order of time, (n, steps, features); of composite a dictionary by target. A conditioned decoder
reads the true previous tick there (teacher forcing, Williams and Zipser 1989), and its own only
in the exported graph.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from detector.core.ticks import Float32
from detector.model.backend import keras
from detector.model.family import Activation, Architecture, Target
from detector.model.weights import DecoderWeights, DenseWeights, LstmWeights, NetworkWeights

#: What stands for "no tick" in sequences for the encoder network: no scaled tick is that low.
PADDING = -1e9


def build_network(architecture: Architecture) -> keras.Model:
    """The untrained network of the module's docstring."""
    windows = keras.Input((architecture.length, architecture.features), name="windows")
    if not architecture.recurrent:
        return keras.Model(windows, _dense_stack(windows, architecture), name=architecture.kind)
    bottleneck = _ticks(windows, architecture, 0, architecture.inputs)
    for i, width in enumerate(architecture.units):
        inner = i < len(architecture.units) - 1 or architecture.kind == "sequence"
        bottleneck = _lstm(bottleneck, architecture, width, f"encoder_{i}", sequence=inner)
    outputs = {
        target.name: _decoder(bottleneck, windows, architecture, target)
        for target in architecture.targets
    }
    whole = outputs if len(outputs) > 1 else next(iter(outputs.values()))
    return keras.Model(windows, whole, name=architecture.kind)


def targets(windows: Float32, architecture: Architecture) -> Float32 | dict[str, Float32]:
    """What the network should say of scaled windows, in the shape of its output."""
    step = -1 if architecture.target_order == "reversed" else 1
    parts = {
        t.name: windows[:, t.start : t.start + t.steps][:, ::step] for t in architecture.targets
    }
    return parts if len(parts) > 1 else next(iter(parts.values()))


def compile_network(
    network: keras.Model, architecture: Architecture, optimizer: Any, *, xla: bool
) -> None:
    """Set the loss: the mean squared error of each decoder, added up with the targets' weights."""
    loss: Any = {target.name: "mse" for target in architecture.targets}
    weights: Any = {target.name: target.weight for target in architecture.targets}
    if len(loss) == 1:
        loss, weights = "mse", None
    network.compile(optimizer, loss, loss_weights=weights, jit_compile=xla)


def build_encoder(network: keras.Model, architecture: Architecture) -> keras.Model:
    """The trained encoder alone: scaled sequences (n, any length, features) -> the state after
    the last tick, (n, units[-1]). Steps that hold PADDING throughout are passed over."""
    sequences = keras.Input((None, architecture.features), name="sequences")
    hidden = keras.layers.Masking(PADDING, name="padding")(sequences)
    for i, width in enumerate(architecture.units):
        inner = i < len(architecture.units) - 1
        hidden = _lstm(hidden, architecture, width, f"encoder_{i}", sequence=inner)
    encoder = keras.Model(sequences, hidden, name="encoder")
    for i in range(len(architecture.units)):
        encoder.get_layer(f"encoder_{i}").set_weights(
            network.get_layer(f"encoder_{i}").get_weights()
        )
    return encoder


def network_weights(network: keras.Model, architecture: Architecture) -> NetworkWeights:
    """The trained weights, layer by layer, for export."""

    activation = architecture.activation

    def lstm(prefix: str, count: int) -> tuple[LstmWeights, ...]:
        arrays = (_arrays(network, f"{prefix}_{i}") for i in range(count))
        return tuple(LstmWeights(k, r, b, activation) for k, r, b in arrays)

    def dense(name: str, inner: Activation | None = None) -> DenseWeights:
        kernel, bias = _arrays(network, name)
        return DenseWeights(kernel, bias, inner)

    mirrored = len(architecture.decoder_units)
    if not architecture.recurrent:
        hidden = len(architecture.units) + mirrored
        layers = [dense(f"dense_{i}", activation) for i in range(hidden)]
        return NetworkWeights((), (DecoderWeights((), (*layers, dense(f"dense_{hidden}"))),))
    decoders = (
        DecoderWeights(lstm(t.name, mirrored), (dense(f"{t.name}_dense"),))
        for t in architecture.targets
    )
    return NetworkWeights(lstm("encoder", len(architecture.units)), tuple(decoders))


def _dense_stack(windows: Any, architecture: Architecture) -> Any:
    hidden = keras.layers.Flatten(name="flat")(windows)  # (n, length * features)
    widths = (*architecture.units, *architecture.decoder_units)
    for i, width in enumerate(widths):
        hidden = keras.layers.Dense(width, architecture.activation, name=f"dense_{i}")(hidden)
    shape = (architecture.length, architecture.features)
    hidden = keras.layers.Dense(shape[0] * shape[1], name=f"dense_{len(widths)}")(hidden)
    return keras.layers.Reshape(shape, name="window")(hidden)


def _decoder(bottleneck: Any, windows: Any, architecture: Architecture, target: Target) -> Any:
    """(n, steps, features) in the decoder's order."""
    name = target.name
    if architecture.kind == "last_step":
        output = keras.layers.Dense(architecture.features, name=f"{name}_dense")(bottleneck)
        return keras.layers.Reshape((1, architecture.features), name=f"{name}_tick")(output)
    hidden = bottleneck
    if architecture.kind != "sequence":
        hidden = keras.layers.RepeatVector(target.steps, name=f"{name}_repeat")(bottleneck)
    if architecture.conditioned:
        previous = _previous_ticks(windows, architecture, target)
        hidden = keras.layers.Concatenate(name=f"{name}_inputs")([hidden, previous])
    for i, width in enumerate(architecture.decoder_units):
        hidden = _lstm(hidden, architecture, width, f"{name}_{i}", sequence=True)
    # Dense on the last axis is one matrix product; TimeDistributed would be one a time step.
    return keras.layers.Dense(architecture.features, name=f"{name}_dense")(hidden)


def _previous_ticks(windows: Any, architecture: Architecture, target: Target) -> Any:
    """What a taught decoder reads: its target one step later, zeros first. (n, steps, features)"""
    ticks = _ticks(windows, architecture, target.start, target.steps)
    if target.steps == 1:
        return keras.ops.zeros_like(ticks)
    if architecture.target_order == "reversed":
        ticks = keras.ops.flip(ticks, axis=1)
    ticks = keras.layers.Cropping1D((0, 1), name=f"{target.name}_all_but_last")(ticks)
    return keras.layers.ZeroPadding1D((1, 0), name=f"{target.name}_previous")(ticks)


def _ticks(windows: Any, architecture: Architecture, start: int, steps: int) -> Any:
    if steps == architecture.length:
        return windows
    return keras.layers.Cropping1D((start, architecture.length - start - steps))(windows)


def _lstm(source: Any, architecture: Architecture, width: int, name: str, *, sequence: bool) -> Any:
    return keras.layers.LSTM(
        width, activation=architecture.activation, return_sequences=sequence, name=name
    )(source)


def _arrays(network: keras.Model, layer: str) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    return [np.asarray(w, np.float32) for w in network.get_layer(layer).get_weights()]
