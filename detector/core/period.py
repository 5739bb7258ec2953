"""The dominant period of data, and the window that suits it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from detector.core.ticks import Float32, Float64

#: Bounds of a window that is chosen from data, in ticks: what is shorter tells little of a shape,
#: what is longer costs more than it told where it was tried.
SHORTEST, LONGEST = 16, 128
#: Where nothing repeats.
DEFAULT = 32
#: Autocorrelation, averaged over features, from which on a repetition counts as one; how near to
#: the highest a peak is at which it repeats already; times it must fit into an uninterrupted run.
_LEAST = 0.2
_NEAR = 0.8
_TIMES = 8
#: Ticks that are looked at, of the longest runs.
_MOST_TICKS = 100_000


def window_length(runs: Sequence[Float32]) -> tuple[int, int | None]:
    """What suits uninterrupted runs of features, each (m, features): as many whole periods as it
    takes to be SHORTEST ticks long, and the period; DEFAULT and None where no period up to LONGEST
    is found."""
    period = dominant_period(runs, most=LONGEST)
    if period is None:
        return DEFAULT, None
    return period * -(-SHORTEST // period), period


def dominant_period(runs: Sequence[Float32], *, most: int) -> int | None:
    """The lag, 2 to most ticks, at which the data repeats itself: the first peak of the
    autocorrelation that is nearly as high as its highest, features (that move) and runs averaged,
    what changes more slowly than 2 * most ticks taken off. None where none is high enough."""
    left, total, weight = _MOST_TICKS, np.zeros(most + 2), np.zeros(most + 2)
    for rows in sorted(runs, key=len, reverse=True):
        rows = rows[-left:] if left else rows[:0]
        longest = min(most + 1, len(rows) // _TIMES)
        moving = rows[:, (rows != rows[:1]).any(axis=0)].astype(np.float64)
        if longest < 3 or moving.shape[1] == 0:
            continue
        left -= len(rows)
        total[: longest + 1] += len(rows) * _autocorrelation(moving, longest, 2 * most)
        weight[: longest + 1] += len(rows)
    found = total / np.maximum(weight, 1)
    inner = found[1:-1]
    # Where a run drops out, or all have, there is a step, and no peak.
    known = (weight[1:-1] == weight[:-2]) & (weight[1:-1] == weight[2:]) & (weight[1:-1] > 0)
    high = (inner > found[:-2]) & (inner >= found[2:]) & (inner >= _LEAST)
    peaks = 1 + np.flatnonzero(high & known)
    # Neighbours are alike without any period: what repeats has been different in between.
    different = np.flatnonzero(found < _LEAST / 2)
    peaks = peaks[peaks > different[0]] if len(different) else peaks[:0]
    if len(peaks) == 0:
        return None
    first = int(peaks[found[peaks] >= _NEAR * found[peaks].max()][0])
    # Noise makes small peaks on the way up a broad one.
    near = slice(first, min(first + first // 2, most) + 1)
    return first + int(np.where(weight[near] == weight[first], found[near], 0.0).argmax())


def _autocorrelation(rows: Float64, longest: int, slow: int) -> Float64:
    """(longest + 1,) from lag 0 on, the mean over features; every lag by its own number of pairs.
    slow: ticks of the moving average that is taken off."""
    n = len(rows)
    sums = np.concatenate([np.zeros((1, rows.shape[1])), np.cumsum(rows - rows[0], axis=0)])
    at = np.arange(n)
    # As far back as forth: at the ends too a trend is level.
    around = np.minimum(np.minimum(at, n - 1 - at), slow // 2)
    level = (sums[at + around + 1] - sums[at - around]) / (2 * around + 1)[:, None]
    rows = rows - rows[0] - level
    size = 1 << (n + longest).bit_length()
    spectrum = np.fft.rfft(rows, size, axis=0)
    products = np.fft.irfft(np.square(np.abs(spectrum)), size, axis=0)[: longest + 1]
    pairs = (n - np.arange(longest + 1))[:, None]
    power = products[0] / n
    moving = power > 0
    if not moving.any():
        return np.zeros(longest + 1)
    result: Float64 = (products[:, moving] / pairs / power[moving]).mean(axis=1)
    return result
