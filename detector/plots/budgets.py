"""Pictures of budgets: what of the events is found at the price of how many normal windows, and
whether the share above is the one that was allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detector.plots.picture import COLORS, new_figure

#: Of the score as calibrated, and of the same in the light of the tail of each series.
SIDE_COLORS = {"static": COLORS[1], "adaptive": COLORS[0]}
_MARKERS = {"static": "s", "adaptive": "o"}
#: Where the budgets of the one are written and of the other, in points from its mark.
_BESIDE = {"static": (8, -13), "adaptive": (-8, 6)}
_WIDTH = 5.2
#: A share of 0 is drawn at this part of the smallest that there is.
_FLOOR = 3.0

Point = Mapping[str, Any]


def draw_recall(points: Sequence[Point]) -> Figure:
    """Recall of events against the share of normal windows that was above, a line for each score.
    points: of all series, as the report has them."""
    known = [p for p in points if p["share_above"] is not None and p["recall"] is not None]
    figure = new_figure(_WIDTH, 3.8)
    axes = figure.add_subplot()
    floor = _floor(known)
    for side, own in _sides(known).items():
        places = [max(p["share_above"], floor) for p in own]
        recalls = [p["recall"] for p in own]
        _line(axes, side, places, recalls)
        for point, x, y in zip(own, places, recalls, strict=True):
            if _is_decade(point["budget"]):
                axes.annotate(
                    _short(point["budget"]), (x, y), xytext=_BESIDE[side],
                    textcoords="offset points", fontsize=8, color=SIDE_COLORS[side],
                    ha="center",
                )  # fmt: skip
    axes.set_xscale("log")
    axes.margins(x=0.12)
    axes.set_ylim(-0.1, 1.12)
    axes.set_xlabel(_beside_floor("normal windows above the threshold", known, floor))
    axes.set_ylabel("events found, share of all")
    axes.xaxis.set_major_formatter(_per_cent)
    if axes.lines:
        axes.legend(fontsize=8, loc="lower right")
    return figure


def draw_realised(points: Sequence[Point]) -> Figure:
    """The share of normal windows above at each budget; on the diagonal it is kept."""
    known = [p for p in points if p["share_above"] is not None]
    figure = new_figure(_WIDTH, 3.8)
    axes = figure.add_subplot()
    floor = _floor(known)
    budgets = [p["budget"] for p in known]
    if budgets:
        ends = [min(budgets), max(budgets)]
        axes.plot(ends, ends, color="#000000", linestyle="--", linewidth=1, label="as allowed")
    for side, own in _sides(known).items():
        _line(axes, side, [p["budget"] for p in own], [max(p["share_above"], floor) for p in own])
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("budget")
    axes.set_ylabel(_beside_floor("normal windows above", known, floor))
    axes.xaxis.set_major_formatter(lambda budget, _: f"{_short(budget)}\n{_per_cent(budget)}")
    axes.yaxis.set_major_formatter(_per_cent)
    if axes.lines:
        axes.legend(fontsize=8)
    return figure


def _sides(points: Sequence[Point]) -> dict[str, list[Point]]:
    """By the score, the smallest budget first."""
    found: dict[str, list[Point]] = {}
    for point in sorted(points, key=lambda one: float(one["budget"])):
        found.setdefault(point["score"], []).append(point)
    return {side: found[side] for side in SIDE_COLORS if side in found}


def _line(axes: Axes, side: str, xs: Sequence[float], ys: Sequence[float]) -> None:
    axes.plot(
        xs, ys, color=SIDE_COLORS[side], marker=_MARKERS[side], markersize=4, linewidth=1.4,
        label=side,
    )  # fmt: skip


def _floor(points: Sequence[Point]) -> float:
    """Where no share at all is drawn on a logarithmic axis."""
    shares = [p["share_above"] for p in points if p["share_above"] > 0]
    budgets = [p["budget"] for p in points]
    return min([*shares, *budgets], default=1.0) / _FLOOR


def _beside_floor(label: str, points: Sequence[Point], floor: float) -> str:
    none = any(p["share_above"] == 0 for p in points)
    return f"{label}; none: at {_per_cent(floor)}" if none else label


def _is_decade(budget: float) -> bool:
    return math.isclose(math.log10(budget), round(math.log10(budget)), abs_tol=1e-6)


def _short(budget: float) -> str:
    return f"1e{round(math.log10(budget))}"


def _per_cent(share: float, _: object = None) -> str:
    return f"{100 * share:.2g} %" if share < 0.995 else f"{100 * share:.0f} %"
