"""Evidence of numbers: what a sample says of rarity, and what its tail goes on to say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.core.survival import MOST_EVIDENCE, Survival
from detector.core.thresholds.calibration import Tail

numbers = st.floats(-1e6, 1e6, allow_nan=False)
samples = st.lists(numbers, min_size=1, max_size=300).map(np.array)


@given(sample=samples, asked=st.lists(numbers, min_size=1, max_size=50))
@example(
    sample=np.array([1.0, 5.25226320511346e-69, -0.33203125]), asked=[0.0, 5.25226320511346e-69]
)
@settings(deadline=None, max_examples=200)
def test_evidence_is_finite_and_never_falls_with_the_number(
    sample: np.ndarray[tuple[int], np.dtype[np.float64]], asked: list[float]
) -> None:
    found = Survival.of(sample).evidence(np.sort(np.array(asked)))
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (found <= MOST_EVIDENCE).all()
    assert (np.diff(found) >= 0).all()


@given(sample=samples, asked=st.lists(numbers, min_size=1, max_size=20))
@settings(deadline=None, max_examples=100)
def test_a_number_has_the_same_evidence_in_any_company(
    sample: np.ndarray[tuple[int], np.dtype[np.float64]], asked: list[float]
) -> None:
    survival = Survival.of(sample)
    together = survival.evidence(np.array(asked))
    alone = [survival.evidence(np.array([one]))[0] for one in asked]
    assert together.tolist() == alone


def test_within_the_sample_it_is_the_share_that_is_as_large() -> None:
    sample = np.random.default_rng(0).exponential(size=10_000)
    survival = Survival.of(sample)
    for share in (0.5, 0.2, 0.1, 0.05):
        at = np.array([np.quantile(sample, 1 - share)])
        assert survival.evidence(at)[0] == pytest.approx(-np.log10(share), abs=0.01)


def test_new_numbers_of_the_same_kind_have_exponential_evidence() -> None:
    """One in ten above 1, one in a hundred above 2, one in a thousand above 3."""
    random = np.random.default_rng(1)
    survival = Survival.of(random.exponential(size=20_000))
    found = survival.evidence(random.exponential(size=200_000))
    for decade in (1, 2, 3):
        assert np.mean(found > decade) == pytest.approx(10.0**-decade, rel=0.25)


def test_beyond_the_sample_an_exponential_tail_goes_on_straight() -> None:
    sample = np.random.default_rng(2).exponential(size=50_000)
    at = np.array([15.0, 20.0, 25.0])  # e**-15 = 3e-7
    assert Survival.of(sample).evidence(at) == pytest.approx(at / np.log(10), rel=0.1)


def test_a_heavy_tail_makes_less_of_a_far_number() -> None:
    sample = np.random.default_rng(3).exponential(size=1000)
    start = float(np.quantile(sample, 0.95))
    light, heavy = (
        Survival.of(sample, Tail(start, shape, 1.0, 50, 20, 1000)) for shape in (0.0, 0.25)
    )
    at = np.array([start, start + 20])
    assert light.evidence(at)[0] == heavy.evidence(at)[0]
    assert light.evidence(at)[1] > 2 * heavy.evidence(at)[1]


@given(sample=samples)
@settings(deadline=None, max_examples=100)
def test_the_border_of_the_tail_is_no_step_down(
    sample: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    survival = Survival.of(sample)
    start = survival.knots[-1]
    at, above = survival.evidence(np.array([start, np.nextafter(start, np.inf)]))
    assert above >= at >= 0


def test_what_never_moved_and_moves_is_evidence_and_no_division_by_nothing() -> None:
    survival = Survival.of(np.zeros(100))
    still, hardly, moved = survival.evidence(np.array([0.0, 1e-12, 1e-3]))
    assert still == 0
    assert hardly == pytest.approx(2, abs=0.1), "one more than a hundred that did not"
    assert moved > 10


@pytest.mark.parametrize("strange", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_as_rare_as_can_be(strange: float) -> None:
    assert Survival.of(np.arange(10.0)).evidence(np.array([strange]))[0] == MOST_EVIDENCE


@given(sample=samples)
@settings(deadline=None, max_examples=50)
def test_written_and_read_it_says_the_same(
    sample: np.ndarray[tuple[int], np.dtype[np.float64]],
) -> None:
    survival = Survival.of(sample)
    again = Survival.from_json(json.loads(json.dumps(survival.to_json())))
    asked = np.linspace(-2e6, 2e6, 101)
    assert again.evidence(asked).tobytes() == survival.evidence(asked).tobytes()


@given(n=st.integers(20, 3000), seed=st.integers(0, 2**32 - 1))
@settings(deadline=None, max_examples=300)
def test_so_it_does_with_a_tail_that_begins_between_two_numbers(n: int, seed: int) -> None:
    """As one does that was fitted to rounded numbers."""
    sample = np.random.default_rng(seed).exponential(size=n)
    start = float(np.float32(np.sort(sample)[-n // 10]))
    survival = Survival.of(sample, Tail(start, 0.1, 1.0, n // 10, 1, n))
    again = Survival.from_json(json.loads(json.dumps(survival.to_json())))
    assert again.evidence(sample).tolist() == survival.evidence(sample).tolist()


@pytest.mark.parametrize(
    "wrong",
    [
        {"knots": []}, {"values": [0.0]}, {"scale": 0.0}, {"shape": -0.1}, {"knots": [1.0, 1.0]},
        {"knots": [0.0, float("nan")]}, {"knots": None}, {"values": [1.0, 0.0]}, {"beyond": 0.5},
    ],
    ids=str,
)  # fmt: skip
def test_a_damaged_one_is_refused(wrong: dict[str, object]) -> None:
    sound = {
        "knots": [0.0, 1.0], "values": [0.0, 1.0], "beyond": 1.0, "shape": 0.0, "scale": 1.0,
    }  # fmt: skip
    assert Survival.from_json(sound).evidence(np.array([0.5]))[0] == 0.5
    with pytest.raises((ValueError, TypeError)):
        Survival.from_json(sound | wrong)
