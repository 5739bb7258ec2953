"""The parts of a detector's score, each by itself: what it alone would have found.

A view gives evidence for each window; the score the product acts on is made of all of them. A
model whose score is one piece has none.
"""

from __future__ import annotations

import numpy as np

from detector.core.stretches import cut
from detector.core.ticks import Float32, Float64
from detector.model.directory import Artifact


def view_scores(artifact: Artifact, rows: Float32) -> dict[str, Float64]:
    """Name of each view of a model -> its evidence at every tick, (m,): of the window that ends
    there, NaN while warming; it reads no later tick. rows: (m, features), uninterrupted ticks of
    one series, as the model takes them, not scaled."""
    if artifact.score != "evidence":
        return {}
    scorer, length = artifact.open_scorer(threads=1), artifact.length
    calibrated = artifact.calibrated()
    found = np.full((len(calibrated.views), len(rows)), np.nan)
    rows = np.ascontiguousarray(rows, np.float32)
    begins = np.arange(max(0, len(rows) - length + 1))
    for start in range(0, len(begins), scorer.batch):
        numbers = scorer.look(cut(rows, begins[start : start + scorer.batch], length)).views
        at = start + length - 1
        found[:, at : at + len(numbers)] = calibrated.evidence(numbers).T
    return dict(zip(calibrated.views, found, strict=True))
