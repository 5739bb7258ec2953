"""Intervals over series."""

from __future__ import annotations

import numpy as np
import pytest

from detector.evaluate.bootstrap import interval, mean_interval, ratio


def test_a_single_series_has_no_interval() -> None:
    assert mean_interval(np.array([0.5])) is None
    assert mean_interval(np.array([])) is None


def test_series_that_agree_leave_no_doubt() -> None:
    assert mean_interval(np.full(5, 0.25)) == (0.25, 0.25)


def test_the_interval_is_that_of_theory_where_theory_has_one() -> None:
    values = np.random.default_rng(0).normal(10, 2, 400)
    found = mean_interval(values)
    assert found is not None
    half = 1.96 * values.std() / 20
    assert found == pytest.approx((values.mean() - half, values.mean() + half), abs=0.03)
    assert mean_interval(values) == found  # a fixed seed


def test_a_ratio_is_of_sums_and_draws_without_it_are_left_out() -> None:
    rows = np.array([[1.0, 2.0], [0.0, 0.0], [3.0, 4.0]])
    found = interval(rows, ratio(0, 1))
    assert found is not None
    assert found[0] == 0.5
    assert found[1] == 0.75
    assert interval(np.zeros((3, 2)), ratio(0, 1)) is None
