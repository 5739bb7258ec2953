"""The simulated market has the habits of real ones (Cont, 2001), and shares its news."""

from __future__ import annotations

import numpy as np
import pytest

from detector.data.arrivals import DELAYS, FOLLOWERS, arrivals
from detector.data.market import CHARACTERS, INTERVAL_S, TICK_SIZE, News, Quotes, market
from detector.data.stylized_facts import memory, stylized_facts

SERIES = len(CHARACTERS)


@pytest.fixture(scope="module")
def simulated() -> tuple[list[Quotes], tuple[News, ...]]:
    return market(series=SERIES, ticks=SERIES * 9000, start_ns=0, random=np.random.default_rng(11))


@pytest.fixture(scope="module")
def quotes(simulated: tuple[list[Quotes], tuple[News, ...]]) -> list[Quotes]:
    return simulated[0]


@pytest.fixture(scope="module")
def moments(quotes: list[Quotes]) -> list[dict[str, float]]:
    return [stylized_facts(q.time_ns, q.bid, q.ask, tick=1) for q in quotes]


def test_arrivals_are_as_many_as_their_rate_says_and_come_in_bursts() -> None:
    rate = np.full(20_000, 1.0)
    times = arrivals(rate, random=np.random.default_rng(1))
    assert (np.diff(times) >= 0).all()
    assert 0 <= times[0] < times[-1] < len(rate)
    # The variance of a Hawkes process over long times is 1/(1 - n)^2 that of a Poisson process.
    excitement = 1 / (1 - sum(FOLLOWERS))
    assert len(times) == pytest.approx(len(rate), abs=4 * excitement * np.sqrt(len(rate)))
    counts = np.bincount(times.astype(int) // 500)
    assert counts.var() / counts.mean() == pytest.approx(excitement**2, rel=0.6)
    assert counts.var() / counts.mean() > 4, "it would be 1 without bursts"
    assert np.median(np.diff(times)) < 0.5 * np.log(2), "of a Poisson process it is ln 2"
    assert max(DELAYS) < 500


def test_prices_are_whole_ticks_and_volumes_whole_lots(quotes: list[Quotes]) -> None:
    for one in quotes:
        for column in (one.bid, one.ask, one.volume):
            np.testing.assert_array_equal(column, np.rint(column))
        assert one.volume.min() >= 1
        np.testing.assert_allclose(one.values[:, 0], one.bid * TICK_SIZE, rtol=1e-12)
        assert all(len(f"{price:.9f}".rstrip("0")) <= 6 for price in one.values[:99, 0].tolist())


def test_moves_have_heavy_tails_and_their_size_is_remembered(
    moments: list[dict[str, float]],
) -> None:
    for one in moments:
        assert one["move_excess_kurtosis"] > 3
        assert one["move_size_memory_1"] > 0.08
        assert one["move_size_memory_10"] > 0.04
        assert abs(one["move_memory_1"]) < 0.3
    assert np.median([one["move_size_memory_100"] for one in moments]) > 0.02


def test_the_middle_bounces_where_both_sides_are_renewed(quotes: list[Quotes]) -> None:
    for character, one in zip(CHARACTERS, quotes, strict=True):
        if character.both >= 0.6:
            assert memory(np.diff(one.bid + one.ask), 1) < -0.03


def test_a_fast_move_may_cross_a_narrow_quote_for_a_moment(quotes: list[Quotes]) -> None:
    crossed = [float((one.ask < one.bid).mean()) for one in quotes]
    assert 0 < max(crossed) < 0.03
    assert np.median(crossed) < 0.005


def test_busy_and_quiet_times_alternate(moments: list[dict[str, float]]) -> None:
    for one in moments:
        assert one["gap_variation"] > 2
        assert one["gap_memory_1"] > 0.1


def test_the_day_has_a_rhythm_and_ends_with_wide_spreads(quotes: list[Quotes]) -> None:
    for one in quotes:
        hour = (one.time_ns / 1e9 / INTERVAL_S + 200) % 2000 / 2000
        spread = one.ask - one.bid
        assert np.median(spread[hour > 0.98]) > 1.5 * np.median(spread)
    hours = [(one.time_ns / 1e9 / INTERVAL_S + 200) % 2000 // 100 for one in quotes]
    counts = np.bincount(np.concatenate(hours).astype(int), minlength=20)
    assert counts.max() > 2 * counts.min()


def test_news_reaches_every_series(simulated: tuple[list[Quotes], tuple[News, ...]]) -> None:
    quotes, news = simulated
    assert len(news) >= 2
    expected, counted = 0.0, 0
    sizes, widths = [], []
    for one in quotes:
        inside = np.zeros(len(one.time_ns), np.bool_)
        for burst in news:  # the first third, in which it is strong
            until = burst.start_ns + (burst.end_ns - burst.start_ns) // 3
            inside |= (one.time_ns >= burst.start_ns) & (one.time_ns <= until)
            expected += (until - burst.start_ns) * len(one.time_ns) / one.time_ns[-1]
        counted += int(inside.sum())
        moves, spread = np.abs(np.diff(one.bid + one.ask)), one.ask - one.bid
        sizes.append(moves[inside[1:]].mean() / moves[~inside[1:]].mean())
        widths.append(spread[inside].mean() / spread[~inside].mean())
    assert min(sizes) > 1
    assert min(widths) > 1
    assert min(np.median(sizes), np.median(widths)) > 1.3
    assert counted > 1.5 * expected


def test_a_few_series_drift(quotes: list[Quotes]) -> None:
    for character, one in zip(CHARACTERS, quotes, strict=True):
        n = len(one.volume) // 3
        change = np.log(one.volume[-n:]).mean() - np.log(one.volume[:n]).mean()
        if character.drift:
            assert change * character.drift > 0
    assert sum(character.drift != 0 for character in CHARACTERS) == 2
