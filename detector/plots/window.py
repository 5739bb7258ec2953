"""The window of an alert: what was observed, and what was expected."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from detector.core.alerts import Alert
from detector.core.moments import rfc3339
from detector.errors import DataError
from detector.plots.picture import COLORS, new_figure

OBSERVED, EXPECTED, ERROR = COLORS[7], COLORS[0], COLORS[5]
_MOST_FEATURES = 8  # rows of a window: more cannot be read


def draw_window(alert: Alert) -> Figure:
    """A row for each feature, the largest share of the score first: observed against expected, and
    their difference, in the feature's own units. Raises DataError if the alert has no window."""
    if not len(alert.observed):
        raise DataError(f"alert {alert.id}: of kind {alert.kind} has no window")
    shares = alert.contributions
    names = sorted(shares, key=lambda name: -shares[name])[:_MOST_FEATURES]
    columns = [list(shares).index(name) for name in names]
    observed, expected = alert.observed[:, columns], alert.expected[:, columns]
    ticks = np.arange(1, len(observed) + 1)
    about = ticks[len(ticks) - len(expected) :]
    figure = new_figure(10, 1.4 + 1.35 * len(names))
    grid = figure.subplots(len(names), 2, squeeze=False, sharex=True, width_ratios=(3, 1))
    for i, name in enumerate(names):
        left, right = grid[i]
        left.plot(ticks, observed[:, i], color=OBSERVED, marker=".", label="observed")
        left.plot(about, expected[:, i], color=EXPECTED, marker=".", label="expected")
        left.set_ylabel(f"{name}\n{shares[name]:.0%} of score", fontsize=9)
        right.bar(about, observed[-len(expected) :, i] - expected[:, i], color=ERROR)
    grid[0][0].legend(fontsize=8)
    grid[0][1].set_title("observed - expected", fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("tick of the window")
        axes.set_xlim(0, len(ticks) + 1)
    what = (
        f"{alert.series}: {alert.state.name.lower()} at {rfc3339(alert.time_ns)[:19]}Z, "
        f"score {alert.score:.3g}, threshold {alert.threshold:.3g}"
    )
    if alert.fault is not None:
        what += f", looks like {alert.fault.kind} ({alert.fault.probability:.0%})"
    if len(names) < len(shares):
        total = sum(shares[name] for name in names)
        what += f"\nthe {len(names)} of {len(shares)} features with the largest share: "
        what += f"{total:.0%} of the score"
    figure.suptitle(what, fontsize=10)
    return figure
