"""The views of a window, and how they come into the graph. A new view is a file here and a line in
VIEWS."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detector.model.graph import Graph
from detector.model.views import components, errors, memory, move, statistics
from detector.model.views.view import Normal, Seen, View

#: Fitted to normal windows, in the order in which they stand in the graph's output `views`.
VIEWS: tuple[Callable[[Normal], list[View]], ...] = (
    errors.fit,
    components.fit,
    memory.fit,
    statistics.fit,
    move.fit,
)


def fit_views(normal: Normal) -> tuple[View, ...]:
    """Those that have something to say beside this network."""
    return tuple(view for fit in VIEWS for view in fit(normal))


def add_views(graph: Graph, views: Sequence[View], seen: Seen) -> str:
    """All of them into the graph; their numbers side by side in `views`, (n, views)."""
    for view in views:
        view.add(graph, seen)
    return graph.add("Concat", [view.NAME for view in views], "views", axis=1)


__all__ = ["VIEWS", "Normal", "Seen", "View", "add_views", "fit_views"]
