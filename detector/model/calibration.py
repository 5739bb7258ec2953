"""The tail of held-out scores: a generalised Pareto fit by maximum likelihood (SciPy)."""

from __future__ import annotations

import numpy as np
from scipy.stats import genpareto

from detector.core.threshold import Tail
from detector.core.ticks import Float32

#: Share of the highest scores that make the tail (Siffer et al. 2017 use 2 %), and the fewest
#: excesses a fit is asked of.
TAIL_SHARE = 0.02
FEWEST_EXCESSES = 50


def fit_tail(scores: Float32) -> Tail:
    """The tail of scores, sorted ascending; needs more than FEWEST_EXCESSES of them."""
    n = len(scores)
    excesses = max(FEWEST_EXCESSES, int(n * TAIL_SHARE))
    start = float(scores[n - excesses - 1])
    above = scores[n - excesses :].astype(np.float64) - start
    above = above[above > 0]  # ties with the start carry no information on the shape
    if len(above) < FEWEST_EXCESSES // 2 or np.ptp(above) == 0:
        # Hardly any spread: an exponential tail through the mean excess is the cautious fit.
        mean = float(above.mean()) if len(above) else max(abs(start), 1.0) * 1e-3
        return Tail(start, 0.0, mean, max(len(above), 1), n)
    shape, _, scale = genpareto.fit(above, floc=0)
    return Tail(start, float(shape), float(scale), len(above), n)
