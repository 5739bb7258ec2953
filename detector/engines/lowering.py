"""An ONNX graph to a program of the native engine: what happens to one window.

The graph works on n windows; the axis of n is dropped, and with it most of what only moves things
about: transposing, squeezing and most slices become another way to look at the same numbers. Only
what the wanted outputs need is kept.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.engines.fusing import PRODUCT, fused
from detector.engines.onnx_file import Node, OnnxGraph
from detector.engines.program import Assembler, Code
from detector.engines.tensors import Tensor, UnknownGraphError

_LOG2_E = float(np.log2(np.e))
#: ONNX keeps the gates of an LSTM as i o f c; the engine wants i f c o.
_GATES = (0, 2, 3, 1)
_REDUCTIONS = {
    "ReduceSum": "sum",
    "ReduceMean": "mean",
    "ReduceMax": "largest",
    "ReduceMin": "smallest",
}
_UNARY = {"Identity": "COPY", "Asinh": "ASINH", "Sqrt": "SQRT", "Relu": "RELU", "Tanh": "TANH"}
_BINARY = {"Add": "ADD", "Sub": "SUB", "Mul": "MUL"}


@dataclass(frozen=True, slots=True)
class Lowered:
    """outputs: of each wanted one, the shape of one window's and where n stands in it."""

    code: Code
    outputs: tuple[tuple[tuple[int, ...], int], ...]


def lower(graph: OnnxGraph, wanted: Sequence[str]) -> Lowered:
    """Raises UnknownGraphError."""
    try:
        return _Lowering(graph).lower(wanted)
    except (KeyError, IndexError, TypeError, AttributeError) as error:
        raise UnknownGraphError(f"a graph of another make: {error!r}") from None
    except ValueError as error:
        raise UnknownGraphError(str(error)) from None


