"""A serialized ONNX model as plain numbers: as much of the format as a model's graphs use.

The package onnx does the same and more; it is needed for writing alone, and a scoring install
does without. Fields by number: onnx.proto, version 1.16. Raises ValueError for what it cannot read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.graphs import Shape

_TYPES = {1: np.float32, 6: np.int32, 7: np.int64}
#: What comes of fields of another kind than they should be.
_STRANGE = (AttributeError, IndexError, KeyError, TypeError, OverflowError, struct.error)
#: Of a wire type, the bytes of a value of fixed size.
_FIXED = {1: 8, 5: 4}


@dataclass(frozen=True, slots=True)
class Node:
    operator: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class OnnxGraph:
    """nodes: each after those it reads; inputs, outputs: by name, in order; types: of the inputs,
    as ONNX numbers them."""

    nodes: tuple[Node, ...]
    constants: Mapping[str, NDArray[Any]]
    inputs: Mapping[str, Shape]
    outputs: Mapping[str, Shape]
    types: Mapping[str, int]


def read_graph(serialized: bytes) -> OnnxGraph:
    """Raises ValueError."""
    try:
        return _graph(_one(serialized, 7))
    except _STRANGE as error:
        raise ValueError(f"no ONNX model: {error!r}") from None


def _graph(content: bytes) -> OnnxGraph:
    nodes: list[Node] = []
    constants: dict[str, NDArray[Any]] = {}
    described: dict[int, dict[str, Shape]] = {11: {}, 12: {}}
    types: dict[str, int] = {}
    for field, value in _fields(content):
        if field == 1:
            nodes.append(_node(value))
        elif field == 5:
            name, tensor = _tensor(value)
            constants[name] = tensor
        elif field in described:
            name, shape, kind = _described(value)
            described[field][name] = shape
            if field == 11:
                types[name] = kind
    return OnnxGraph(tuple(nodes), constants, described[11], described[12], types)


def _node(content: bytes) -> Node:
    texts: dict[int, list[str]] = {1: [], 2: [], 4: []}
    attributes = {}
    for field, value in _fields(content):
        if field in texts:
            texts[field].append(value.decode())
        elif field == 5:
            name, number = _attribute(value)
            attributes[name] = number
    return Node(texts[4][0], tuple(texts[1]), tuple(texts[2]), attributes)


def _attribute(content: bytes) -> tuple[str, Any]:
    name, value, several = "", None, []
    for field, found in _fields(content):
        if field == 1:
            name = found.decode()
        elif field == 2:
            value = struct.unpack("<f", found)[0]
        elif field == 3:
            value = _signed(found)
        elif field == 4:
            value = found.decode()
        elif field == 8:
            several += [found] if isinstance(found, int) else _varints(found)
        elif field == 9:
            several.append(found.decode())
    if several:
        return name, [_signed(v) if isinstance(v, int) else v for v in several]
    return name, value


def _tensor(content: bytes) -> tuple[str, NDArray[Any]]:
    name, kind, raw = "", 0, b""
    dims: list[int] = []
    for field, value in _fields(content):
        if field == 1:
            dims += [value] if isinstance(value, int) else _varints(value)
        elif field == 2:
            kind = value
        elif field == 8:
            name = value.decode()
        elif field == 9:
            raw = value
        elif field in (4, 5, 7):
            raise ValueError(f"the tensor {name!r} is not stored as raw bytes")
    array = np.frombuffer(raw, np.dtype(_TYPES[kind]).newbyteorder("<")).astype(_TYPES[kind])
    return name, array.reshape([_signed(d) for d in dims])


def _described(content: bytes) -> tuple[str, Shape, int]:
    name = _one(content, 1).decode()
    tensor = _one(_one(content, 2), 1)
    shape: list[int | str] = []
    for field, dimension in _fields(_one(tensor, 2)):
        if field == 1:
            (_, value), *_ = _fields(dimension)
            shape.append(value if isinstance(value, int) else value.decode())
    return name, tuple(shape), _one(tensor, 1)


def _one(content: bytes, wanted: int) -> Any:
    for field, value in _fields(content):
        if field == wanted:
            return value
    raise ValueError(f"no ONNX model: field {wanted} is absent")


def _fields(content: bytes) -> Iterator[tuple[int, Any]]:
    """Numbers of varints are ints; everything else is bytes."""
    at = 0
    value: Any
    while at < len(content):
        key, at = _varint(content, at)
        wire = key & 7
        if wire == 0:
            value, at = _varint(content, at)
        else:
            if wire == 2:
                size, at = _varint(content, at)
            else:
                size = _FIXED[wire]
            value = content[at : at + size]
            if len(value) < size:
                raise ValueError("no ONNX model: it is cut short")
            at += size
        yield key >> 3, value


def _varint(content: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = content[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("no ONNX model: a number is too long")


def _varints(content: bytes) -> list[int]:
    found, at = [], 0
    while at < len(content):
        value, at = _varint(content, at)
        found.append(value)
    return found


def _signed(value: int) -> int:
    return value - (1 << 64) if value >= 1 << 63 else value
