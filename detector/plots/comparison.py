"""What several architectures came to, side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from detector.plots.picture import COLORS, new_figure


def draw_comparison(rows: Sequence[Mapping[str, Any]], *, measured: bool) -> Figure:
    """A bar for each variant, its height the mean over the seeds, a dot for each seed. measured:
    on test files with labels; else all there is to compare is speed and held-out error."""
    measures = {"vus_pr": "VUS-PR", "event_f1": "event F1"} if measured else {}
    measures |= {"held_out_error": "held-out error", "windows_per_s": "windows/s"}
    names = [str(row["variant"]).replace(":", "\n") for row in rows]
    figure = new_figure(1.5 + 0.55 * len(rows) * len(measures), 4)
    for axes, (measure, label) in zip(
        figure.subplots(1, len(measures), squeeze=False)[0], measures.items(), strict=True
    ):
        for x, row in enumerate(rows):
            values = [v for v in row[measure] if v is not None]
            if values:
                axes.bar(x, np.mean(values), color=COLORS[x % len(COLORS)], alpha=0.6)
                axes.plot([x] * len(values), values, "k.", markersize=5)
        axes.set_xticks(range(len(rows)), names, rotation=90, fontsize=8)
        axes.set_title(label, fontsize=10)
    return figure
