"""The last move: from the tick before to the last."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from detector.core.ticks import Float64
from detector.model.graph import Graph
from detector.model.views.view import (
    Normal,
    Seen,
    View,
    as_column,
    divided,
    last_ticks,
    over,
    spread_of_errors,
    squared,
    without_company,
)


def fit(normal: Normal) -> list[View]:
    moves = normal.windows[:, -1] - normal.windows[:, -2]
    return [Move(spread_of_errors(np.square(moves)))]


@dataclass(frozen=True, slots=True)
class Move:
    """The largest squared move of a feature from one tick to the next, normalised."""

    NAME: ClassVar[str] = "move"
    scale: Float64

    def add(self, graph: Graph, seen: Seen) -> None:
        name = self.NAME
        two = last_ticks(graph, seen, name, 2) if seen.length > 2 else seen.windows
        parts = []
        for at in (0, 1):
            index = graph.constant(f"views.index_{at}", np.asarray(at, np.int64))
            parts.append(graph.add("Gather", [two, index], f"{name}.tick_{at}", axis=1))
        moved = squared(graph, parts[1], parts[0], name)
        moved = without_company(graph, moved, f"{name}.moved")
        divided(graph, moved, self.scale, f"{name}.features")
        as_column(graph, over(graph, "ReduceMax", f"{name}.features", f"{name}.largest"), name)
