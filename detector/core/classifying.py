"""Windows of alerts to the kind of fault they look like, through the model's classifier."""

from __future__ import annotations

from collections.abc import Sequence

from detector.core.alerts import LikelyFault
from detector.core.graphs import Graph
from detector.core.ticks import Float32


class FaultClassifier:
    """Asks a graph `classifier` (model/export.py). classes: what its outputs stand for: the first
    is a normal window, the others are kinds of faults."""

    def __init__(self, graph: Graph, classes: Sequence[str]) -> None:
        self._graph = graph
        self.classes = tuple(classes)
        _, length, features = graph.inputs["windows"]
        self.length, self.features = int(length), int(features)
        self.outputs = int(graph.outputs["probabilities"][1])

    def classify(self, window: Float32) -> LikelyFault:
        """(length, features) -> the likeliest fault, improbable where the window looks normal. A
        window at a time: in a batch the last bits of a probability would depend on its company,
        and a replay may bring another."""
        found = self._graph.run(["probabilities"], {"windows": window[None]})[0][0]
        best = 1 + int(found[1:].argmax())
        # A softmax in float32 may end a hair above 1.
        return LikelyFault(self.classes[best], min(round(float(found[best]), 6), 1.0))
