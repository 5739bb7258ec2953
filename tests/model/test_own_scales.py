"""Centre and scale of each of several series: how they are found, and their file."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.core.own_scales import OwnScales
from detector.core.ticks import Float32
from detector.model.own_scales import FEWEST_TICKS, fit_own_scales, from_bytes, to_bytes


def series(center: float, scale: float, *, ticks: int = 2000, seed: int = 0) -> Float32:
    """A feature that moves, and one that stands still."""
    moving = center + scale * np.random.default_rng(seed).standard_t(3, ticks)
    return np.column_stack([moving, np.full(ticks, center)]).astype(np.float32)


def test_series_of_other_places_and_sizes_look_alike_afterwards() -> None:
    found = fit_own_scales(
        [("quiet", [series(5, 0.1)]), ("busy", [series(-80, 40), series(-80, 40, seed=1)])]
    )
    assert found is not None
    quiet = found.seen(series(5, 0.1, seed=2), found.row("quiet"))
    busy = found.seen(series(-80, 40, seed=2), found.row("busy"))
    np.testing.assert_allclose(np.median(quiet, axis=0), np.median(busy, axis=0), atol=2)
    ratio = np.ptp(np.quantile(quiet[:, 0], [0.25, 0.75])) / np.ptp(
        np.quantile(busy[:, 0], [0.25, 0.75])
    )
    assert 0.8 < ratio < 1.25  # where it was 1 to 400
    np.testing.assert_allclose(quiet[:, 1], busy[:, 1], rtol=1e-4)  # what stands still, too


@pytest.mark.parametrize(
    ("center", "scale", "unlike"),
    [(0.0, 1.0, False), (0.0, 3.0, False), (2.0, 1.0, False), (0.0, 6.0, True), (9.0, 1.0, True)],
)
def test_series_that_are_alike_stay_as_they_are_where_that_is_asked(
    center: float, scale: float, unlike: bool
) -> None:
    several = [("a", [series(0, 1)]), ("b", [series(0, 1)]), ("c", [series(center, scale)])]
    assert (fit_own_scales(several, if_unlike=True) is not None) == unlike
    assert fit_own_scales(several) is not None


def test_a_series_is_not_stretched_without_end() -> None:
    found = fit_own_scales([("a", [series(0, 1)]), ("b", [series(0, 1)]), ("c", [series(0, 1e-9)])])
    assert found is not None
    assert found.factor[:, 0].max() == 1000


def test_a_series_of_few_ticks_is_seen_as_it_is() -> None:
    few = series(1000, 1, ticks=FEWEST_TICKS - 1)
    found = fit_own_scales([("a", [series(0, 1)]), ("b", [series(7, 3)]), ("few", [few])])
    assert found is not None
    assert found.names == ("a", "b")
    assert found.seen(few, found.row("few")).tobytes() == few.tobytes()


@pytest.mark.parametrize("ticks", [0, FEWEST_TICKS - 1])
def test_one_series_has_nothing_to_be_compared_with(ticks: int) -> None:
    assert fit_own_scales([("a", [series(3, 2)]), ("b", [series(3, 2, ticks=ticks)])]) is None


def test_rows_that_look_back_at_nothing_are_left_out() -> None:
    rows = series(3, 2)
    rows[::2, 0] = np.nan
    found = fit_own_scales([("a", [rows]), ("b", [series(9, 2)])])
    assert found is not None
    assert np.isfinite(found.center).all()


NAMES = st.text(st.characters(exclude_categories=["Cs"]))


@given(names=st.lists(NAMES, unique=True, min_size=1, max_size=5), seed=st.integers(0, 99))
def test_they_come_back_from_their_file(names: list[str], seed: int) -> None:
    numbers = np.random.default_rng(seed).lognormal(size=(3, len(names), 2)).astype(np.float32)
    one = OwnScales(names, numbers[0], numbers[1], numbers[2, 0])
    again = from_bytes(to_bytes(one), features=2)
    assert again.names == tuple(names)
    for ours, theirs in zip(
        (again.center, again.factor, again.common),
        (one.center, one.factor, one.common),
        strict=True,
    ):
        np.testing.assert_array_equal(ours, theirs)
    assert to_bytes(one) == to_bytes(one)


@pytest.mark.parametrize("what", ["names", "width", "factor", "archive"])
def test_a_damaged_file_is_refused(what: str) -> None:
    ones = np.ones((2, 2), np.float32)
    one = OwnScales(["a", "b"], ones, ones, ones[0])
    content = to_bytes(one)
    if what == "archive":
        content = b"PK\x03\x04 nonsense"
    else:
        names = b'["a"]' if what == "names" else b'["a", "b"]'
        file = io.BytesIO()
        np.savez_compressed(
            file,
            names=np.frombuffer(names, np.uint8),
            center=ones,
            factor=-ones if what == "factor" else ones,
            common=ones[0],
        )
        content = file.getvalue()
    with pytest.raises(ValueError, match=r"factor|own_scales|features"):
        from_bytes(content, features=3 if what == "width" else 2)
