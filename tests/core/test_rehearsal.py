from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.episodes import AlertPolicy
from detector.core.rehearsal import Rehearsal, Rules
from detector.core.tails import Tails

POLICY = AlertPolicy(open_after=1, of_last=1, resolve_after=1)
RULES = Rules(POLICY)
ADAPTIVE = Rules(POLICY, tails=partial(Tails, 0.02))
DAY_S = 86_400


def rehearsal(score: list[float], *, series: int = 1, every_s: float = 60.0) -> Rehearsal:
    each = np.array(score)
    slot = np.repeat(np.arange(series), len(each))
    time_ns = np.tile(np.arange(len(each)) * int(every_s * 1e9), series)
    both = np.tile(each, series)
    names = tuple(f"s{i}" for i in range(series))
    return Rehearsal(names, slot, time_ns, both)


def exponential(windows: int, seed: int = 1) -> list[float]:
    """Evidence of normal windows that know nothing of each other."""
    drawn = np.random.default_rng(seed).uniform(size=windows)
    return [float(x) for x in -np.log10(drawn)]


def test_alerts_are_counted_by_the_rules() -> None:
    calm, above = [0.0] * 10, [2.0]
    found = rehearsal((calm + above) * 6, series=2).forecast(1.0, RULES)
    assert found is not None
    assert found.series == {"s0": 6, "s1": 6}
    assert found.opened == 12
    assert found.counted
    assert found.days == pytest.approx(2 * 65 * 60 / DAY_S)
    assert found.a_day == pytest.approx(12 / found.days)
    assert "12 opened in 2.17 hours of 2 series held out" in found.words()
    twice = AlertPolicy(open_after=2, of_last=2, resolve_after=1)
    none = rehearsal((calm + above) * 6).forecast(1.0, Rules(twice))
    assert none is not None
    assert none.opened == 0


def test_the_tail_of_the_series_counts_where_it_is_followed() -> None:
    """Of a series that is ten times as strange as the calibration from its beginning to its end."""
    one = rehearsal([min(x + 1.0, 6.0) for x in exponential(6000)])
    static = one.forecast(3.0, RULES)
    adaptive = one.forecast(3.0, ADAPTIVE)
    assert static is not None
    assert adaptive is not None
    assert static.opened > 3 * adaptive.opened > 0


def test_only_the_windows_that_are_deployed_count() -> None:
    one = rehearsal(exponential(20_000), series=2)
    found = [one.forecast(2.0, Rules(POLICY, stride=stride)) for stride in (1, 10)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].days == found[1].days
    assert found[0].a_day / 15 < found[1].a_day < found[0].a_day / 7
    cold = one.forecast(2.0, Rules(POLICY, cold_windows=15_000))
    assert cold is not None
    assert 0 < cold.opened < found[0].opened / 2


def test_a_gap_is_no_time_in_which_nothing_happened() -> None:
    one = rehearsal(exponential(3000))
    held = replace(one, time_ns=one.time_ns + (np.arange(3000) >= 1500) * 300 * 86_400 * 10**9)
    whole, gap = (each.forecast(2.0, RULES) for each in (one, held))
    assert whole is not None
    assert gap is not None
    assert gap.days == pytest.approx(whole.days, rel=0.05)
    told = held.forecast(2.0, Rules(POLICY, gap_ns=3600 * 10**9))
    assert told is not None
    assert told.days == pytest.approx(whole.days + 59 / 1440, rel=1e-3)


@pytest.mark.parametrize("quiet_s", [3600, 21_600, 86_400])
@pytest.mark.parametrize("a_day", [0.1, 1, 5, 1000])
def test_a_budget_by_the_day_is_never_met_by_an_alert_without_an_end(
    quiet_s: int, a_day: float
) -> None:
    """At a low threshold a series has one alert, for ever: that is not few."""
    quiet = AlertPolicy(1, 1, resolve_after=10, quiet_ns=quiet_s * 10**9)
    one = rehearsal(exponential(50_000))
    threshold = one.threshold(a_day, Rules(quiet))
    assert threshold is not None
    levels = np.arange(0.5, 5, 0.25)
    counts = [one.forecast(float(level), Rules(quiet)) for level in levels]
    opened = [0 if found is None else found.opened for found in counts]
    assert threshold >= levels[int(np.argmax(opened))] - 0.25
    found = one.forecast(threshold, Rules(quiet))
    assert found is not None
    assert found.opened > max(opened) / 2 or a_day / 3 < found.a_day <= a_day * 1.001


def test_beyond_the_sample_there_are_ten_times_fewer_for_each_unit() -> None:
    found = rehearsal(exponential(2000))
    near, far = (found.forecast(t, RULES) for t in (6.0, 8.0))
    assert near is not None
    assert far is not None
    assert not near.counted
    assert far.a_day == pytest.approx(near.a_day / 100)
    expected = 1e-6 * DAY_S / 60
    assert expected / 4 < near.a_day < 4 * expected


def test_windows_that_take_no_time_forecast_nothing() -> None:
    one = rehearsal([0.0, 2.0, 0.0], every_s=0.0)
    assert one.forecast(1.0, RULES) is None
    assert one.threshold(1.0, RULES) is None


@settings(max_examples=40)
@given(
    st.lists(st.floats(0, 8), min_size=2, max_size=200),
    st.floats(0.01, 100),
    st.integers(1, 3),
    st.booleans(),
)
def test_a_threshold_for_so_many_a_day_lets_about_so_many_through(
    score: list[float], a_day: float, series: int, adaptive: bool
) -> None:
    one = rehearsal(score, series=series)
    rules = ADAPTIVE if adaptive else RULES
    threshold = one.threshold(a_day, rules)
    assert threshold is not None
    found = one.forecast(threshold, rules)
    assert found is not None
    # Of few alerts a count is a step, and an extrapolation starts from five of them.
    assert found.a_day <= max(a_day * 1.001, 5 / found.days)


def test_a_threshold_for_so_many_a_day_of_much_data_is_that_of_the_share() -> None:
    one = rehearsal(exponential(20_000))
    threshold = one.threshold(1.44, RULES)  # of 1440 windows a day: 1e-3
    assert threshold == pytest.approx(3.0, abs=0.3)


def test_bursts_taken_together_hide_none_of_those_to_come() -> None:
    """At a low level they are one alert for all time; from a high one it is extrapolated."""
    quiet = AlertPolicy(open_after=1, of_last=1, resolve_after=1, quiet_ns=1800 * 10**9)
    one = rehearsal(exponential(3000))
    days = 3000 * 60 / DAY_S
    assert one.forecast(1.0, Rules(quiet)).opened < 50  # type: ignore[union-attr]
    found = one.forecast(4.5, Rules(quiet))
    assert found is not None
    expected = 3000 * 10**-4.5 / days
    assert expected / 4 < found.a_day < 4 * max(expected, found.opened / days)
    at = one.threshold(0.1, Rules(quiet))
    assert at is not None
    assert at == pytest.approx(-np.log10(0.1 / 1440), abs=0.6)
