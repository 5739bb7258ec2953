"""How well scores rank labelled anomalies, without a threshold.

VUS-PR (Paparrizos et al., VLDB 2022, "Volume Under the Surface"): the area under the
precision-recall curve where the labels have soft edges, averaged over the width of the edges.
Labels of real series rarely begin and end at the exact tick; the soft edge gives an alert just
beside one its part, and the existence factor asks that every anomaly be met, not only the long
ones. A random score, and one that is always the same, gets about the share of the ticks within the
soft edges: that of anomalous ticks where anomalies are longer than the window, far more where not.

The area is that of steps: each gain in recall counts with the precision at which it was made. A
straight line between two thresholds would give ties half of what a perfect ranking gets.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from detector.core.ticks import Bool, Float64, Int64

#: Widths of the edge between none and the widest: more change the third digit only.
_WIDTHS = 20


def vus_pr(scores: Float64, labels: Bool, *, width: int) -> float | None:
    """scores, labels: (n,) in order of time; a score that is not finite counts as the lowest.
    width: the widest soft edge, in ticks, on both sides of an anomaly together; the window
    length is a good choice. None where all or no ticks are labelled, or none has a score."""
    finite = np.isfinite(scores)
    if not labels.any() or labels.all() or not finite.any():
        return None
    ranked = np.where(finite, scores, scores[finite].min())
    order = np.argsort(-ranked, kind="stable")
    thresholds = np.unique(ranked)[::-1]
    predicted = np.searchsorted(-ranked[order], -thresholds, side="right")  # score >= threshold
    starts, ends = labelled_stretches(labels)
    widths = np.unique(np.linspace(0, width, min(_WIDTHS, width) + 1).astype(np.int64))
    areas = [
        _area(ranked, labels, order, thresholds, predicted, starts, ends, one)
        for one in widths.tolist()
    ]
    return float(np.mean(areas))


def _area(
    ranked: Float64,
    labels: Bool,
    order: Int64,
    thresholds: Float64,
    predicted: Int64,
    starts: Int64,
    ends: Int64,
    width: int,
) -> float:
    """Under the curve for one width of the edges."""
    weights = soft_labels(labels, starts, ends, width)
    right = np.cumsum(weights[order])[predicted - 1]
    positives = (labels.sum() + weights.sum()) / 2
    half = width // 2
    reach = zip(np.maximum(starts - half, 0).tolist(), (ends + half).tolist(), strict=True)
    highest = np.sort([ranked[start:end].max() for start, end in reach])
    met = (len(highest) - np.searchsorted(highest, thresholds, side="left")) / len(highest)
    recall = np.concatenate([[0.0], np.minimum(right / positives, 1.0) * met])
    return float(np.sum(np.diff(recall) * right / predicted))


def labelled_stretches(labels: Bool) -> tuple[Int64, Int64]:
    """The first tick of each uninterrupted stretch of labelled ones, and the one after its last."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], labels.astype(np.int8), [0]])))
    return edges[::2], edges[1::2]


def soft_labels(labels: Bool, starts: Int64, ends: Int64, width: int) -> NDArray[np.float64]:
    """1 inside an anomaly, sqrt(1 - d / width) at d <= width / 2 ticks beside it, else 0."""
    weights = labels.astype(np.float64)
    for distance in range(1, width // 2 + 1):
        weight = np.sqrt(1 - distance / width)
        for places in (starts - distance, ends - 1 + distance):
            inside = places[(places >= 0) & (places < len(weights))]
            weights[inside] = np.maximum(weights[inside], weight)
    return weights


def auc_pr(scores: Float64, labels: Bool) -> float | None:
    """Area under the precision-recall curve of single ticks, by steps (average precision: Davis and
    Goadrich 2006 on why no straight line). scores, labels: (n,); a score that is not finite counts
    as the lowest. None where all or no ticks are labelled, or none has a score."""
    curve = precision_recall(scores, labels)
    if curve is None:
        return None
    precision, recall = curve
    return float(np.sum(np.diff(recall, prepend=0.0) * precision))


def precision_recall(scores: Float64, labels: Bool) -> tuple[Float64, Float64] | None:
    """Precision and recall of single ticks at each distinct score, the highest first; (k,) both.
    None as auc_pr."""
    finite = np.isfinite(scores)
    if not labels.any() or labels.all() or not finite.any():
        return None
    ranked = np.where(finite, scores, scores[finite].min())
    order = np.argsort(-ranked, kind="stable")
    last = np.flatnonzero(np.diff(ranked[order], append=np.nan) != 0)  # of the ticks of each score
    right = np.cumsum(labels[order])[last]
    return right / (last + 1.0), right / float(labels.sum())
