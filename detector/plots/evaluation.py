"""Pictures of an evaluation: who ranks best, at what precision, and each series against its
threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from detector.plots.picture import COLORS, new_figure

#: Kinds of scorers told apart by color, and in the table by name.
KIND_COLORS = {
    "detector": COLORS[0], "view": COLORS[4], "baseline": COLORS[1], "published": "#999999",
}  # fmt: skip
SCORE, LABELLED, ALERT, THRESHOLD = COLORS[0], COLORS[6], COLORS[5], COLORS[7]
#: Narrow: a telephone shows it at two thirds of its size.
_WIDTH = 5.2
_MOST_CURVES = 8
#: Multiples of the threshold: a score that goes beyond is drawn by its logarithm.
_MOST_LINEAR = 20.0


def draw_bars(scorers: Sequence[Mapping[str, Any]]) -> Figure:
    """Mean VUS-PR of each scorer with its interval."""
    known = [one for one in scorers if one["vus_pr"]["value"] is not None]
    figure = new_figure(_WIDTH, 0.7 + 0.28 * max(len(known), 1))
    axes = figure.add_subplot()
    for y, one in enumerate(known):
        mean = one["vus_pr"]
        axes.barh(y, mean["value"], color=KIND_COLORS[one["kind"]])
        if mean["interval"]:
            low, high = mean["interval"]
            axes.plot([low, high], [y, y], color="#000000", linewidth=1.2, marker="|", markersize=6)
    names = [_bar_name(one, known[0]["vus_pr"]["series"]) for one in known]
    axes.set_yticks(range(len(known)), names, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, None)
    axes.set_xlabel("VUS-PR, mean over series")
    return figure


def _bar_name(one: Mapping[str, Any], series: int) -> str:
    """With what it is where it is not ours, and over how many series where not over all."""
    count = one["vus_pr"]["series"]
    name = f"{one['name']}, published" if one["kind"] == "published" else str(one["name"])
    return name if count == series else f"{name} ({count} of {series})"


def draw_curves(sketches: Sequence[Any], names: Sequence[str]) -> Figure:
    """Precision against recall of single ticks, the mean over series; names: of which scorers, the
    detector first."""
    figure = new_figure(_WIDTH, 3.8)
    axes = figure.add_subplot()
    for number, name in enumerate(names[:_MOST_CURVES]):
        curves = [one.curves[name] for one in sketches if name in one.curves]
        if curves:
            recalls = np.linspace(0, 1, len(curves[0]) + 1)[1:]
            axes.plot(
                recalls, np.mean(curves, axis=0), label=name, color=COLORS[number],
                linewidth=2.2 if number == 0 else 1.1, linestyle="-" if number == 0 else "--",
            )  # fmt: skip
    axes.set_xlim(0, 1)
    axes.set_ylim(0, 1.02)
    axes.set_xlabel("recall (share of labelled ticks)")
    axes.set_ylabel("precision")
    if axes.lines:
        figure.legend(fontsize=7, loc="outside lower center", ncols=4, frameon=False)
    return figure


def draw_shares(series: Sequence[Mapping[str, Any]], budget: float) -> Figure:
    """Share of normal windows above the threshold in each series, against the budget of all; those
    over their own stand out."""
    found = sorted(
        (share, share > one["budget"])
        for one in series
        if (share := one["at_threshold"]["share_above"]) is not None
    )
    shares = [share for share, _ in found]
    figure = new_figure(_WIDTH, 3.0)
    axes = figure.add_subplot()
    axes.set_yscale("log")
    low = budget / 30
    heights = np.maximum(np.array(shares, np.float64), low)
    colors = [ALERT if over else SCORE for _, over in found]
    axes.scatter(np.arange(1, len(shares) + 1), heights, color=colors, s=22, zorder=3)
    axes.axhline(budget, color=THRESHOLD, linestyle="--", linewidth=1, label=f"budget {budget:.3%}")
    axes.set_ylim(low / 1.5, max(1.0, *heights) * 1.5 if len(heights) else 1.0)
    axes.yaxis.set_major_formatter(lambda share, _: f"{100 * share:g}%")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"series, lowest first; no window above: drawn at {100 * low:.2g}%")
    axes.set_ylabel("normal windows above")
    axes.set_xlim(0, len(shares) + 1)
    axes.legend(fontsize=8)
    return figure


def draw_series(name: str, sketch: Any) -> Figure:
    """The score in multiples of the threshold, labelled stretches shaded, alerts marked."""
    figure = new_figure(_WIDTH, 2.1)
    axes = figure.add_subplot()
    score = np.asarray(sketch.score, np.float64)
    threshold = float(sketch.threshold) or 1.0
    places = (np.arange(len(score)) + 0.5) * sketch.ticks / max(len(score), 1)
    ratio = np.maximum(score / threshold, 0.0)
    least = sketch.ticks / 200  # a single tick would not be seen
    for number, (start, end) in enumerate(sketch.labelled):
        axes.axvspan(
            start, max(end, start + least), color=LABELLED, alpha=0.6, linewidth=0,
            label="labelled" if number == 0 else None,
        )  # fmt: skip
    if sketch.prefix:
        axes.axvspan(0, sketch.prefix, color="#dddddd", linewidth=0, label="prefix")
    axes.plot(places, ratio, color=SCORE, linewidth=0.8, label="score")
    axes.axhline(1.0, color=THRESHOLD, linestyle="--", linewidth=0.9, label="threshold")
    finite = ratio[np.isfinite(ratio)]
    top = max(2.0, float(finite.max())) if len(finite) else 2.0
    if sketch.alerts:
        axes.plot(
            sketch.alerts, [top * 1.08] * len(sketch.alerts), linestyle="", marker="v",
            color=ALERT, markersize=5, label="alert opened",
        )  # fmt: skip
    if top > _MOST_LINEAR:
        axes.set_yscale("symlog", linthresh=1.0)
        axes.set_ylim(0, top * 2)
    else:
        axes.set_ylim(0, top * 1.2)
    axes.set_xlim(0, sketch.ticks)
    axes.set_xlabel("ticks", fontsize=8)
    axes.set_ylabel("score / threshold", fontsize=8)
    axes.tick_params(labelsize=7)
    axes.set_title(name, fontsize=8)
    axes.legend(fontsize=6, loc="upper center", bbox_to_anchor=(0.5, -0.3), ncols=5, frameon=False)
    return figure
