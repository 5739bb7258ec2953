"""Networks as Keras models. TensorFlow is imported with this module.

reconstruction: (n, length, features) -> (n, length, features). A stack of LSTM layers, the
last of which keeps only its final state (n, units[-1]); that vector, repeated length times,
feeds the mirrored stack, and a dense layer on the last axis gives the features back, linear.
Source: Malhotra et al. 2016, "LSTM-based Encoder-Decoder for Multi-sensor Anomaly Detection";
Srivastava et al. 2015 for the repeated vector. Use it unless you know better.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from detector.model.backend import keras
from detector.model.export import LstmWeights, NetworkWeights, decoder_units


def reconstruction(
    *, length: int, features: int, units: Sequence[int], activation: str
) -> keras.Model:
    """The untrained network over scaled windows. units: of the encoder, first layer first."""
    windows = keras.Input((length, features), name="windows")
    hidden = windows
    for i, width in enumerate(units):
        hidden = keras.layers.LSTM(
            width,
            activation=activation,
            return_sequences=i < len(units) - 1,
            name=f"encoder_{i}",
        )(hidden)
    hidden = keras.layers.RepeatVector(length, name="repeat")(hidden)  # (n, length, units[-1])
    for i, width in enumerate(decoder_units(units)):
        hidden = keras.layers.LSTM(
            width, activation=activation, return_sequences=True, name=f"decoder_{i}"
        )(hidden)
    # Dense on the last axis is one matrix product; TimeDistributed would be one a time step.
    output = keras.layers.Dense(features, name="dense")(hidden)
    return keras.Model(windows, output, name="reconstruction")


def network_weights(network: keras.Model, activation: str) -> NetworkWeights:
    """The trained weights, layer by layer, for export."""

    def stack(prefix: str) -> tuple[LstmWeights, ...]:
        chosen = [layer for layer in network.layers if layer.name.startswith(prefix)]
        weights = (_arrays(layer) for layer in chosen)
        return tuple(LstmWeights(k, r, b, activation) for k, r, b in weights)

    dense = _arrays(network.get_layer("dense"))
    return NetworkWeights(stack("encoder_"), stack("decoder_"), (dense[0], dense[1]))


def _arrays(layer: Any) -> list[np.ndarray[Any, np.dtype[np.float32]]]:
    return [np.asarray(w, np.float32) for w in layer.get_weights()]
