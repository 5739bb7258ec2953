"""The tail of held-out scores: a generalised Pareto fit by maximum likelihood (SciPy).

Where the tail begins is chosen from the data: the largest of a few shares of the scores whose
fit a Kolmogorov-Smirnov test finds good, else the best of them (in short what Bader, Yan and
Zhang 2018 propose in "Automated threshold selection for extreme value analysis"). A share that
is too large mixes the body of the distribution into the tail, and an extrapolation from it can
be off by far.
"""

from __future__ import annotations

import numpy as np
from scipy.stats import genpareto, kstest

from detector.core.threshold import Tail
from detector.core.ticks import Float32, Float64

#: Shares tried, largest first (Siffer et al. 2017 use 2 % throughout), and the fewest excesses
#: a fit is asked of.
TAIL_SHARES = (0.02, 0.01, 0.005, 0.0025, 0.001)
FEWEST_EXCESSES = 50
#: Good enough to look no further up the tail. High on purpose: extrapolating a slightly wrong
#: fit by two orders of magnitude costs more than a few hundred excesses fewer.
_P_VALUE = 0.5


def fit_tail(scores: Float32) -> Tail:
    """The tail of scores, sorted ascending; needs more than FEWEST_EXCESSES of them."""
    n = len(scores)
    counts = [c for c in (int(n * s) for s in TAIL_SHARES) if c >= FEWEST_EXCESSES]
    best: tuple[float, Tail] | None = None
    for excesses in counts or [FEWEST_EXCESSES]:
        start = float(scores[n - excesses - 1])
        above = scores[n - excesses :].astype(np.float64) - start
        above = above[above > 0]  # ties with the start carry no information on the shape
        p_value, tail = _fit(above, start, n)
        if best is None or p_value > best[0]:
            best = (p_value, tail)
        if p_value >= _P_VALUE:
            break
    assert best is not None
    return best[1]


def _fit(above: Float64, start: float, n: int) -> tuple[float, Tail]:
    """(p-value, tail) of the excesses above start."""
    if len(above) < FEWEST_EXCESSES // 2 or np.ptp(above) == 0:
        # Hardly any spread: an exponential tail through the mean excess is the cautious fit.
        mean = float(above.mean()) if len(above) else max(abs(start), 1.0) * 1e-3
        return 0.0, Tail(start, 0.0, mean, max(len(above), 1), n)
    shape, _, scale = genpareto.fit(above, floc=0)
    p_value = float(kstest(above, "genpareto", args=(shape, 0, scale)).pvalue)
    return p_value, Tail(start, float(shape), float(scale), len(above), n)
