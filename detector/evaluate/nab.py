"""The score of the Numenta Anomaly Benchmark (Lavin and Ahmad, ICMLA 2015, arXiv 1510.03336).

A window of time is labelled around each anomaly. The first detection in it counts, the earlier the
more; a detection outside costs, the farther behind a window the more; a window without any
costs a whole one. The first ticks of a series are for learning and count for nothing. Weights are
those of the standard profile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.ticks import Bool, Float64

FALSE_POSITIVE, FALSE_NEGATIVE = 0.11, 1.0
#: Part of a series that is for learning, of at most so many ticks.
_PROBATION, _PROBATION_OF = 0.15, 5000
#: Farther behind a window than three of its widths a detection is as wrong as can be.
_FAR = 3.0


@dataclass(frozen=True, slots=True)
class NabScore:
    """score: sum over the windows and false detections of a series; windows: how many."""

    score: float
    windows: int


def probation(ticks: int) -> int:
    """Ticks at the beginning of a series that count for nothing."""
    return int(_PROBATION * min(ticks, _PROBATION_OF))


def nab_score(detected: Bool, windows: Sequence[tuple[int, int]]) -> NabScore:
    """detected: (n,) the ticks of a series at which a detector speaks; windows: first and last
    tick of each, in order of time, apart from each other. As NAB does, a window that lies within
    the probation is missed."""
    begin = probation(len(detected))
    spoken = np.flatnonzero(detected)
    spoken = spoken[spoken >= begin]
    total = 0.0
    inside = np.zeros(len(spoken), np.bool_)
    for first, last in windows:
        here = (spoken >= first) & (spoken <= last)
        inside |= here
        if here.any():
            width = last - first + 1.0
            earliest = float(spoken[here][0])
            total += float(_sigmoid(-(last - earliest + 1) / width) / _sigmoid(-1.0))
        else:
            total -= FALSE_NEGATIVE
    wrong = spoken[~inside]
    if not len(wrong):
        return NabScore(total, len(windows))
    ends = np.array([last for _, last in windows], np.int64)
    widths = np.array([last - first for first, last in windows], np.float64)
    before = np.searchsorted(ends, wrong, side="left") - 1
    costs = np.full(len(wrong), -1.0)  # ahead of the first window: infinitely far behind any
    behind = before >= 0
    if behind.any():
        near = before[behind]
        past = (wrong[behind] - ends[near]) / np.maximum(widths[near], 1.0)
        costs[behind] = np.where(past > _FAR, -1.0, _sigmoid(np.minimum(past, _FAR)))
    return NabScore(total + FALSE_POSITIVE * float(costs.sum()), len(windows))


def final_score(scores: Sequence[NabScore]) -> float | None:
    """Of a corpus: 100 is perfect, 0 is a detector that never speaks, less is worse than that. None
    where there is no window."""
    windows = sum(one.windows for one in scores)
    if not windows:
        return None
    return 100 * (sum(one.score for one in scores) + windows) / (2 * windows)


def _sigmoid(position: float | Float64) -> Float64:
    """Near 1 at the beginning of a window (-1), 0 at its end, near -1 behind it (1)."""
    return np.asarray(2 / (1 + np.exp(5 * np.asarray(position))) - 1)
