"""Windows to numbers, through a model's graph.

The graph holds scaling, network, error and views: feature windows (n, length, features) in,
whatever the kind of network, normalised per-feature errors (n, features), how strange each view
finds each window (n, views), and what was expected of the window's last k ticks out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from detector.core.graphs import Engine, Graph
from detector.core.scaling import Scaling
from detector.core.ticks import Float32
from detector.core.windows import Windows


@dataclass(frozen=True, slots=True)
class Found:
    """errors: (w, features) normalised; views: (w, views)"""

    errors: Float32
    views: Float32


class Scorer(Protocol):
    """The two questions asked of a trained model. batch: windows in one call that it does best
    with."""

    @property
    def engine(self) -> Engine: ...

    @property
    def batch(self) -> int: ...

    def errors(self, windows: Float32) -> Float32:
        """(n, length, features) -> (n, features) normalised errors."""

    def reconstruct(self, windows: Float32) -> Float32:
        """(n, length, features) -> what the model expected of the last k ticks, (n, k, features),
        in the features' own units. k is the model's: all of them, or fewer."""


class ViewScorer(Scorer, Protocol):
    """Of a model whose graph holds views."""

    def look(self, windows: Float32) -> Found:
        """(n, length, features) -> errors and views."""

    def shares(self, windows: Float32, view: str) -> Float32:
        """(n, length, features) -> (n, features), what each feature has to do with it."""

    def nearest(self, windows: Float32, view: str) -> Float32 | None:
        """What a memory remembers that is nearest, of the last k ticks, (n, k, features), in the
        features' own units; None for a view that is no memory."""


class GraphScorer:
    """Asks a graph `scorer` (model/export.py). scaling undoes the graph's own for the few windows
    that are explained; the many that are only scored never pay for it."""

    def __init__(self, graph: Graph, scaling: Scaling) -> None:
        self._graph, self._scaling = graph, scaling
        _, length, features = graph.inputs["windows"]
        self.length, self.features = int(length), int(features)
        self.engine, self.batch = graph.engine, graph.batch
        # By position: earlier models call it scaled_reconstruction.
        self._expectation = list(graph.outputs)[1]

    def errors(self, windows: Float32) -> Float32:
        result: Float32 = self._graph.run(["errors"], {"windows": windows})[0]
        return result

    def reconstruct(self, windows: Float32) -> Float32:
        scaled = self._graph.run([self._expectation], {"windows": windows})[0]
        return self._scaling.undo(scaled.transpose(1, 0, 2))

    def look(self, windows: Float32) -> Found:
        errors, views = self._graph.run(["errors", "views"], {"windows": windows})
        return Found(errors, views)

    def shares(self, windows: Float32, view: str) -> Float32:
        result: Float32 = self._graph.run([f"{view}.features"], {"windows": windows})[0]
        return result

    def nearest(self, windows: Float32, view: str) -> Float32 | None:
        name = f"{view}.nearest"
        if name not in self._graph.outputs:
            return None
        return self._scaling.undo(self._graph.run([name], {"windows": windows})[0])


def all_errors(scorer: Scorer, windows: Windows, features: int) -> Float32:
    """Normalised errors (w, features) of all windows, in bounded memory."""
    errors = np.empty((len(windows), features), np.float32)
    for start in range(0, len(windows), scorer.batch):
        part = slice(start, start + scorer.batch)
        errors[part] = scorer.errors(windows.cut(part))
    return errors


def look_at_all(scorer: ViewScorer, windows: Windows, *, features: int, views: int) -> Found:
    """Errors and views of all windows, in bounded memory."""
    if 0 < len(windows) <= scorer.batch:
        return scorer.look(windows.cut(slice(None)))
    found = Found(
        np.empty((len(windows), features), np.float32), np.empty((len(windows), views), np.float32)
    )
    for start in range(0, len(windows), scorer.batch):
        part = slice(start, start + scorer.batch)
        seen = scorer.look(windows.cut(part))
        found.errors[part], found.views[part] = seen.errors, seen.views
    return found
