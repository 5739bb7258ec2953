"""Vectors of windows or sequences, in the two directions in which they differ most."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure

from detector.core.ticks import Float64
from detector.data.encodings import Encodings
from detector.errors import DataError
from detector.plots.picture import COLORS, new_figure

ABOVE = "above the threshold"
_ABOVE_COLOR = COLORS[5]
_MOST_SERIES = 20


def draw_embeddings(found: Encodings, *, color: str) -> Figure:
    """The vectors in the two directions in which they differ most (principal components).
    color: series, label or alert."""
    points, shares = principal_components(found.vectors.astype(np.float64))
    groups = color_groups(found, color)
    figure = new_figure(7.5, 6)
    axes = figure.add_subplot()
    size = 8 if len(points) > 200 else 40
    for number, (name, rows) in enumerate(groups.items()):
        axes.scatter(
            points[rows, 0], points[rows, 1], s=size, alpha=0.6, linewidths=0,
            color=_color(name, number) if len(groups) <= len(COLORS) else None,
            label=f"{name} ({len(rows)})",
        )  # fmt: skip
    axes.set_xlabel(f"first component ({shares[0]:.0%} of the variance)")
    axes.set_ylabel(f"second component ({shares[1]:.0%})")
    axes.set_title(f"{len(points)} vectors of {found.vectors.shape[1]} numbers, by {color}")
    axes.legend(markerscale=2, fontsize=8, title=color)
    return figure


def _color(name: str, number: int) -> str:
    return _ABOVE_COLOR if name == ABOVE else COLORS[number]


def principal_components(vectors: Float64) -> tuple[Float64, tuple[float, float]]:
    """(n, units) -> (n, 2) and the share of the variance along each."""
    centred = vectors - vectors.mean(axis=0)
    covariance = centred.T @ centred
    values, directions = np.linalg.eigh(covariance)
    kept = directions[:, ::-1][:, :2]
    if kept.shape[1] < 2:  # an encoder of one unit
        kept = np.hstack([kept, np.zeros_like(kept)])
    total = float(values.sum()) or 1.0
    first, second = (*values[::-1][:2].tolist(), 0.0)[:2]
    return centred @ kept, (max(first, 0.0) / total, max(second, 0.0) / total)


def color_groups(found: Encodings, color: str) -> dict[str, Any]:
    """Name of each group -> its rows; the largest first, alerts last: on top."""
    if color == "label":
        if found.label is None:
            raise DataError("there is no column label in what was encoded: color by something else")
        names = ["none" if v != v else f"{v:g}" for v in found.label.tolist()]
    elif color == "alert":
        if found.anomalous is None:
            raise DataError("sequences have no score: color by series or label")
        names = [ABOVE if a else "below" for a in found.anomalous.tolist()]
    else:
        names = list(found.series)
    array = np.array(names)
    groups = {name: np.flatnonzero(array == name) for name in sorted(set(names))}
    largest = sorted(groups.items(), key=lambda item: (item[0] == ABOVE, -len(item[1])))
    if len(largest) > _MOST_SERIES:
        rest = np.concatenate([rows for _, rows in largest[_MOST_SERIES - 1 :]])
        others = len(largest) - _MOST_SERIES + 1
        largest = [*largest[: _MOST_SERIES - 1], (f"{others} others", rest)]
    return dict(largest)
