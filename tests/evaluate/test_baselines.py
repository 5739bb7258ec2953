"""Every baseline of the register: what all promise, and what each sees."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.ticks import Float32, Float64
from detector.errors import DataError
from detector.evaluate.baselines import BASELINES
from detector.evaluate.baselines.contract import Fitted
from detector.evaluate.baselines.nearest import Memory
from detector.evaluate.baselines.windows import by_windows


def normal(ticks: int, features: int = 3, seed: int = 1) -> Float32:
    random = np.random.default_rng(seed)
    waves = np.sin(np.arange(ticks)[:, None] / 9 + np.arange(features))
    return (waves + random.normal(0, 0.1, (ticks, features))).astype(np.float32)


_FITTED: dict[str, Fitted] = {}


def fitted(name: str) -> Fitted:
    if name not in _FITTED:
        try:
            _FITTED[name] = BASELINES[name](normal(600))
        except DataError as error:
            pytest.skip(str(error))
    return _FITTED[name]


@pytest.mark.parametrize("name", BASELINES)
@settings(deadline=None, max_examples=15)
@given(ticks=st.integers(1, 300), cut=st.integers(1, 300), seed=st.integers(0, 99))
def test_a_score_reads_no_later_tick(name: str, ticks: int, cut: int, seed: int) -> None:
    baseline = fitted(name)
    rows = normal(ticks, seed=seed)
    whole, early = baseline.score(rows), baseline.score(rows[: min(cut, ticks)])
    np.testing.assert_allclose(whole[: len(early)], early, rtol=1e-3, atol=1e-4)
    changed = rows.copy()
    changed[cut:] = 1e6
    np.testing.assert_allclose(baseline.score(changed)[:cut], whole[:cut], rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", BASELINES)
def test_one_score_a_tick_that_is_absent_only_while_warming(name: str) -> None:
    scores = fitted(name).score(normal(400, seed=5))
    assert scores.shape == (400,)
    warming = int(np.isnan(scores).sum())
    assert warming < 70
    assert np.isfinite(scores[warming:]).all()
    assert np.isnan(fitted(name).score(normal(1))).all()


@pytest.mark.parametrize("name", BASELINES)
def test_a_jump_scores_higher_than_what_is_normal(name: str) -> None:
    rows = normal(400, seed=5)
    rows[300:303] += 8
    scores = fitted(name).score(rows)
    assert int(np.nanargmax(scores)) in range(300, 303 + 64)


@pytest.mark.parametrize("name", BASELINES)
def test_constant_features_are_no_trouble(name: str) -> None:
    fitted(name)
    rows = normal(300)
    rows[:, 1] = 4.0
    scores = BASELINES[name](rows).score(rows)
    assert np.isfinite(scores[70:]).all()
    still = np.full((300, 2), 4.0, np.float32)
    assert np.isfinite(BASELINES[name](still).score(still)[70:]).all()


@pytest.mark.parametrize("name", BASELINES)
def test_too_few_ticks_to_learn_from_are_refused(name: str) -> None:
    with pytest.raises(DataError, match="needs"):
        BASELINES[name](normal(1))


def test_windows_in_chunks_are_the_windows_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(50)

    def last_and_first(windows: Float32) -> Float64:
        return np.asarray(windows[:, -1] - 10 * windows[:, 0], np.float64)

    whole = by_windows(rows, 8, last_and_first)
    monkeypatch.setattr("detector.evaluate.baselines.windows._CHUNK_NUMBERS", 100)
    np.testing.assert_array_equal(by_windows(rows, 8, last_and_first), whole)
    expected = rows[7:, -1].astype(np.float64) - 10 * rows[:-7, 0].astype(np.float64)
    np.testing.assert_allclose(whole[7:], expected, atol=1e-5)


def test_the_moving_z_score_in_chunks_is_the_one_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = normal(500, seed=3)
    whole = fitted("moving z-score").score(rows)
    monkeypatch.setattr("detector.evaluate.baselines.moving._CHUNK_NUMBERS", 64 * 3 * 50)
    np.testing.assert_allclose(fitted("moving z-score").score(rows), whole)


def test_the_distance_is_that_to_the_three_nearest() -> None:
    memory = Memory(np.array([[0.0], [1.0], [2.0], [9.0]], np.float32))
    assert memory.distances(np.array([[0.0]], np.float32))[0] == pytest.approx(1.0)
