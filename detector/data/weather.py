"""What goes on in a simulated market from one interval to the next: the day, the news, and how
rate, volatility, spread and volume wander. It knows no quotes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from detector.core.ticks import Float64

DAY_INTERVALS = 2_000
#: How long news is felt: its effect falls to 1/e in a third of it.
NEWS_INTERVALS = 90
_NEWS_EVERY = 1_500  # intervals, on average
_PAUSE = 0.975  # of the day; then few quotes and wide spreads until it ends


@dataclass(frozen=True, slots=True)
class Weather:
    """rate: (intervals, series) ticks to be expected; volatility, spread, volume: likewise, as
    factors; news: (events,) times; surprise: (events, series) the jump, in ordinary moves."""

    rate: Float64
    volatility: Float64
    spread: Float64
    volume: Float64
    news: Float64
    surprise: Float64


def weather(
    *,
    activity: Sequence[float],
    drift: Sequence[float],
    intervals: int,
    random: np.random.Generator,
) -> Weather:
    """activity, drift: one a series, which share the day, the news and half of their mood."""
    shape = (intervals, len(activity))
    time = np.arange(intervals)
    angle = 2 * np.pi * time / DAY_INTERVALS
    day = 0.45 * np.sin(angle - 1.0) + 0.25 * np.sin(2 * angle)
    pause = time % DAY_INTERVALS >= _PAUSE * DAY_INTERVALS
    days = time // DAY_INTERVALS
    widest = 1 + random.lognormal(0.7, 0.5, days[-1] + 1)[days]

    news = np.sort(random.uniform(0, intervals, random.poisson(intervals / _NEWS_EVERY)))
    weight = random.lognormal(0, 0.4, len(news))
    since = (time[:, None] - news) * 3 / NEWS_INTERVALS  # (intervals, events)
    stir = np.where(since >= 0, np.exp(-np.maximum(since, 0)), 0) @ weight
    tone = random.normal(0, 1, (len(news), 1)) + random.normal(0, 0.5, (len(news), shape[1]))

    shared = _wander(0.25, 500, (intervals, 1), random) + _wander(0.25, 1_000, shape, random)
    mood = shared + _wander(0.3, 40, shape, random) + 0.4 * day[:, None]
    busy = _wander(0.2, 200, shape, random) + 0.3 * shared + day[:, None]
    drifted = np.array(drift) * time[:, None] / DAY_INTERVALS
    calm = np.where(pause, 0.4, 1.0) / np.exp(day).mean()
    return Weather(
        rate=np.array(activity) * np.exp(busy) * (calm * (1 + 4 * stir))[:, None],
        volatility=np.exp(mood) * (1 + stir)[:, None],
        spread=np.exp(_wander(0.1, 300, shape, random) + 0.2 * mood + 0.04 * drifted)
        * (np.where(pause, widest, 1.0) * (1 + stir))[:, None],
        volume=np.exp(_wander(0.4, 60, shape, random) + 0.5 * mood + 0.1 * drifted)
        * (1 + stir)[:, None],
        news=news,
        surprise=6 * weight[:, None] * tone,
    )


def _wander(
    deviation: float, intervals: float, shape: tuple[int, int], random: np.random.Generator
) -> Float64:
    """(intervals, n) paths that return to 0 (Ornstein and Uhlenbeck, 1930), each begun anywhere."""
    keep = np.exp(-1 / intervals)
    paths = random.normal(0, deviation, shape)
    paths[1:] *= np.sqrt(1 - keep**2)
    for before, now in pairwise(paths):
        now += keep * before
    return paths