class _Lowering:
    def __init__(self, graph: OnnxGraph) -> None:
        self._graph = graph
        self._code = Assembler()
        self._found: dict[str, Tensor] = {}

    def lower(self, wanted: Sequence[str]) -> Lowered:
        ((name, shape),) = self._graph.inputs.items()
        sizes = [d for d in shape if isinstance(d, int)]
        if shape[:1] != ("n",) or len(sizes) != len(shape) - 1 or self._graph.types[name] != 1:
            raise UnknownGraphError(f"windows of shape {shape}")
        window = self._code.window(tuple(sizes))
        self._found[name] = Tensor(window, 0)
        for node in fused(self._graph, wanted):
            self._add(node)
        outputs = []
        for one in wanted:
            tensor = self._found[one]
            if tensor.company:
                raise UnknownGraphError(f"{one} keeps company")
            self._code.output(tensor.place)
            outputs.append((tensor.place.shape, tensor.axis))
        return Lowered(self._code.assemble(), tuple(outputs))

    def _add(self, node: Node) -> None:
        known: Mapping[str, Callable[[Node], None]] = {
            "Clip": self._clip,
            PRODUCT: self._product,
            "LSTM": self._lstm,
            "ArgMin": self._argmin,
            "Gather": self._gather,
            "Sum": self._sum,
            "Concat": self._concat,
            "Pad": self._pad,
            "Slice": self._slice,
            "Tile": self._tile,
            "Transpose": self._transpose,
            "Squeeze": self._squeeze,
            "Unsqueeze": self._unsqueeze,
            "Reshape": self._reshape,
            "Flatten": self._flatten,
        }
        if node.operator in known:
            known[node.operator](node)
        elif node.operator in _UNARY:
            self._unary(node)
        elif node.operator in _BINARY:
            self._binary(node)
        elif node.operator in _REDUCTIONS:
            self._reduce(node)
        else:
            raise UnknownGraphError(f"an operator {node.operator}")

    # -- what stands where

    def _constant(self, name: str) -> NDArray[Any]:
        if name not in self._graph.constants:
            raise UnknownGraphError(f"{name} is no constant")
        return self._graph.constants[name]

    def _integers(self, name: str) -> list[int]:
        found: list[int] = np.atleast_1d(self._constant(name)).tolist()
        return found

    def _number(self, name: str) -> float:
        return float(self._constant(name).reshape(()))

    def _floats(self, name: str) -> NDArray[np.float32]:
        found = self._constant(name)
        if found.dtype != np.float32:
            raise UnknownGraphError(f"{name} is not of single precision")
        return found

    # -- numbers from numbers

    def _unary(self, node: Node) -> None:
        source = self._found[node.inputs[0]]
        if node.operator == "Identity":
            self._found[node.outputs[0]] = source
        else:
            place = self._code.elementwise(_UNARY[node.operator], source.place)
            self._found[node.outputs[0]] = source.with_place(place)

    def _clip(self, node: Node) -> None:
        source = self._found[node.inputs[0]]
        bounds = (self._number(node.inputs[1]), self._number(node.inputs[2]))
        place = self._code.elementwise("CLIP", source.place, bounds=bounds)
        self._found[node.outputs[0]] = source.with_place(place)

    def _binary(self, node: Node) -> None:
        self._found[node.outputs[0]] = self._of_two(_BINARY[node.operator], *node.inputs)

    def _of_two(self, kind: str, first: str, second: str) -> Tensor:
        tensors = [self._found.get(name) for name in (first, second)]
        known = [t for t in tensors if t is not None]
        rank = max(
            len(self._constant(n).shape) if t is None else len(t.shape)
            for n, t in zip((first, second), tensors, strict=True)
        )
        axes = {t.axis + rank - len(t.shape) for t in known}
        if len(axes) != 1 or len({t.company for t in known}) != 1:
            raise UnknownGraphError("numbers of different windows together")
        (axis,) = axes
        places = []
        for name, tensor in zip((first, second), tensors, strict=True):
            if tensor is not None:
                places.append(tensor.place)
                continue
            value = self._floats(name)
            value = value.reshape((1,) * (rank - value.ndim) + value.shape)
            if value.shape[axis] != 1:
                raise UnknownGraphError(f"{name} differs from window to window")
            places.append(self._code.constant(value.squeeze(axis)))
        return Tensor(self._code.elementwise(kind, *places), axis, known[0].company)

    def _sum(self, node: Node) -> None:
        total = node.inputs[0]
        for i, name in enumerate(node.inputs[1:]):
            so_far = f"{node.outputs[0]} {i}"
            self._found[so_far] = self._of_two("ADD", total, name)
            total = so_far
        self._found[node.outputs[0]] = self._found[total]

    def _reduce(self, node: Node) -> None:
        source = self._found[node.inputs[0]]
        (axis,) = self._integers(node.inputs[1])
        own = source.own(axis)
        place = self._code.reduce(_REDUCTIONS[node.operator], source.place, own)
        if node.attributes.get("keepdims", 1):
            self._found[node.outputs[0]] = source.with_place(place.expanded(own))
        else:
            dropped = axis % len(source.shape) < source.axis
            self._found[node.outputs[0]] = Tensor(place, source.axis - dropped, source.company)

    def _product(self, node: Node) -> None:
        source, weights = self._found[node.inputs[0]], self._floats(node.inputs[1])
        if weights.ndim != 2 or source.axis == len(source.place.shape):
            raise UnknownGraphError("a product along the windows")
        smallest = bool(node.attributes.get("smallest"))
        if smallest and (source.axis != 0 or len(source.place.shape) != 1):
            raise UnknownGraphError("a search of another make")
        if node.attributes.get("alike"):
            place = self._code.matmul(source.place, weights[:, :1])
            place = place.broadcast((*place.shape[:-1], weights.shape[1]))
        else:
            bias = self._floats(node.inputs[2]) if node.inputs[2] else None
            place = self._code.matmul(source.place, weights, bias, smallest=smallest)
        self._found[node.outputs[0]] = source.with_place(place)

    def _lstm(self, node: Node) -> None:
        inputs = [*node.inputs, *[""] * (8 - len(node.inputs))]
        source = self._found[inputs[0]]
        sigmoid, *inner = node.attributes["activations"]
        units = node.attributes["hidden_size"]
        known = {"activations", "hidden_size"}
        if (
            sigmoid != "Sigmoid"
            or inner not in (["Tanh"] * 2, ["Relu"] * 2)
            or inputs[4]
            or inputs[7]
            or source.axis != 1
            or set(node.attributes) - known
        ):
            raise UnknownGraphError("an LSTM of another make")
        relu = inner[0] == "Relu"
        kernel, recurrent, bias = (self._floats(name)[0] for name in inputs[1:4])
        both = np.split(bias.astype(np.float64), 2)
        # Gates as powers of two: see native/scoring_math.h.
        factor = np.array([-_LOG2_E, -_LOG2_E, 1.0 if relu else -2 * _LOG2_E, -_LOG2_E])

        def gates(matrix: NDArray[Any]) -> NDArray[np.float32]:
            """(4 units, inputs) -> (inputs, 4 units)"""
            four = matrix.reshape(4, units, -1)[list(_GATES)] * factor[:, None, None]
            turned: NDArray[np.float32] = four.reshape(4 * units, -1).T.astype(np.float32)
            return turned

        first = [self._found[name].place if name else None for name in inputs[5:7]]
        wanted = [bool(name) for name in (*node.outputs, "", "", "")[:3]]
        found = self._code.lstm(
            source.place,
            gates(kernel.astype(np.float64)),
            gates(recurrent.astype(np.float64)),
            gates((both[0] + both[1])[:, None])[0],
            relu=relu,
            first=(first[0], first[1]),
            wanted=(wanted[0], wanted[1], wanted[2]),
        )
        for name, place, axis in zip(node.outputs, found, (2, 1, 1), strict=False):
            if place is not None:
                self._found[name] = Tensor(place.expanded(1 if axis == 2 else 0), axis)

    def _argmin(self, node: Node) -> None:
        source = self._found[node.inputs[0]]
        whole = (source.axis, len(source.place.shape), node.attributes.get("keepdims", 1))
        if whole != (0, 1, 0) or source.own(node.attributes.get("axis", 0)) != 0:
            raise UnknownGraphError("a search of another make")
        self._found[node.outputs[0]] = source.with_place(self._code.argmin(source.place))

    def _gather(self, node: Node) -> None:
        axis = node.attributes.get("axis", 0)
        if node.inputs[0] in self._found:
            source, index = self._found[node.inputs[0]], self._constant(node.inputs[1])
            own = source.own(axis)
            if index.ndim:
                raise UnknownGraphError("a choice of several")
            place = source.place.at(own, int(index))
            dropped = axis % len(source.shape) < source.axis
            self._found[node.outputs[0]] = Tensor(place, source.axis - dropped, source.company)
            return
        rows, which = self._floats(node.inputs[0]), self._found[node.inputs[1]]
        if axis != 0 or rows.ndim != 2 or which.place.shape != ():
            raise UnknownGraphError("a choice of another make")
        self._found[node.outputs[0]] = which.with_place(self._code.gather(rows, which.place))

    # -- the same numbers elsewhere

    def _concat(self, node: Node) -> None:
        parts = [self._found[name] for name in node.inputs]
        first = parts[0]
        if len({(p.axis, p.company) for p in parts}) != 1:
            raise UnknownGraphError("numbers of different windows together")
        place = self._code.concat([p.place for p in parts], first.own(node.attributes["axis"]))
        self._found[node.outputs[0]] = first.with_place(place)

    def _pad(self, node: Node) -> None:
        source, pads = self._found[node.inputs[0]], self._integers(node.inputs[1])
        value = self._number(node.inputs[2]) if len(node.inputs) > 2 and node.inputs[2] else 0.0
        rank = len(source.shape)
        before, after = pads[:rank], pads[rank:]
        if (
            any(before)
            or len(after) != rank
            or node.attributes.get("mode", "constant") != "constant"
        ):
            raise UnknownGraphError("padding of another make")
        if after == [int(i == source.axis) for i in range(rank)] and value == 0:
            if source.company:
                raise UnknownGraphError("company twice")
            self._found[node.outputs[0]] = Tensor(source.place, source.axis, True)
            return
        place = source.place
        for axis, more in enumerate(after):
            if more:
                own = source.own(axis)
                shape = list(place.shape)
                shape[own] = more
                filled = self._code.constant(np.full((), value, np.float32)).broadcast(tuple(shape))
                place = self._code.concat([place, filled], own)
        self._found[node.outputs[0]] = source.with_place(place)

    def _slice(self, node: Node) -> None:
        source = self._found[node.inputs[0]]
        first, end, axes = (self._integers(name) for name in node.inputs[1:4])
        steps = self._integers(node.inputs[4]) if len(node.inputs) > 4 else [1]
        if not len(first) == len(end) == len(axes) == len(steps) == 1:
            raise UnknownGraphError("a slice of several axes")
        if axes[0] % len(source.shape) == source.axis:
            if (first, end, steps) != ([0], [-1], [1]) or not source.company:
                raise UnknownGraphError("an operation along the windows")
            self._found[node.outputs[0]] = Tensor(source.place, source.axis)
            return
        own = source.own(axes[0])
        size = source.place.shape[own]
        stop: int | None = end[0]
        if steps[0] < 0 and end[0] < -size:
            stop = None
        place = source.place.sliced(own, slice(first[0], stop, steps[0]))
        self._found[node.outputs[0]] = source.with_place(place)

    def _tile(self, node: Node) -> None:
        source, repeats = self._found[node.inputs[0]], self._integers(node.inputs[1])
        shape = list(source.place.shape)
        for axis, times in enumerate(repeats):
            if times != 1:
                own = source.own(axis)
                if shape[own] != 1:
                    raise UnknownGraphError("a repetition of several")
                shape[own] = times
        self._found[node.outputs[0]] = source.with_place(source.place.broadcast(tuple(shape)))

    def _transpose(self, node: Node) -> None:
        source, order = self._found[node.inputs[0]], node.attributes["perm"]
        own = [source.own(axis) for axis in order if axis != source.axis]
        place = source.place.transposed(own)
        self._found[node.outputs[0]] = Tensor(place, order.index(source.axis), source.company)

    def _squeeze(self, node: Node) -> None:
        source = self._found[node.inputs[0]]
        (axis,) = self._integers(node.inputs[1])
        own = source.own(axis)
        if source.place.shape[own] != 1:
            raise UnknownGraphError("a squeeze of several")
        dropped = axis % len(source.shape) < source.axis
        self._found[node.outputs[0]] = Tensor(
            source.place.at(own, 0), source.axis - dropped, source.company
        )

    def _unsqueeze(self, node: Node) -> None:
        source = self._found[node.inputs[0]]
        (axis,) = self._integers(node.inputs[1])
        axis %= len(source.shape) + 1
        before = axis <= source.axis
        place = source.place.expanded(axis if before else axis - 1)
        self._found[node.outputs[0]] = Tensor(place, source.axis + before, source.company)

    def _reshape(self, node: Node) -> None:
        source, shape = self._found[node.inputs[0]], self._integers(node.inputs[1])
        if source.axis != 0 or shape[:1] not in ([-1], [0]) or min(shape[1:], default=1) < 1:
            raise UnknownGraphError("a reshape along the windows")
        place = self._code.reshaped(source.place, tuple(shape[1:]))
        self._found[node.outputs[0]] = source.with_place(place)

    def _flatten(self, node: Node) -> None:
        source = self._found[node.inputs[0]]
        if source.axis != 0 or node.attributes.get("axis", 1) != 1:
            raise UnknownGraphError("flattening along the windows")
        width = int(np.prod(source.place.shape))
        self._found[node.outputs[0]] = source.with_place(
            self._code.reshaped(source.place, (width,))
        )
