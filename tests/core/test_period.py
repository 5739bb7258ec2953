"""What repeats in data is found, and nothing in what does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.period import DEFAULT, LONGEST, SHORTEST, dominant_period, window_length
from detector.core.ticks import Float32


def waves(period: int, ticks: int, *, noise: float, features: int = 1, seed: int = 1) -> Float32:
    random = np.random.default_rng(seed)
    phase = random.uniform(0, 6, features)
    wave = np.sin(2 * np.pi * np.arange(ticks)[:, None] / period + phase)
    return (100 + wave + noise * random.normal(size=(ticks, features))).astype(np.float32)


@given(period=st.integers(3, LONGEST - 8), features=st.integers(1, 4), seed=st.integers(0, 9))
@settings(deadline=None, max_examples=60)
def test_a_wave_is_found_in_noise_and_on_a_drift(period: int, features: int, seed: int) -> None:
    rows = waves(period, 12 * period + 600, noise=0.4, features=features, seed=seed)
    drift = np.linspace(0, 20, len(rows), dtype=np.float32)[:, None]
    found = dominant_period([rows + drift], most=LONGEST)
    assert found is not None
    assert abs(found - period) <= max(1, period // 20)


@pytest.mark.parametrize("seed", range(5))
def test_noise_and_walks_repeat_nothing(seed: int) -> None:
    noise = np.random.default_rng(seed).normal(size=(3000, 2)).astype(np.float32)
    assert window_length([noise]) == (DEFAULT, None)
    assert window_length([np.cumsum(noise, axis=0)]) == (DEFAULT, None)


@pytest.mark.parametrize(("period", "ticks"), [(64, 240), (90, 300), (100, 390), (150, 500)])
def test_where_it_repeats_too_few_times_to_be_known_nothing_is_made_up(
    period: int, ticks: int
) -> None:
    assert window_length([waves(period, ticks, noise=0.1)]) == (DEFAULT, None)


def test_what_repeats_more_slowly_than_a_window_can_be_long_is_no_period() -> None:
    assert window_length([waves(LONGEST * 3, 5000, noise=0.1)]) == (DEFAULT, None)


def test_a_short_period_is_taken_as_often_as_it_takes() -> None:
    length, period = window_length([waves(6, 1000, noise=0.1)])
    assert (length, period) == (18, 6)
    assert SHORTEST <= length <= LONGEST


def test_runs_count_by_their_length_and_none_is_too_short_to_be_given() -> None:
    long, short = waves(24, 2000, noise=0.2), waves(40, 200, noise=0.2)
    assert dominant_period([short, long, long[:3]], most=LONGEST) == 24


@pytest.mark.parametrize(
    "runs",
    [[], [np.zeros((0, 2))], [np.ones((500, 2))], [np.zeros((3, 1))], [np.full((40, 1), 1e30)]],
)
def test_where_nothing_moves_or_hardly_anything_is_there_it_is_the_default(
    runs: list[np.ndarray[tuple[int, int], np.dtype[np.float64]]],
) -> None:
    assert window_length([run.astype(np.float32) for run in runs]) == (DEFAULT, None)


def test_a_feature_that_stands_still_does_not_hide_the_others() -> None:
    rows = np.hstack([waves(20, 1000, noise=0.1), np.ones((1000, 9), np.float32)])
    assert dominant_period([rows], most=LONGEST) == 20
