"""Windows, or sequences of any length, to vectors: the encoder of a model on its own."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detector.core.graphs import Graph
from detector.core.ticks import Float32

#: Sequences in one call of the engine, and ticks with their padding, but for a single sequence.
CHUNK, MOST_TICKS = 256, 65_536


class Encoder:
    """Asks a graph `encoder` (model/export.py)."""

    def __init__(self, graph: Graph) -> None:
        self._graph = graph
        self.features = int(graph.inputs["windows"][2])
        self.units = int(graph.outputs["encoding"][1])

    def encode_windows(self, windows: Float32) -> Float32:
        """(n, steps, features) -> (n, units)."""
        n, steps, _ = windows.shape
        if n == 0:
            return np.empty((0, self.units), np.float32)
        inputs = {"windows": windows, "lengths": np.full(n, steps, np.int32)}
        parts = [
            self._graph.run(["encoding"], {k: v[start : start + CHUNK] for k, v in inputs.items()})
            for start in range(0, n, CHUNK)
        ]
        encoding: Float32 = np.concatenate([part[0] for part in parts])
        return encoding

    def encode_sequences(self, sequences: Sequence[Float32]) -> Float32:
        """Sequences (steps, features) of any lengths above 0 -> (n, units), in their order.
        They are padded to the longest of a call; padding never changes a vector."""
        encoding = np.empty((len(sequences), self.units), np.float32)
        # Those of like length together: little padding.
        every = np.array([len(s) for s in sequences], np.int32)
        order = np.argsort(every, kind="stable")
        while len(order):
            ticks = every[order[:CHUNK]].astype(np.int64) * np.arange(1, len(order[:CHUNK]) + 1)
            count = max(1, int((ticks <= MOST_TICKS).sum()))
            chosen, order = order[:count].tolist(), order[count:]
            lengths = every[chosen]
            padded = np.zeros((len(chosen), int(lengths.max()), self.features), np.float32)
            for row, i in enumerate(chosen):
                padded[row, : len(sequences[i])] = sequences[i]
            inputs = {"windows": padded, "lengths": lengths}
            encoding[chosen] = self._graph.run(["encoding"], inputs)[0]
        return encoding
