"""What the network got wrong, in the whole window and in its last ticks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from detector.core.ticks import Float64
from detector.model.graph import Graph
from detector.model.views.view import Normal, Seen, View, as_column, divided, over, spread_of_errors


def fit(normal: Normal) -> list[View]:
    """What a feature's error in the window is divided by is in the graph already."""
    found: list[View] = [WindowError()]
    if normal.last is not None:
        found.append(LastError(spread_of_errors(normal.last)))
    return found


@dataclass(frozen=True, slots=True)
class WindowError:
    """The largest normalised error of a feature over the window."""

    NAME: ClassVar[str] = "error"

    def add(self, graph: Graph, seen: Seen) -> None:
        largest = over(graph, "ReduceMax", seen.errors, f"{self.NAME}.largest")
        as_column(graph, largest, self.NAME)
        graph.add("Identity", [seen.errors], f"{self.NAME}.features")


@dataclass(frozen=True, slots=True)
class LastError:
    """The same over the last ticks alone: a mean over many buries what broke just now."""

    NAME: ClassVar[str] = "last_error"
    scale: Float64

    def add(self, graph: Graph, seen: Seen) -> None:
        errors = divided(graph, seen.last, self.scale, f"{self.NAME}.features")
        as_column(graph, over(graph, "ReduceMax", errors, f"{self.NAME}.largest"), self.NAME)
