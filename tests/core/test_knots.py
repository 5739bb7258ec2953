"""Between which knots numbers lie, against NumPy's own search."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.core import knots as knots_module
from detector.core.knots import Knots
from detector.core.ticks import Float64

_numbers = st.one_of(
    st.floats(0, 10, width=32),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 5e-324, 1.0, np.nextafter(1.0, 2.0), 1.7e308, -1.7e308]),
)
_rows = st.lists(_numbers, min_size=1, max_size=60, unique=True).map(
    lambda one: np.array(sorted(one))
)


def agree(rows: list[Float64], asked: Float64) -> None:
    found = Knots(rows)
    numbers = np.array([np.clip(asked, row[0], row[-1]) for row in rows])
    expected = np.array(
        [row.searchsorted(own, side="right") for row, own in zip(rows, numbers, strict=True)]
    )
    assert (found.below(numbers) - found.begin).tolist() == expected.tolist()


@given(rows=st.lists(_rows, min_size=1, max_size=4), asked=st.lists(_numbers, max_size=20))
@example(rows=[np.array([0.0])], asked=[0.0, -0.0])
@example(rows=[np.array([-1.0, -0.0, 5e-324])], asked=[0.0, -0.0])
@settings(deadline=None, max_examples=300)
def test_as_many_knots_are_below_as_a_search_finds(rows: list[Float64], asked: list[float]) -> None:
    with np.errstate(over="ignore"):
        near = [np.nextafter(row, to) for row in rows for to in (-np.inf, np.inf)]
    agree(rows, np.concatenate([*rows, *near, np.array(asked, np.float64)]))


@pytest.mark.parametrize("count", [1, 9])
def test_knots_of_a_sample_are_found_in_a_table_with_few_comparisons(
    count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(0)
    ranks = np.unique(np.geomspace(1, 100_000, 256).astype(np.int64))
    rows = [np.sort(random.exponential(size=100_000))[-ranks][::-1] for _ in range(count)]
    searched = Knots(rows)
    monkeypatch.setattr(knots_module, "_PLACES", 0)
    numbers = random.exponential(size=(count, 5000))
    numbers = np.minimum(numbers, np.array([[row[-1]] for row in rows]))
    assert searched.left is not None
    assert searched.left <= 4
    assert Knots(rows).left is None
    assert searched.below(numbers).tolist() == Knots(rows).below(numbers).tolist()


def test_what_is_no_number_has_a_place_among_the_knots() -> None:
    knots = Knots([np.array([1.0, 2.0]), np.array([0.5])])
    found = knots.below(np.array([[np.nan, 1.0], [np.nan, 0.5]])) - knots.begin
    assert (found >= 0).all()
    assert (found <= [[2], [1]]).all()
    assert found[:, 1].tolist() == [1, 1]
