"""The tail of held-out scores: a generalised Pareto fit, cautious where the data is thin.

Three things make a plain maximum-likelihood fit promise too much:

- Too large a share of the scores mixes the body of the distribution into the tail. The tail's
  start is chosen from the data: the largest of a few shares whose fit a Kolmogorov-Smirnov test
  finds good, else the best of them (in short what Bader, Yan and Zhang 2018 propose in
  "Automated threshold selection for extreme value analysis").
- Windows overlap, so excesses come in clusters that saturate: the fit sees an end of the
  distribution (negative shape) where there is none. The shape is kept at 0 or above.
- The parameters are themselves uncertain. With k independent excesses of an exponential tail the
  next one follows a generalised Pareto distribution of shape 1/k (the predictive distribution
  under the scale-invariant prior; its coverage is exact), so 1/clusters is added to the shape.
"""

from __future__ import annotations

import math

import numpy as np
from scipy.stats import genpareto, kstest

from detector.core.thresholds.calibration import Tail
from detector.core.ticks import Float32, Float64, Int64

#: Shares tried, largest first (Siffer et al. 2017 use 2 % throughout), and the fewest excesses
#: a fit is asked of.
TAIL_SHARES = (0.02, 0.01, 0.005, 0.0025, 0.001)
FEWEST_EXCESSES = 50
#: Good enough to look no further up the tail. High on purpose: extrapolating a slightly wrong
#: fit by two orders of magnitude costs more than a few hundred excesses fewer.
_P_VALUE = 0.5
#: The most that is added to the shape. What is fitted is made of log(1 + evidence): evidence of
#: normal windows is exponential, so its logarithm has a far lighter tail than the fit allows for;
#: with a handful of clusters 1/k would move the threshold beyond anything that can ever happen.
_MOST_DOUBT = 0.25


def fit_tail(scores: Float32, position: Int64, *, length: int) -> Tail:
    """The tail of n scores, two at least.

    position: (n,) the first tick of each window, ascending; excesses whose windows share no
    tick belong to different clusters. length: ticks of a window.
    """
    n = len(scores)
    ascending = np.sort(scores)
    counts = [c for c in (int(n * s) for s in TAIL_SHARES) if c >= FEWEST_EXCESSES]
    best: tuple[float, Tail] | None = None
    # Of few scores a fifth, of hardly any a quarter: the best there is.
    few = max(1, min(FEWEST_EXCESSES, max(n // 5, min(20, n // 4))))
    for excesses in counts or [few]:
        start = float(ascending[n - excesses - 1])
        over = scores > start  # ties with the start carry no information on the shape
        clusters = 1 + int((np.diff(position[over]) >= length).sum())
        p_value, tail = _fit(scores[over].astype(np.float64) - start, start, n, clusters)
        if best is None or p_value > best[0]:
            best = (p_value, tail)
        if p_value >= _P_VALUE:
            break
    assert best is not None
    return best[1]


def in_evidence(tail: Tail) -> Tail:
    """The tail of the evidence itself: exponential, a decade for each unit, whatever the numbers
    behind it do."""
    start = -math.log10(tail.excesses / tail.windows)
    return Tail(start, 0.0, 1 / math.log(10), tail.excesses, tail.clusters, tail.windows)


def _fit(above: Float64, start: float, n: int, clusters: int) -> tuple[float, Tail]:
    """(p-value of the plain fit, cautious tail) of the excesses above start."""
    doubt = min(1 / clusters, _MOST_DOUBT)
    if len(above) < FEWEST_EXCESSES // 2 or np.ptp(above) == 0:
        # Hardly any spread: an exponential tail through the mean excess is the cautious fit.
        mean = float(above.mean()) if len(above) else max(abs(start), 1.0) * 1e-3
        return 0.0, Tail(start, doubt, mean, max(len(above), 1), clusters, n)
    shape, _, scale = genpareto.fit(above, floc=0)
    p_value = float(kstest(above, "genpareto", args=(shape, 0, scale)).pvalue)
    if shape < 0:
        shape, scale = 0.0, above.mean()
    return p_value, Tail(start, float(shape) + doubt, float(scale), len(above), clusters, n)
