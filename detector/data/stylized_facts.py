"""What quotes are like, in numbers that can be laid beside those of other quotes: the tails of
their moves, how far their size is remembered, how bursts of arrivals and spreads are distributed
(Cont, Empirical properties of asset returns, 2001). None depends on the unit of price or time."""

from __future__ import annotations

import numpy as np

from detector.core.ticks import Float64, Int64

LAGS = (1, 10, 100)


def stylized_facts(
    time_ns: Int64, bid: Float64, ask: Float64, *, tick: float, pause_s: float = np.inf
) -> dict[str, float]:
    """Of n ticks of one series in order. tick: the least step of the price; moves across a pause
    longer than pause_s (a weekend) are left out.

    move_...: of the middle; |move| quantiles as multiples of its median, at least half a tick.
    gap_...: of the time between ticks, quantiles as multiples of the mean; the memory of its
    logarithm. spread_...: quantiles in multiples of its median."""
    gaps = np.diff(time_ns) * 1e-9
    together = gaps <= pause_s
    gaps = gaps[together]
    moves = np.diff((bid + ask) / 2 / tick)[together]
    sizes = np.abs(moves)
    typical = max(float(np.median(sizes)), 0.5)
    mean_gap = float(gaps.mean())
    spread = (ask - bid) / tick
    middle = max(float(np.median(spread)), 1.0)
    # The clock of many feeds ticks in milliseconds: gaps far below the mean count as one.
    log_gaps = np.log(gaps + 1e-3 * mean_gap)
    return {
        "move_excess_kurtosis": float(_standardized(moves, 4) - 3),
        "move_q99_to_median": float(np.quantile(sizes, 0.99)) / typical,
        "move_q99.9_to_median": float(np.quantile(sizes, 0.999)) / typical,
        "move_memory_1": memory(moves, 1),
        **{f"move_size_memory_{lag}": memory(sizes, lag) for lag in LAGS},
        "gap_variation": float(gaps.std()) / mean_gap,
        **{
            f"gap_q{q}_to_mean": float(np.quantile(gaps, q / 100)) / mean_gap
            for q in (5, 50, 95, 99)
        },
        "gap_max_to_mean": float(gaps.max()) / mean_gap,
        **{f"gap_memory_{lag}": memory(log_gaps, lag) for lag in LAGS},
        "spread_median_ticks": middle,
        **{
            f"spread_q{q}_to_median": float(np.quantile(spread, q / 100)) / middle
            for q in (5, 95, 99)
        },
    }


def memory(values: Float64, lag: int) -> float:
    """Autocorrelation at that lag; 0 of values that are all the same."""
    around = values - values.mean()
    variance = float((around**2).mean())
    return float((around[:-lag] * around[lag:]).mean()) / variance if variance else 0.0


def _standardized(values: Float64, power: int) -> float:
    return float((((values - values.mean()) / values.std()) ** power).mean())
