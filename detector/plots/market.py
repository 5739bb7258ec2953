"""What quotes are like: those of the simulated market beside recorded ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from detector.core.ticks import Float64
from detector.data.recorded_quotes import RecordedQuotes
from detector.data.stylized_facts import memory
from detector.plots.picture import COLORS, new_figure

_LAGS = np.unique(np.logspace(0, 2.6, 24).astype(int))


def draw_market(groups: Mapping[str, Sequence[RecordedQuotes]], *, pause_s: float) -> Figure:
    """A color for each group, a line for each of its stretches. Moves across a pause longer than
    pause_s are left out."""
    figure = new_figure(12, 7)
    axes = figure.subplots(2, 3).ravel().tolist()
    for (name, stretches), color in zip(groups.items(), COLORS, strict=False):
        for number, quotes in enumerate(stretches):
            label = name if number == 0 else None
            for ax, (x, y) in zip(axes, _lines(quotes, pause_s), strict=True):
                ax.plot(x, y, color=color, alpha=0.6, linewidth=0.9, label=label)
    _name(axes[0], "tails of moves", "|move| / median", "share beyond", "log", "log")
    _name(axes[1], "size of moves is remembered", "lag in ticks", "autocorrelation", "log")
    _name(axes[2], "moves bounce", "lag in ticks", "autocorrelation")
    _name(axes[3], "time between ticks", "gap / mean", "share beyond", "log", "log")
    _name(axes[4], "bursts of ticks", "lag in ticks", "autocorrelation of log gap", "log")
    _name(axes[5], "spreads", "spread / median", "share beyond", "log", "log")
    for ax in (axes[1], axes[2], axes[4]):
        ax.axhline(0, color="black", linewidth=0.5)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside upper center", ncols=8)
    return figure


def _lines(quotes: RecordedQuotes, pause_s: float) -> list[tuple[Float64, Float64]]:
    gaps = np.diff(quotes.time_ns) * 1e-9
    together = gaps <= pause_s
    gaps = gaps[together] / gaps[together].mean()
    moves = np.diff((quotes.bid + quotes.ask) / 2 / quotes.tick)[together]
    sizes = np.abs(moves)
    spread = (quotes.ask - quotes.bid) / quotes.tick
    lags = _LAGS[len(moves) > 2 * _LAGS]
    near = np.arange(1, 9)
    return [
        _beyond(sizes / max(float(np.median(sizes)), 0.5)),
        (lags, np.array([memory(sizes, lag) for lag in lags.tolist()])),
        (near, np.array([memory(moves, lag) for lag in near.tolist()])),
        _beyond(gaps),
        (lags, np.array([memory(np.log(gaps + 1e-3), lag) for lag in lags.tolist()])),
        _beyond(spread / max(float(np.median(spread)), 1.0)),
    ]


def _beyond(values: Float64) -> tuple[Float64, Float64]:
    """What share of the values is greater than each positive one: (m,) and (m,)."""
    ordered = np.sort(values)
    beyond = 1 - np.arange(1, len(ordered) + 1) / (len(ordered) + 1)
    kept = ordered > 1e-3
    return ordered[kept], beyond[kept]


def _name(
    ax: Axes, title: str, x: str, y: str, x_scale: str = "linear", y_scale: str = "linear"
) -> None:
    ax.set_title(title, fontsize=10)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    ax.set_xscale(x_scale)
    ax.set_yscale(y_scale)
