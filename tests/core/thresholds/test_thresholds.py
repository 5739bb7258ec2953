"""Thresholds keep the rate they promise."""

from __future__ import annotations

import math
import re

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.stats import genpareto

from detector.core.thresholds import Method, choose_threshold
from detector.core.thresholds.calibration import Calibration, Demand, Tail
from detector.core.thresholds.quantile import empirical_quantile
from detector.core.ticks import Float32, Float64
from detector.errors import ConfigError
from detector.model.calibration import fit_tail

TAIL = Tail(start=2.0, shape=0.1, scale=0.5, excesses=20, clusters=10, windows=1000)
LENGTH = 8


def exponential(count: int, seed: int) -> Float32:
    return np.random.default_rng(seed).exponential(size=count).astype(np.float32)


@pytest.mark.parametrize(("n", "rate"), [(199, 0.02), (150, 0.02), (999, 0.001), (30, 0.3)])
def test_a_quantile_keeps_its_promise_on_exchangeable_scores(n: int, rate: float) -> None:
    """Each draw of n scores gives a threshold whose true rate is known: exp(-threshold). Over
    many draws the mean rate is floor(rate (n + 1)) / (n + 1), at most the promise."""
    draws = 3000
    random = np.random.default_rng(11)
    rates = np.array(
        [
            math.exp(-empirical_quantile(random.exponential(size=n).astype(np.float32), rate))
            for _ in range(draws)
        ]
    )
    standard_error = rates.std() / math.sqrt(draws)
    exact = math.floor(rate * (n + 1)) / (n + 1)
    assert exact <= rate
    assert abs(rates.mean() - exact) < 4 * standard_error


def test_a_quantile_keeps_its_promise_on_tied_scores() -> None:
    random = np.random.default_rng(12)
    exceeded = []
    for _ in range(2000):
        scores = random.integers(0, 20, 101).astype(np.float32)
        exceeded.append(scores[100] > empirical_quantile(scores[:100], 0.1))
    assert np.mean(exceeded) < 0.1 + 4 * math.sqrt(0.1 * 0.9 / 2000)


@given(
    scores=st.lists(st.floats(0, 1e6, width=32), min_size=1, max_size=60),
    rate=st.floats(0.001, 0.9),
)
@settings(deadline=None, max_examples=300)
def test_a_quantile_is_the_smallest_score_that_few_enough_exceed(
    scores: list[float], rate: float
) -> None:
    most = math.floor(rate * (len(scores) + 1)) - 1
    if most < 0:
        with pytest.raises(ConfigError):
            empirical_quantile(np.array(scores, np.float32), rate)
        return
    found = empirical_quantile(np.array(scores, np.float32), rate)
    fit = [s for s in scores if sum(t > s for t in scores) <= most]
    assert found == min(fit)


@given(st.floats(1e-6, 0.5))
@settings(deadline=None, max_examples=200)
def test_as_many_windows_as_the_message_asks_for_suffice(rate: float) -> None:
    with pytest.raises(ConfigError) as refused:
        empirical_quantile(np.empty(0, np.float32), rate)
    (needed,) = re.findall(r"at least (\d+) calibration windows", str(refused.value))
    assume(int(needed) <= 10_000)
    assert empirical_quantile(np.ones(int(needed), np.float32), rate) == 1
    if int(needed) > 1:
        with pytest.raises(ConfigError):
            empirical_quantile(np.ones(int(needed) - 1, np.float32), rate)


@given(
    shape=st.floats(-0.4, -1e-6) | st.floats(1e-6, 1.0) | st.just(0.0),
    scale=st.floats(1e-3, 1e3),
    start=st.floats(0, 100),
    excesses=st.integers(1, 1000),
    ratio=st.floats(1e-6, 1),
)
@settings(deadline=None, max_examples=300)
def test_the_tails_quantile_inverts_its_survival(
    shape: float, scale: float, start: float, excesses: int, ratio: float
) -> None:
    windows = 50 * excesses
    rate = ratio * excesses / windows
    tail = Tail(start, shape, scale, excesses, 1, windows)
    excess = tail.quantile(rate) - start
    assert genpareto.sf(excess, shape, scale=scale) == pytest.approx(
        ratio, rel=1e-5, abs=1e-12 * (1 + start / scale)
    )


@given(
    shape=st.floats(-0.9, 3.0),
    rates=st.lists(st.floats(1e-12, 0.02), min_size=2, max_size=5).map(sorted),
)
@settings(deadline=None, max_examples=200)
def test_a_smaller_rate_never_lowers_the_tails_threshold(shape: float, rates: list[float]) -> None:
    tail = Tail(2.0, shape, 0.5, 20, 10, 1000)
    found = [tail.quantile(rate) for rate in rates]
    assert found == sorted(found, reverse=True)
    assert min(found) >= 2.0


