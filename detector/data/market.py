"""A simulated market in good health: what quotes do when nothing is broken.

Ticks arrive in bursts (data/arrivals.py). Volatility is high for some ticks or for hours, in one
series or in all (data/weather.py); prices jump, have heavy tails and move in ticks. A quote renews
one side or both, so that the middle bounces and a fast move may cross it for a moment. News reaches
every series: a jump, a burst of quotes, wide spreads. All of this is normal. It knows no faults.

The clock runs with the ticks: the day is that of some thousand ticks, so that several fit into
what a demonstration can train on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.ticks import Bool, Float64, Int64
from detector.data.arrivals import arrivals
from detector.data.weather import NEWS_INTERVALS, Weather, weather

INTERVAL_S = 0.05  # between ticks of an average series, on average
TICK_SIZE = 0.001
_DECIMALS = 3
_BEFORE = 200  # intervals before the start, until bursts are as frequent as later
_JUMPS_EVERY = 3_000  # ticks, on average


@dataclass(frozen=True, slots=True)
class Character:
    """What a series is like, whatever the seed: another seed is the same market on another day.

    activity: ticks an interval; move_ticks: standard deviation of the price from quote to quote;
    noise_ticks: of a quote around the price; both, still: share of the quotes that renew both
    sides, neither; drift: of price, spread and volume, as a multiple of a slow one."""

    price: float
    activity: float
    spread_ticks: float
    move_ticks: float
    noise_ticks: float
    both: float
    still: float
    volume: float
    drift: float = 0.0


#: Quiet series that renew both sides with some flicker, and busy ones where either side moves.
CHARACTERS = (
    Character(80, 1.0, 24, 1.4, 1.2, 0.70, 0.08, 300),
    Character(65, 1.7, 7, 1.2, 0.3, 0.05, 0.02, 900),
    Character(90, 0.5, 30, 1.9, 1.4, 0.60, 0.12, 120),
    Character(75, 1.2, 10, 1.2, 0.5, 0.20, 0.04, 500, drift=1.0),
    Character(85, 0.7, 20, 1.6, 1.0, 0.50, 0.10, 200),
    Character(60, 1.4, 6, 1.1, 0.3, 0.05, 0.02, 1200),
    Character(95, 0.6, 26, 1.7, 1.5, 0.65, 0.08, 150, drift=-1.0),
    Character(70, 0.9, 12, 1.3, 0.6, 0.30, 0.05, 400),
)


@dataclass(frozen=True, slots=True)
class News:
    """A burst that reaches every series: start_ns <= event time <= end_ns. Normal."""

    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Quotes:
    """n ticks of a series. time_ns: (n,) strictly ascending; bid, ask: (n,) whole numbers of
    TICK_SIZE; volume: (n,) whole lots, at least one."""

    time_ns: Int64
    bid: Float64
    ask: Float64
    volume: Float64

    @property
    def values(self) -> Float64:
        """(n, 3): bid, ask, volume."""
        # Rounded, as 80123 * 0.001 is not the number that "80.123" is read as.
        prices = np.round(np.stack([self.bid, self.ask], axis=1) * TICK_SIZE, _DECIMALS)
        return np.column_stack([prices, self.volume])


def market(
    *, series: int, ticks: int, start_ns: int, random: np.random.Generator
) -> tuple[list[Quotes], tuple[News, ...]]:
    """The first `ticks` ticks of all series together after start_ns, and the news among them."""
    characters = [CHARACTERS[i % len(CHARACTERS)] for i in range(series)]
    activity = np.array([c.activity for c in characters])
    intervals = 100 + ticks // series
    times: list[Float64] = []
    while sum(map(len, times)) < ticks:
        intervals = intervals * 5 // 4
        outside = weather(
            activity=(activity / activity.mean()).tolist(),
            drift=[c.drift for c in characters],
            intervals=_BEFORE + intervals,
            random=random,
        )
        found = (arrivals(rate, random=random) for rate in outside.rate.T)
        times = [time[time > _BEFORE] for time in found]
    end = np.sort(np.concatenate(times))[ticks - 1]
    quotes = [
        _quotes(character, times[i][times[i] <= end], outside, i, start_ns, random)
        for i, character in enumerate(characters)
    ]
    happened = outside.news[(outside.news > _BEFORE) & (outside.news <= end)]
    begun, over = (_nanoseconds(happened + k, start_ns).tolist() for k in (0, NEWS_INTERVALS))
    return quotes, tuple(map(News, begun, over))


def _nanoseconds(intervals: Float64, start_ns: int) -> Int64:
    return start_ns + np.rint((intervals - _BEFORE) * (INTERVAL_S * 1e9)).astype(np.int64)


def _quotes(
    character: Character,
    time: Float64,
    outside: Weather,
    series: int,
    start_ns: int,
    random: np.random.Generator,
) -> Quotes:
    """What the series quotes at each time. time: (n,) in intervals."""
    n = len(time)
    interval = time.astype(np.int64)
    volatility = outside.volatility[interval, series]
    moves = random.standard_t(6, n) * np.sqrt(4 / 6) * volatility
    jumps = random.uniform(size=n) < 1 / _JUMPS_EVERY
    moves[jumps] += random.choice([-1, 1], jumps.sum()) * random.uniform(5, 10, jumps.sum())
    heard = np.searchsorted(time, outside.news)
    np.add.at(moves, heard[heard < n], outside.surprise[heard < n, series])
    moves += character.drift * 0.02
    begin = character.price * random.uniform(0.95, 1.05) / TICK_SIZE
    price = begin + np.cumsum(character.move_ticks * moves)
    half = character.spread_ticks / 2 * outside.spread[interval, series]
    noise = random.normal(0, character.noise_ticks, (2, n)) * volatility

    still = random.uniform(size=n) < character.still
    both = random.uniform(size=n) < character.both
    side = random.uniform(size=n) < 0.5
    bid = _renewed(np.rint(price - half + noise[0]), ~still & (both | side))
    ask = _renewed(np.rint(price + half + noise[1]), ~still & (both | ~side))
    lots = character.volume * outside.volume[interval, series] * random.lognormal(0, 0.5, n)
    # Two ticks of a burst may fall into the same nanosecond.
    time_ns = _nanoseconds(time, start_ns) - np.arange(n)
    time_ns = np.maximum.accumulate(time_ns) + np.arange(n)
    return Quotes(time_ns, bid, ask, np.maximum(1, np.rint(lots)))


def _renewed(wanted: Float64, now: Bool) -> Float64:
    """What stands in the quote if it becomes what is wanted at some ticks alone."""
    last = np.maximum.accumulate(np.where(now, np.arange(len(wanted)), 0))
    return wanted[last]
