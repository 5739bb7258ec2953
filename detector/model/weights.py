"""The numbers of a network, layer by layer, as both Keras and the graphs understand them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.model.family import Activation, Architecture


@dataclass(frozen=True, slots=True)
class LstmWeights:
    """One Keras LSTM layer. kernel: (inputs, 4 units), recurrent: (units, 4 units), bias:
    (4 units); gates in Keras order: input, forget, cell, output."""

    kernel: NDArray[np.float32]
    recurrent: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation

    @property
    def units(self) -> int:
        return len(self.recurrent)


@dataclass(frozen=True, slots=True)
class DenseWeights:
    """One dense layer. kernel: (inputs, units), bias: (units,); activation None: linear."""

    kernel: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: Activation | None = None


@dataclass(frozen=True, slots=True)
class DecoderWeights:
    """LSTM layers, then dense ones, the last of which is linear. last_step has no LSTM layers."""

    lstm: tuple[LstmWeights, ...]
    dense: tuple[DenseWeights, ...]


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """encoder: LSTM layers; decoders: one a target. The kind dense has no encoder and all its
    layers in one decoder."""

    encoder: tuple[LstmWeights, ...]
    decoders: tuple[DecoderWeights, ...]

    def parameters(self) -> int:
        return sum(array.size for array in self._arrays())

    def _arrays(self) -> Iterator[NDArray[np.float32]]:
        for layer in (*self.encoder, *(each for d in self.decoders for each in d.lstm)):
            yield from (layer.kernel, layer.recurrent, layer.bias)
        for dense in (each for d in self.decoders for each in d.dense):
            yield from (dense.kernel, dense.bias)


def random_network(
    architecture: Architecture, *, seed: int = 0, spread: float = 0.3
) -> NetworkWeights:
    """Weights drawn from a seed, normal around zero with the given standard deviation."""
    random = np.random.default_rng(seed)
    activation = architecture.activation

    def draw(*shape: int) -> NDArray[np.float32]:
        return random.normal(0, spread, shape).astype(np.float32)

    def lstm(inputs: int, widths: tuple[int, ...]) -> tuple[LstmWeights, ...]:
        layers = []
        for width in widths:
            kernel, recurrent = draw(inputs, 4 * width), draw(width, 4 * width)
            layers.append(LstmWeights(kernel, recurrent, draw(4 * width), activation))
            inputs = width
        return tuple(layers)

    def dense(inputs: int, *widths: int) -> tuple[DenseWeights, ...]:
        layers: list[DenseWeights] = []
        for i, width in enumerate(widths):
            inner: Any = activation if i < len(widths) - 1 else None
            layers.append(DenseWeights(draw(inputs, width), draw(width), inner))
            inputs = width
        return tuple(layers)

    units, mirrored = architecture.units, architecture.decoder_units
    if not architecture.recurrent:
        flat = architecture.length * architecture.features
        return NetworkWeights((), (DecoderWeights((), dense(flat, *units, *mirrored, flat)),))
    last = (*units, *mirrored)[-1]
    outputs = [dense(last, architecture.features) for _ in architecture.targets]
    encoder = lstm(architecture.features, units)
    decoders = (DecoderWeights(lstm(architecture.decoder_inputs, mirrored), o) for o in outputs)
    return NetworkWeights(encoder, tuple(decoders))