@pytest.mark.parametrize("shape", [1e-7, 1e-8, 1.01e-9, 1e-9, 1e-10, 1e-300])
@pytest.mark.parametrize("sign", [1, -1])
def test_a_tail_of_almost_no_shape_is_almost_exponential(shape: float, sign: int) -> None:
    almost = Tail(2.0, sign * shape, 0.5, 20, 10, 1000).quantile(1e-6)
    assert almost == pytest.approx(2.0 - 0.5 * math.log(1e-6 * 50), rel=1e-5)


def test_a_tail_survives_json() -> None:
    assert Tail.from_json(TAIL.to_json()) == TAIL


def fit(scores: Float32) -> Tail:
    """The tail of scores whose windows share no tick."""
    return fit_tail(scores, np.arange(len(scores)) * LENGTH, length=LENGTH)


def samples() -> dict[str, Float64]:
    random = np.random.default_rng(13)
    n = 5000
    return {
        "exponential": random.exponential(size=n),
        "normal": np.abs(random.normal(size=n)),
        "uniform": random.uniform(size=n),
        "heavy": random.pareto(1.5, n),
        "very heavy": random.pareto(0.3, n),
        "lognormal": random.lognormal(0, 2, n),
        "two humps": np.concatenate([random.normal(1, 0.1, n - 80), random.normal(50, 1, 80)]),
        "rounded": random.exponential(size=n).round(1),
        "whole numbers": random.geometric(0.5, n),
        "constant": np.ones(n),
        "zeros": np.zeros(n),
        "mostly one value": np.where(random.random(n) < 0.999, 1.0, random.exponential(size=n) + 1),
        "one outlier": np.append(np.ones(n - 1), 1e9),
        "tiny": random.exponential(1e-20, n),
        "huge": random.exponential(1e30, n),
        "few": random.exponential(size=501),
        "few and heavy": random.pareto(0.5, 501),
    }


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("kind", samples())
def test_a_tail_fits_any_scores_with_finite_monotone_thresholds(kind: str) -> None:
    scores = samples()[kind].astype(np.float32)
    tail = fit(scores)
    share = tail.excesses / tail.windows
    assert tail.windows == len(scores)
    assert 0 < share <= 0.1
    assert tail.scale > 0
    found = [tail.quantile(rate) for rate in np.geomspace(share, 1e-9, 30)]
    assert np.isfinite(found).all()
    assert (np.diff(found) >= 0).all()
    assert found[0] == pytest.approx(tail.start)
    assert tail.quantile(1e-9) >= tail.start


def test_a_fitted_tail_extrapolates_to_rates_the_sample_cannot_show() -> None:
    """The true rate of each threshold for 1e-4, from 4000 exponential scores, is exp(-it): on
    average over many samples at most what was promised, and not for nothing (a tenth)."""
    promised = 1e-4
    true = [math.exp(-fit(exponential(4000, seed)).quantile(promised)) for seed in range(60)]
    standard_error = float(np.std(true)) / math.sqrt(len(true))
    assert np.mean(true) < promised + 3 * standard_error
    assert np.median(true) > promised / 10


def test_excesses_of_windows_that_share_ticks_are_one_cluster() -> None:
    scores = exponential(5000, 3)
    apart = fit_tail(scores, np.arange(5000) * LENGTH, length=LENGTH)
    assert apart.clusters == apart.excesses
    for repeats in (5, 50):
        together = fit_tail(np.repeat(scores, repeats), np.arange(5000 * repeats), length=LENGTH)
        assert together.clusters < together.excesses / repeats * 1.01
        assert together.quantile(1e-6) > apart.quantile(1e-6) * 0.8


def test_fewer_clusters_make_a_more_cautious_threshold() -> None:
    scores = np.sort(exponential(3000, 4))
    apart = fit_tail(scores, np.arange(3000) * LENGTH, length=LENGTH)
    in_a_row = fit_tail(scores, np.arange(3000), length=LENGTH)
    assert in_a_row.clusters == 1
    assert in_a_row.quantile(1e-5) > apart.quantile(1e-5)


def test_the_methods_choose_as_they_say() -> None:
    scores = (np.arange(1, 1001) / 1000).astype(np.float32)

    def choose(method: Method, rate: float, value: float | None = None) -> float:
        return choose_threshold(method, Calibration(scores, TAIL), Demand(rate, value))

    assert choose("fixed", 0.1, 7.5) == 7.5
    assert choose("quantile", 0.05) == empirical_quantile(scores, 0.05)
    assert choose("pot", 0.05) == empirical_quantile(scores, 0.05)
    assert choose("pot", 0.02) == empirical_quantile(scores, 0.02)
    assert choose("pot", 1e-5) == TAIL.quantile(1e-5)
    with pytest.raises(ConfigError, match=r"threshold\.value"):
        choose("fixed", 0.1)
    with pytest.raises(ConfigError, match="needs at least 9999 calibration windows"):
        choose("quantile", 1e-4)
