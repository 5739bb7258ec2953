"""An ONNX graph in the making: nodes with fixed names, and a few layers.

It knows ONNX and the weights of a layer, nothing of windows or of kinds of networks. Sequences
are time-major, (steps, n, width): ONNX Runtime's LSTM knows no other layout.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from detector.model.weights import DenseWeights, LstmWeights

OPSET = 18
IR_VERSION = 9  # readable by every ONNX Runtime since 1.16
_ACTIVATIONS = {"tanh": "Tanh", "relu": "Relu"}


class Graph:
    def __init__(self) -> None:
        self._nodes: list[onnx.NodeProto] = []
        self._constants: dict[str, onnx.TensorProto] = {}

    def constant(self, name: str, value: NDArray[np.generic] | Sequence[int]) -> str:
        """A constant by name; the same name again is the same constant."""
        if name not in self._constants:
            self._constants[name] = numpy_helper.from_array(np.asarray(value), name)
        return name

    def add(self, operator: str, inputs: Sequence[str], output: str, **attributes: object) -> str:
        self._nodes.append(helper.make_node(operator, list(inputs), [output], output, **attributes))
        return output

    def ticks(self, source: str, name: str, start: int, steps: int) -> str:
        """(length, n, width) -> (steps, n, width) from start on."""
        first = self.constant(f"{name}.start", [start])
        end = self.constant(f"{name}.end", [start + steps])
        axis = self.constant("time_axis", [0])
        return self.add("Slice", [source, first, end, axis], name)

    def all_but_last(self, source: str, name: str, *, axis: int) -> str:
        """One less along an axis."""
        first, end = self.constant("first", [0]), self.constant("last", [-1])
        along = self.constant(f"{name}.axis", [axis])
        return self.add("Slice", [source, first, end, along], name)

    def backwards(self, source: str, name: str) -> str:
        """(steps, n, width) -> the same, last step first."""
        first, step = self.constant("last", [-1]), self.constant("step_back", [-1])
        beyond = self.constant("before_first", [np.iinfo(np.int64).min])
        axis = self.constant("time_axis", [0])
        return self.add("Slice", [source, first, beyond, axis, step], name)

    def repeat(self, source: str, name: str, steps: int) -> str:
        """(1, n, width) -> (steps, n, width)."""
        return self.add("Tile", [source, self.constant(f"{name}.repeats", [steps, 1, 1])], name)

    def lstm(self, source: str, layer: LstmWeights, name: str) -> str:
        """(steps, n, inputs) -> every state, (steps, n, units)."""
        self._lstm([source, *self._weights(layer, name)], [f"{name}.directed"], layer, name)
        axis = self.constant(f"{name}.axis", [1])
        return self.add("Squeeze", [f"{name}.directed", axis], f"{name}.sequence")

    def lstm_last(self, source: str, layer: LstmWeights, name: str) -> str:
        """(steps, n, inputs) -> the last state, (1, n, units)."""
        self._lstm([source, *self._weights(layer, name)], ["", f"{name}.last"], layer, name)
        return f"{name}.last"

    def lstm_padded(
        self, source: str, lengths: str, layer: LstmWeights, name: str
    ) -> tuple[str, str]:
        """(steps, n, inputs), of which lengths (n,) int32 are valid -> (every state, the state
        after each sequence's last valid step (1, n, units))."""
        inputs = [source, *self._weights(layer, name), lengths]
        self._lstm(inputs, [f"{name}.directed", f"{name}.last"], layer, name)
        axis = self.constant(f"{name}.axis", [1])
        every = self.add("Squeeze", [f"{name}.directed", axis], f"{name}.sequence")
        return every, f"{name}.last"

    def lstm_step(
        self, source: str, layer: LstmWeights, name: str, *, step: int, state: tuple[str, str]
    ) -> tuple[str, str]:
        """One step (1, n, inputs) from (hidden, cell), each (1, n, units) or "" for zeros, to
        the next (hidden, cell)."""
        after = (f"{name}.hidden_{step}", f"{name}.cell_{step}")
        inputs = [source, *self._weights(layer, name), "", *state]
        self._lstm(inputs, ["", *after], layer, f"{name}.step_{step}")
        return after

    def dense(self, source: str, layer: DenseWeights, name: str, output: str = "") -> str:
        """(..., inputs) -> (..., units). The weights belong to `name`, the result is `output`."""
        output = output or name
        kernel = self.constant(f"{name}.kernel", layer.kernel)
        bias = self.constant(f"{name}.bias", layer.bias)
        product = self.add("MatMul", [source, kernel], f"{output}.product")
        if layer.activation is None:
            return self.add("Add", [product, bias], output)
        total = self.add("Add", [product, bias], f"{output}.sum")
        return self.add(_ACTIVATIONS[layer.activation], [total], output)

    def serialized(self, inputs: list[object], outputs: list[object], name: str) -> bytes:
        constants = list(self._constants.values())
        graph = helper.make_graph(self._nodes, name, inputs, outputs, constants)
        model = helper.make_model(
            graph,
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="detector",
        )
        onnx.checker.check_model(model, full_check=True)
        serialized: bytes = model.SerializeToString()
        return serialized

    def _weights(self, layer: LstmWeights, name: str) -> list[str]:
        order = [0, 3, 1, 2]  # Keras i f c o -> ONNX i o f c

        def gates(matrix: NDArray[np.float32]) -> NDArray[np.float32]:
            return np.concatenate([np.split(matrix, 4, axis=-1)[g] for g in order], axis=-1)

        bias = np.concatenate([gates(layer.bias), np.zeros(4 * layer.units, np.float32)])
        return [
            self.constant(f"{name}.W", gates(layer.kernel).T[None].copy()),
            self.constant(f"{name}.R", gates(layer.recurrent).T[None].copy()),
            self.constant(f"{name}.B", bias[None]),
        ]

    def _lstm(self, inputs: list[str], outputs: list[str], layer: LstmWeights, name: str) -> None:
        while inputs[-1] == "":
            inputs.pop()
        inner = _ACTIVATIONS[layer.activation]
        activations = ["Sigmoid", inner, inner]
        self._nodes.append(
            helper.make_node(
                "LSTM", inputs, outputs, name, hidden_size=layer.units, activations=activations
            )
        )


def tensor(name: str, shape: list[int | str], of: int = TensorProto.FLOAT) -> object:
    """A named input or output; dimensions with a name may have any size."""
    return helper.make_tensor_value_info(name, of, shape)


INT32 = TensorProto.INT32
