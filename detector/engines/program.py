"""Programs of the native engine in the making: operations on the numbers of one window.

What an operation writes gets a place in an arena of floats; a place is given again once nobody
needs what stands there. native/scoring.h says what the operations are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.engines.place import DIMS, Place, as_one, merged, row_major, whole

_KINDS = (
    "COPY", "ADD", "SUB", "MUL", "CLIP", "ASINH", "SQRT", "RELU", "TANH", "REDUCE", "MATMUL",
    "LSTM", "ARGMIN", "GATHER",
)  # fmt: skip
#: The fields of an operation, as native/scoring.c reads them.
_FIELDS = (
    "kind", "to", *(f"dim_{d}" for d in range(DIMS)),
    "a.constant", "a.at", *(f"a.stride_{d}" for d in range(DIMS)),
    "b.constant", "b.at", *(f"b.stride_{d}" for d in range(DIMS)),
    "low", "high", "reduction", "rows", "row_stride", "k", "j", "steps", "step_stride",
    "hidden", "cell", "first_hidden", "first_cell", "relu", "w", "r", "bias",
)  # fmt: skip
_CONSTANT = -1
_WINDOW = 0
REDUCTIONS = ("sum", "mean", "largest", "smallest")
#: Where nothing is.
_NOWHERE = -1
#: Floats from one place to the next: a place begins with a vector.
_ALIGNED = 16

Float32 = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Code:
    """What native/scoring.c makes a program of. ops: (n, fields); outputs: (k, 2) where each
    begins in the arena and its size; window, arena: floats."""

    ops: NDArray[np.int64]
    constants: Float32
    outputs: NDArray[np.int64]
    window: int
    arena: int


@dataclass(slots=True)
class _Op:
    numbers: dict[str, int]
    #: Fields that are an offset in a buffer.
    places: dict[str, tuple[int, int]] = field(default_factory=dict)
    writes: tuple[int, ...] = ()

    def buffers(self) -> set[int]:
        return {buffer for buffer, _ in self.places.values() if buffer != _CONSTANT}


class Assembler:
    """Collects operations, in the order in which they run."""

    def __init__(self) -> None:
        self._ops: list[_Op] = []
        self._sizes: list[int] = [0]  # of the buffers; the first is the window
        self._constants: list[Float32] = []
        self._floats = 0
        self._outputs: list[Place] = []

    def window(self, shape: tuple[int, ...]) -> Place:
        self._sizes[_WINDOW] = math.prod(shape)
        return whole(_WINDOW, shape)

    def constant(self, value: NDArray[Any]) -> Place:
        return replace(whole(_CONSTANT, value.shape), offset=self._keep(value))

    def output(self, place: Place) -> None:
        self._outputs.append(self._in_a_row(place))

    # -- operations

    def elementwise(
        self, kind: str, *operands: Place, bounds: tuple[float, float] | None = None
    ) -> Place:
        shape = np.broadcast_shapes(*(o.shape for o in operands))
        result = self._new(shape)
        self._write(kind, [o.broadcast(shape) for o in operands], result, bounds)
        return result

    def reduce(self, reduction: str, place: Place, axis: int) -> Place:
        """Without the axis."""
        before, after = place.shape[:axis], place.shape[axis + 1 :]
        outer = as_one(before, place.strides[:axis])
        inner = as_one(after, place.strides[axis + 1 :])
        if outer is None or inner is None or place.buffer == _CONSTANT:
            return self.reduce(reduction, self._copied(place), axis)
        result = self._new(before + after)
        op = self._op("REDUCE", (outer[0], inner[0], place.shape[axis], 1), result)
        op.numbers["reduction"] = REDUCTIONS.index(reduction)
        self._operand(op, "a", place, (outer[1], inner[1], place.strides[axis], 0))
        return result

    def matmul(
        self,
        place: Place,
        weights: Float32,
        bias: Float32 | None = None,
        *,
        smallest: bool = False,
    ) -> Place:
        """(..., inputs) times (inputs, outputs), plus (outputs,); smallest: of the outputs alone,
        (..., 1)."""
        inputs, outputs = weights.shape
        if place.shape[-1] != inputs:
            raise ValueError("a product of different widths")
        rows = as_one(place.shape[:-1], place.strides[:-1])
        side_by_side = place.strides[-1] == 1 or inputs == 1
        if rows is None or rows[1] < 0 or not side_by_side or place.buffer == _CONSTANT:
            return self.matmul(self._copied(place), weights, bias, smallest=smallest)
        result = self._new((*place.shape[:-1], 1 if smallest else outputs))
        op = self._op("MATMUL", (), result)
        op.numbers |= {"rows": rows[0], "row_stride": rows[1], "k": inputs, "j": outputs}
        op.numbers["w"] = self._keep(weights)
        op.numbers["bias"] = _NOWHERE if bias is None else self._keep(bias)
        op.numbers["reduction"] = REDUCTIONS.index("smallest") if smallest else 0
        self._operand(op, "a", place, ())
        return result

    def lstm(
        self,
        place: Place,
        kernel: Float32,
        recurrent: Float32,
        bias: Float32,
        *,
        relu: bool,
        first: tuple[Place | None, Place | None],
        wanted: tuple[bool, bool, bool],
    ) -> tuple[Place | None, Place | None, Place | None]:
        """(steps, inputs) -> every state (steps, units), the last one and the last cell (units,),
        each where it is wanted. first: state and cell to begin with, None for zeros."""
        (steps, inputs), units = place.shape, recurrent.shape[0]
        if kernel.shape != (inputs, 4 * units) or recurrent.shape != (units, 4 * units):
            raise ValueError("an LSTM of different widths")
        side_by_side = place.strides[-1] == 1 or inputs == 1
        if place.strides[0] < 0 or not side_by_side or place.buffer == _CONSTANT:
            place = self._copied(place)
        shapes = ((steps, units), (units,), (units,))
        results = [self._new(s) if want else None for s, want in zip(shapes, wanted, strict=True)]
        op = self._op("LSTM", (), None)
        op.numbers |= {"steps": steps, "step_stride": place.strides[0] if steps > 1 else 0}
        op.numbers |= {"k": inputs, "j": units, "relu": int(relu)}
        op.numbers |= {"w": self._keep(kernel), "r": self._keep(recurrent)}
        op.numbers["bias"] = self._keep(bias)
        self._operand(op, "a", place, ())
        begins = [None if p is None else self._in_a_row(p) for p in first]
        if any(p is not None and p.size != units for p in begins):
            raise ValueError("a state of another width")
        names = ("to", "hidden", "cell", "first_hidden", "first_cell")
        for name, found in zip(names, (*results, *begins), strict=True):
            if found is None:
                op.numbers[name] = _NOWHERE
            else:
                op.places[name] = (found.buffer, found.offset)
        op.writes = tuple(r.buffer for r in results if r is not None)
        # What was copied for it stands behind it so far.
        self._ops.remove(op)
        self._ops.append(op)
        return results[0], results[1], results[2]

    def argmin(self, place: Place) -> Place:
        """(k,) -> where the smallest is, ()."""
        place = self._in_a_row(place)
        result = self._new(())
        op = self._op("ARGMIN", (), result)
        op.numbers["k"] = place.size
        self._operand(op, "a", place, ())
        return result

    def gather(self, rows: Float32, which: Place) -> Place:
        """The row (width,) of constant rows (k, width) that a number () says."""
        which = self._in_a_row(which)
        result = self._new(rows.shape[1:])
        op = self._op("GATHER", (), result)
        op.numbers |= {"k": rows.shape[0], "j": rows.shape[1]}
        self._operand(op, "a", self.constant(rows), ())
        self._operand(op, "b", which, ())
        return result

    def concat(self, parts: Sequence[Place], axis: int) -> Place:
        first = parts[0].shape
        rests = {p.shape[:axis] + p.shape[axis + 1 :] for p in parts}
        if len(rests) != 1:
            raise ValueError("parts of different shapes")
        width = sum(p.shape[axis] for p in parts)
        result = self._new((*first[:axis], width, *first[axis + 1 :]))
        for index in np.ndindex(first[:axis]):
            at = 0
            for part in parts:
                row, to = part, result
                for i in index:
                    row, to = row.at(0, i), to.at(0, i)
                size = part.shape[axis]
                self._write("COPY", [row], to.sliced(0, slice(at, at + size)), None)
                at += size
        return result

    def reshaped(self, place: Place, shape: tuple[int, ...]) -> Place:
        if math.prod(shape) != place.size:
            raise ValueError(f"{place.shape} as {shape}")
        place = self._in_a_row(place)
        return replace(place, shape=shape, strides=row_major(shape))

    # -- pieces

    def _keep(self, value: NDArray[Any]) -> int:
        at = self._floats
        self._constants.append(np.ascontiguousarray(value, np.float32).reshape(-1))
        self._floats += value.size
        return at

    def _new(self, shape: tuple[int, ...]) -> Place:
        self._sizes.append(math.prod(shape))
        return whole(len(self._sizes) - 1, shape)

    def _in_a_row(self, place: Place) -> Place:
        return place if place.contiguous and place.buffer != _CONSTANT else self._copied(place)

    def _copied(self, place: Place) -> Place:
        result = self._new(place.shape)
        self._write("COPY", [place], result, None)
        return result

    def _write(
        self,
        kind: str,
        operands: Sequence[Place],
        result: Place,
        bounds: tuple[float, float] | None,
    ) -> None:
        """Operands of the result's shape."""
        shape, strides = merged(result.shape, [o.strides for o in operands])
        op = self._op(kind, shape, result)
        for name, operand, own in zip("ab", operands, strides, strict=False):
            self._operand(op, name, operand, own)
        if bounds is not None:
            at = self._keep(np.array(bounds, np.float32))
            op.numbers |= {"low": at, "high": at + 1}

    def _op(self, kind: str, dims: Sequence[int], result: Place | None) -> _Op:
        op = _Op(dict.fromkeys(_FIELDS, 0) | {"kind": _KINDS.index(kind)})
        for d, size in enumerate((*(1,) * (DIMS - len(dims)), *dims) if len(dims) < DIMS else dims):
            op.numbers[f"dim_{d}"] = size
        if result is not None:
            op.places["to"] = (result.buffer, result.offset)
            op.writes = (result.buffer,)
        self._ops.append(op)
        return op

    def _operand(self, op: _Op, name: str, place: Place, strides: Sequence[int]) -> None:
        op.numbers[f"{name}.constant"] = int(place.buffer == _CONSTANT)
        op.places[f"{name}.at"] = (place.buffer, place.offset)
        for d, stride in enumerate((*(0,) * (DIMS - len(strides)), *strides)):
            op.numbers[f"{name}.stride_{d}"] = stride

    # -- the end

    def assemble(self) -> Code:
        begins, arena = self._allocate()
        rows = []
        for op in self._ops:
            numbers = dict(op.numbers)
            for name, (buffer, offset) in op.places.items():
                numbers[name] = offset if buffer == _CONSTANT else begins[buffer] + offset
            rows.append([numbers[name] for name in _FIELDS])
        outputs = [(begins[p.buffer] + p.offset, p.size) for p in self._outputs]
        nothing = [np.zeros(1, np.float32)]
        return Code(
            np.array(rows, np.int64).reshape(-1, len(_FIELDS)),
            np.concatenate(self._constants or nothing),
            np.array(outputs, np.int64).reshape(-1, 2),
            self._sizes[_WINDOW],
            arena,
        )

    def _allocate(self) -> tuple[list[int], int]:
        """Where each buffer begins, and the size of the arena: the first gap that is large
        enough, from the first operation that touches a buffer to the last."""
        end = len(self._ops)
        used: dict[int, tuple[int, int]] = {_WINDOW: (-1, end)}
        for i, op in enumerate(self._ops):
            for buffer in op.buffers():
                used[buffer] = (used.get(buffer, (i, i))[0], i)
        used[_WINDOW] = (-1, used[_WINDOW][1])
        for place in self._outputs:
            used[place.buffer] = (used[place.buffer][0], end)
        begins, arena = [0] * len(self._sizes), self._sizes[_WINDOW]
        taken: list[tuple[int, int, int]] = []  # begin, end, last operation
        for buffer in sorted(used, key=lambda b: used[b]):
            first, last = used[buffer]
            taken = sorted(t for t in taken if t[2] >= first)
            at = _first_gap(taken, self._sizes[buffer])
            begins[buffer] = at
            taken.append((at, at + self._sizes[buffer], last))
            arena = max(arena, at + self._sizes[buffer])
        return begins, arena


def _first_gap(taken: Sequence[tuple[int, int, int]], size: int) -> int:
    at = 0
    for begin, end, _ in taken:
        if begin - at >= size:
            break
        at = max(at, -(-end // _ALIGNED) * _ALIGNED)
    return at
