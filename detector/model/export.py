"""A trained network as ONNX graphs: fused LSTM operators, scaling and error inside.

Written operator by operator: the graph stays time-major from end to end (ONNX Runtime's LSTM
knows no other layout), has fixed names, and needs no converter. See docs/decisions/0003.

Graph `scorer`: windows (n, length, features) float32 ->
    errors (n, features): mean over time of (network(z) - z)^2, divided by error_scale,
                          where z = squash * asinh((x - center) / scale / squash)
    scaled_reconstruction (length, n, features): network(z)
Graph `encoder`: windows (n, length, features) -> encoding (n, units of the bottleneck).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

OPSET = 18
#: Scales from the centre beyond which a value is as far as any.
_FARTHEST = 1e18
IR_VERSION = 9  # readable by every ONNX Runtime since 1.16


@dataclass(frozen=True, slots=True)
class LstmWeights:
    """One Keras LSTM layer. kernel: (inputs, 4 units), recurrent: (units, 4 units), bias:
    (4 units); gates in Keras order: input, forget, cell, output."""

    kernel: NDArray[np.float32]
    recurrent: NDArray[np.float32]
    bias: NDArray[np.float32]
    activation: str

    @property
    def units(self) -> int:
        return len(self.recurrent)


@dataclass(frozen=True, slots=True)
class NetworkWeights:
    """A reconstruction autoencoder, layer by layer. dense: ((units, features), (features,))."""

    encoder: tuple[LstmWeights, ...]
    decoder: tuple[LstmWeights, ...]
    dense: tuple[NDArray[np.float32], NDArray[np.float32]]

    def parameters(self) -> int:
        layers = (*self.encoder, *self.decoder)
        recurrent = sum(w.kernel.size + w.recurrent.size + w.bias.size for w in layers)
        return recurrent + sum(w.size for w in self.dense)


def decoder_units(units: Sequence[int]) -> tuple[int, ...]:
    """The encoder's widths backwards, without the bottleneck: [32, 16] -> (32,). A single
    layer mirrors itself: [16] -> (16,)."""
    return tuple(reversed(units[:-1])) or (units[0],)


@dataclass(frozen=True, slots=True)
class Scaling:
    """x -> squash * asinh((x - center) / scale / squash); center, scale: (features,).

    Linear around the centre, logarithmic far from it: a heavy tail stays in range and still
    counts (inverse hyperbolic sine, Burbidge et al. 1988)."""

    center: NDArray[np.float64]
    scale: NDArray[np.float64]
    squash: float


class _Graph:
    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []

    def constant(self, name: str, value: NDArray[np.generic] | Sequence[int]) -> str:
        array = np.asarray(value)
        self.constants.append(numpy_helper.from_array(array, name))
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self.nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def lstm(self, source: str, layer: LstmWeights, name: str, *, last_only: bool) -> str:
        """(length, n, inputs) -> (length, n, units), or (1, n, units) if last_only."""
        units = layer.units
        order = [0, 3, 1, 2]  # Keras i f c o -> ONNX i o f c

        def gates(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.concatenate([np.split(matrix, 4, axis=-1)[g] for g in order], axis=-1)

        bias = np.concatenate([gates(layer.bias), np.zeros(4 * units, np.float32)])
        inputs = [
            source,
            self.constant(f"{name}.W", gates(layer.kernel).T[None].copy()),
            self.constant(f"{name}.R", gates(layer.recurrent).T[None].copy()),
            self.constant(f"{name}.B", bias[None]),
        ]
        inner = {"tanh": "Tanh", "relu": "Relu"}[layer.activation]
        outputs = ["", f"{name}.last"] if last_only else [f"{name}.directed"]
        self.nodes.append(
            helper.make_node(
                "LSTM",
                inputs,
                outputs,
                name,
                hidden_size=units,
                activations=["Sigmoid", inner, inner],
            )
        )
        if last_only:
            return f"{name}.last"
        axis = self.constant(f"{name}.axis", np.array([1]))
        return self.add("Squeeze", [f"{name}.directed", axis], f"{name}.sequence")

    def encode(self, network: NetworkWeights, scaling: Scaling) -> tuple[str, str]:
        """windows -> (scaled windows (length, n, features), last state (1, n, units))."""
        self.add("Transpose", ["windows"], "time_major", perm=[1, 0, 2])
        self.constant("center", scaling.center.astype(np.float32))
        self.constant("inverse_scale", (1 / (scaling.scale * scaling.squash)).astype(np.float32))
        self.constant("squash", np.asarray(scaling.squash, np.float32))
        self.add("Sub", ["time_major", "center"], "centred")
        self.add("Mul", ["centred", "inverse_scale"], "standardised")
        # A sentinel such as the largest float would become infinite, and the score with it.
        self.constant("lowest", np.asarray(-_FARTHEST, np.float32))
        self.constant("highest", np.asarray(_FARTHEST, np.float32))
        self.add("Clip", ["standardised", "lowest", "highest"], "bounded")
        self.add("Asinh", ["bounded"], "compressed")
        scaled = self.add("Mul", ["compressed", "squash"], "scaled")
        state = scaled
        for i, layer in enumerate(network.encoder):
            last = i == len(network.encoder) - 1
            state = self.lstm(state, layer, f"encoder_{i}", last_only=last)
        return scaled, state

    def model(self, inputs: list[object], outputs: list[object], name: str) -> bytes:
        graph = helper.make_graph(self.nodes, name, inputs, outputs, self.constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="detector",
        )
        onnx.checker.check_model(model, full_check=True)
        serialized: bytes = model.SerializeToString()
        return serialized


def scorer_graph(
    network: NetworkWeights, scaling: Scaling, error_scale: NDArray[np.float64], *, length: int
) -> bytes:
    """The serialized graph `scorer` of the module's docstring."""
    features = len(scaling.center)
    graph = _Graph()
    scaled, state = graph.encode(network, scaling)
    repeats = graph.constant("repeats", np.array([length, 1, 1]))
    hidden = graph.add("Tile", [state, repeats], "repeated")
    for i, layer in enumerate(network.decoder):
        hidden = graph.lstm(hidden, layer, f"decoder_{i}", last_only=False)
    graph.constant("dense.kernel", network.dense[0])
    graph.constant("dense.bias", network.dense[1])
    graph.add("MatMul", [hidden, "dense.kernel"], "dense.product")
    graph.add("Add", ["dense.product", "dense.bias"], "scaled_reconstruction")
    graph.add("Sub", ["scaled_reconstruction", scaled], "difference")
    graph.add("Mul", ["difference", "difference"], "squared")
    graph.constant("time_axis", np.array([0]))
    graph.add("ReduceMean", ["squared", "time_axis"], "mean_squared", keepdims=0)
    graph.constant("inverse_error_scale", (1 / error_scale).astype(np.float32))
    graph.add("Mul", ["mean_squared", "inverse_error_scale"], "errors")
    return graph.model(
        [_tensor("windows", ["n", length, features])],
        [
            _tensor("errors", ["n", features]),
            _tensor("scaled_reconstruction", [length, "n", features]),
        ],
        "scorer",
    )


def encoder_graph(network: NetworkWeights, scaling: Scaling, *, length: int) -> bytes:
    """The serialized graph `encoder` of the module's docstring."""
    graph = _Graph()
    _, state = graph.encode(network, scaling)
    axis = graph.constant("direction_axis", np.array([0]))
    graph.add("Squeeze", [state, axis], "encoding")
    return graph.model(
        [_tensor("windows", ["n", length, len(scaling.center)])],
        [_tensor("encoding", ["n", network.encoder[-1].units])],
        "encoder",
    )


def _tensor(name: str, shape: list[int | str]) -> object:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
