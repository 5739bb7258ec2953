"""Levels of series: what stands out of what they have been like of late."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.blocks import BLOCK
from detector.core.levels import LEAST_SPREAD, STEP, Levels, pace
from detector.core.ticks import Float64, Int64
from tests.core.test_tails import ended

LEVEL, SPREAD = np.array([0.3, 0.1]), np.array([0.2, 0.05])
PACE = pace(length=4, stride=1)


def reference(slot: Int64, seen: Float64) -> Float64:
    """One window after the other, a level and a spread a series and view, in plain numbers."""
    found = np.empty_like(seen)
    for one in np.unique(slot).tolist():
        at = np.flatnonzero(slot == one)
        for view in range(2):
            level, spread, above, astray = 0.0, 0.0, 0.0, 0.0
            for number, x in enumerate(seen[at, view].tolist()):
                over = x - (LEVEL[view] + level)
                found[at[number], view] = max(over, 0.0) / (SPREAD[view] + spread + LEAST_SPREAD)
                above += over if number < BLOCK else min(over, STEP)
                astray += min(abs(over), STEP)
                blocks, left = divmod(number + 1, BLOCK)
                if left:
                    continue
                weight = max(PACE, 1 / blocks)
                level += weight * (above / BLOCK)
                if blocks > 1:
                    spread += weight * (astray / BLOCK - (SPREAD[view] + spread))
                above = astray = 0.0
    return found


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[Int64, Float64]]:
    """Batches of windows grouped by slot."""
    seed = draw(st.integers(0, 2**32 - 1))
    random = np.random.default_rng(seed)
    batches = []
    for most in draw(st.lists(st.sampled_from([1, 3, 70]), min_size=1, max_size=6)):
        sizes = random.integers(0, most + 1, 5)
        slot = np.repeat(np.arange(5), sizes)
        batches.append((slot, random.exponential(1, (len(slot), 2)) * random.lognormal(0, 1)))
    return batches


@given(batches=arrivals())
@settings(deadline=None, max_examples=200)
def test_every_series_is_followed_window_by_window_however_they_come(
    batches: list[tuple[Int64, Float64]],
) -> None:
    levels = Levels(LEVEL, SPREAD, PACE)
    found = [levels.excess(slot, seen) for slot, seen in batches]
    slot = np.concatenate([s for s, _ in batches])
    seen = np.concatenate([x for _, x in batches])
    order = np.argsort(slot, kind="stable")
    whole, ends = Levels(LEVEL, SPREAD, PACE).excess(slot[order], seen[order])
    assert np.concatenate([x for x, _ in found])[order].tobytes() == whole.tobytes()
    assert ended(batches, [end for _, end in found]) == ended([(slot[order], seen)], [ends])
    assert whole.tobytes() == reference(slot[order], seen[order]).tobytes()


def one_view(*, length: int = 32) -> Levels:
    return Levels(np.zeros(1), np.zeros(1), pace(length=length, stride=1))


def excess(levels: Levels, *values: float, times: int) -> Float64:
    seen = np.tile(values, times)[:, None]
    return levels.excess(np.zeros(len(seen), np.int64), seen)[0][:, 0]


def test_a_series_never_seen_is_judged_by_itself_after_its_first_block() -> None:
    """However far it is from what the model was trained on."""
    levels = one_view()
    assert excess(levels, 5.0, times=BLOCK).min() == 5.0 / LEAST_SPREAD
    assert excess(levels, 5.0, times=100).max() == 0


def test_a_new_level_is_half_taken_over_in_twenty_window_lengths() -> None:
    levels = one_view()
    excess(levels, 0.0, times=100 * BLOCK)
    assert excess(levels, 1.0, times=20 * 32)[0] == 1.0 / LEAST_SPREAD
    level = levels.state["levels"][0, 0, 0]
    assert level == pytest.approx(0.5)


def test_a_short_incident_hardly_moves_it() -> None:
    """Three windows of any evidence: afterwards the same again is nearly as strange."""
    levels = one_view()
    excess(levels, 0.0, times=100 * BLOCK)
    first = excess(levels, 5.0, times=3)
    excess(levels, 0.0, times=BLOCK - 3)
    second = excess(levels, 5.0, times=3)
    assert second.min() > 0.9 * first.min()


def test_who_strays_far_must_go_farther_to_be_strange() -> None:
    calm, restless = one_view(), one_view()
    excess(calm, 0.9, 1.1, times=500)
    excess(restless, 0.0, 2.0, times=500)
    assert excess(calm, 4.0, times=1)[0] > 3 * excess(restless, 4.0, times=1)[0]


def test_below_its_level_nothing_counts() -> None:
    levels = Levels(np.ones(1), np.zeros(1), PACE)
    assert excess(levels, 0.5, 0.0, times=1).tolist() == [0, 0]


def test_a_longer_stride_moves_as_fast_in_ticks() -> None:
    assert (1 - pace(length=32, stride=4)) == pytest.approx((1 - pace(length=32, stride=1)) ** 4)
    assert pace(length=8, stride=8) == 0.25
