"""A fault is as strong as it says: so many times what its series does at most by itself."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from detector.core.ticks import Float64, Int64
from detector.data.faults import FaultKind, NormalMost, break_quotes, normal_most
from detector.data.market import TICK_SIZE, Quotes, market

STRENGTHS = (0.5, 1.0, 2.0, 4.0)


@dataclass(frozen=True)
class Case:
    """begin, end: the ticks of the fault in the whole series; where: in the broken one, which a
    dropout makes shorter."""

    whole: Quotes
    most: NormalMost
    begin: int
    end: int
    where: slice
    time_ns: Int64
    bid: Float64  # in ticks; likewise ask
    ask: Float64
    volume: Float64


def case(kind: FaultKind, strength: float) -> Case:
    random = np.random.default_rng(2)
    (whole,), _ = market(series=1, ticks=5000, start_ns=0, random=random)
    (found,) = break_quotes([whole], ["A"], [(kind, strength)], random=random)
    (fault,) = found.faults
    assert (fault.series, fault.kind, fault.strength) == ("A", kind, strength)
    begin, end = np.searchsorted(whole.time_ns, (fault.start_ns, fault.end_ns))
    inside = np.flatnonzero(found.fault)
    return Case(
        whole,
        normal_most(whole),
        int(begin),
        int(end) + (kind != "dropout"),
        slice(int(inside[0]), int(inside[-1]) + 1),
        found.time_ns,
        np.rint(found.values[:, 0] / TICK_SIZE),
        np.rint(found.values[:, 1] / TICK_SIZE),
        found.values[:, 2],
    )


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_spike_is_so_many_of_the_largest_moves(strength: float) -> None:
    one = case("spike", strength)
    assert one.end - one.begin == 2
    for broken, healthy in ((one.bid, one.whole.bid), (one.ask, one.whole.ask)):
        off = np.log(broken[one.where] / healthy[one.where])
        np.testing.assert_allclose(np.abs(off), strength * one.most.move, atol=1e-5)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_level_shift_is_so_many_of_the_largest_changes_of_level(strength: float) -> None:
    one = case("level_shift", strength)
    assert one.end - one.begin == 60
    shift = np.log(one.volume[one.where] / one.whole.volume[one.where])
    assert np.median(shift) == pytest.approx(strength * one.most.level_change, rel=0.02)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_volatility_is_so_many_of_the_highest_and_prices_come_back(strength: float) -> None:
    one = case("volatility", strength)
    assert one.end - one.begin == 60
    path = np.log(one.bid + one.ask)[one.begin - 1 : one.end + 1]
    size = np.sqrt((np.diff(path) ** 2).mean())
    assert size == pytest.approx(strength * one.most.volatility, rel=0.05)
    np.testing.assert_array_equal(one.bid[one.end :], one.whole.bid[one.end :])
    np.testing.assert_allclose((one.ask - one.bid), one.whole.ask - one.whole.bid, atol=1)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_frozen_series_repeats_so_many_times_its_longest_standstill(strength: float) -> None:
    one = case("frozen", strength)
    assert one.most.standstill_ticks >= 3
    assert one.end - one.begin == max(1, round(strength * one.most.standstill_ticks))
    for column in (one.bid, one.ask, one.volume):
        assert (column[one.where] == column[one.begin - 1]).all()


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_crossed_quote_is_so_many_spreads_deep(strength: float) -> None:
    one = case("crossed", strength)
    assert one.end - one.begin == 40
    depth = (one.bid - one.ask)[one.where]
    np.testing.assert_allclose(depth, strength * one.most.spread_ticks, atol=0.5)
    middle = one.whole.bid + one.whole.ask
    np.testing.assert_allclose((one.bid + one.ask)[one.where], middle[one.where], atol=2)


@pytest.mark.parametrize("strength", STRENGTHS)
def test_a_dropout_is_so_many_of_the_longest_gaps(strength: float) -> None:
    one = case("dropout", strength)
    assert one.end > one.begin, "at least one tick is missing"
    assert len(one.time_ns) == len(one.whole.time_ns) - (one.end - one.begin)
    gap_ns = one.time_ns[one.where.start] - one.time_ns[one.where.start - 1]
    assert strength * one.most.gap_ns <= gap_ns < (strength + 1) * one.most.gap_ns


def test_what_is_normal_at_most_is_measured_on_the_ticks_themselves() -> None:
    n = 200
    bid = np.full(n, 1000.0)
    bid[50:53] = 1010.0  # and back: two large moves
    bid[100:] += np.arange(100) % 2  # restless
    volume = np.exp(np.where(np.arange(n) < 100, 1.0, 3.0))
    time_ns = np.cumsum(np.full(n, 10))
    time_ns[70:] += 90
    most = normal_most(Quotes(time_ns, bid, bid + 4, volume))
    assert most.move == pytest.approx(np.log(2024 / 2004))
    assert most.level_change == pytest.approx(2.0)
    assert most.standstill_ticks == 49, "ticks 1 to 49 repeat the one before"
    assert (most.spread_ticks, most.gap_ns) == (4, 100)
