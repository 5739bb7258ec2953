"""When ticks arrive: a self-exciting point process (Hawkes, 1971), drawn by its clusters.

Some ticks come of themselves, at a rate that moves with the day and the news. Each of them, and
each of its followers, is followed by others: a share within the same burst, a share later. Drawn
generation by generation (Hawkes and Oakes, 1974), the process is exact and takes a handful of
array operations, however many ticks there are.
"""

from __future__ import annotations

import numpy as np

from detector.core.ticks import Float64

#: Mean number of ticks that follow one directly, and after how long (in mean intervals).
FOLLOWERS = (0.32, 0.42, 0.10)
DELAYS = (0.03, 0.40, 30.0)
_CLUSTER = 1 / (1 - sum(FOLLOWERS))  # ticks, with the one that came of itself


def arrivals(rate: Float64, *, random: np.random.Generator) -> Float64:
    """Times (n,), ascending, in mean intervals, from 0 to len(rate). rate: (steps,) how many ticks
    an interval are to be expected in each, followers included."""
    own = random.poisson(rate / _CLUSTER)
    generation = np.repeat(np.arange(len(rate), dtype=np.float64), own)
    generation += random.uniform(0, 1, len(generation))
    found = [generation]
    while len(generation):
        followers = [
            np.repeat(generation, random.poisson(mean, len(generation))) for mean in FOLLOWERS
        ]
        generation = np.concatenate(
            [
                times + random.exponential(delay, len(times))
                for times, delay in zip(followers, DELAYS, strict=True)
            ]
        )
        generation = generation[generation < len(rate)]
        found.append(generation)
    return np.sort(np.concatenate(found))
