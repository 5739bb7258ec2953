"""A graph's nodes, fewer: what is wanted alone, and products together with what is done to them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from detector.engines.onnx_file import Node, OnnxGraph

#: A product with the bias that is added and the search for the smallest of each row. Inputs: the
#: source, the constant weights (k, j), the constant bias (j,) or ""; attributes: smallest, or alike
#: where all columns are the same and one will do.
PRODUCT = "Product"
#: Inputs of a product whose outputs need not be written down to find the smallest.
_MOST_AT_ONCE = 128


def fused(graph: OnnxGraph, wanted: Sequence[str]) -> list[Node]:
    """In the order of the graph."""
    nodes = _needed(graph, wanted)
    users: dict[str, list[Node]] = {name: [] for name in wanted}
    for node in nodes:
        for name in set(node.inputs):
            users.setdefault(name, []).append(node)

    def follower(name: str) -> Node | None:
        """The only one that asks for it."""
        several = users.get(name, [])
        return several[0] if len(several) == 1 and name not in wanted else None

    done: set[str] = set()
    found = []
    for node in nodes:
        if node.outputs[0] in done:
            continue
        if node.operator == "MatMul" and node.inputs[1] in graph.constants:
            node, within = _product(graph, node, follower)
            done |= within
        found.append(node)
    return found


def _needed(graph: OnnxGraph, wanted: Sequence[str]) -> list[Node]:
    needed, kept = set(wanted), []
    for node in reversed(graph.nodes):
        if needed & set(filter(None, node.outputs)):
            needed.update(node.inputs)
            kept.append(node)
    return kept[::-1]


def _product(
    graph: OnnxGraph, node: Node, follower: Callable[[str], Node | None]
) -> tuple[Node, set[str]]:
    """And the names of what became a part of it."""
    source, weights = node.inputs
    name, bias, smallest = node.outputs[0], "", False
    within: set[str] = set()
    width = graph.constants[weights].shape
    after = follower(name)
    if _alike(graph, weights) and after is not None and after.operator == "Slice":
        # A sum along a row stands there in as many copies as its writer's engine wanted.
        return Node(PRODUCT, (source, weights, ""), (name,), {"alike": True}), within
    if after is not None and after.operator == "Add":
        other = next((i for i in after.inputs if i != name), "")
        value = graph.constants.get(other)
        if value is not None and value.shape == width[1:]:
            bias, name = other, after.outputs[0]
            within.add(name)
            after = follower(name)
    if (
        after is not None
        and after.operator == "ReduceMin"
        and after.attributes.get("keepdims", 1)
        and np.array_equal(graph.constants[after.inputs[1]], [1])
        and width[0] <= _MOST_AT_ONCE
    ):
        smallest, name = True, after.outputs[0]
        within.add(name)
    return Node(PRODUCT, (source, weights, bias), (name,), {"smallest": smallest}), within


def _alike(graph: OnnxGraph, weights: str) -> bool:
    """Whether all columns are the same."""
    value = graph.constants[weights]
    return value.ndim == 2 and value.shape[1] > 1 and bool((value == value[:, :1]).all())
