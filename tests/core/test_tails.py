"""The tail of a series: evidence goes on to mean what it says, and incidents do not teach it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.blocks import BLOCK, Ends
from detector.core.survival import MOST_EVIDENCE
from detector.core.tails import PATIENCE, PRIOR, Tails, pace
from detector.core.ticks import Float64, Int64

PACE = pace(length=4, stride=1)


def calibrated(count: int, *, seed: int = 1) -> Float64:
    """Evidence of normal windows: one in ten to the x is above x."""
    return np.random.default_rng(seed).exponential(1 / math.log(10), count)


def adjust(tails: Tails, evidence: Float64) -> Float64:
    """Of one series."""
    return counting(tails, evidence)[0]


def counting(tails: Tails, evidence: Float64) -> tuple[Float64, int]:
    adjusted, ends = tails.adjust(np.zeros(len(evidence), np.int64), evidence)
    return adjusted, int((ends.value == 1).sum())


def ended(batches: list[tuple[Int64, Float64]], ends: list[Ends]) -> dict[int, list[bytes]]:
    """What was known of each series where its blocks ended, in order."""
    found: dict[int, list[bytes]] = {}
    for (slot, _), end in zip(batches, ends, strict=True):
        for one, value in zip(slot[end.row].tolist(), end.value, strict=True):
            found.setdefault(one, []).append(value.tobytes())
    return found


@st.composite
def arrivals(draw: st.DrawFn) -> list[tuple[Int64, Float64]]:
    """Batches of windows grouped by slot, with incidents among them."""
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    batches = []
    for most in draw(st.lists(st.sampled_from([1, 3, 90]), min_size=1, max_size=6)):
        slot = np.repeat(np.arange(5), random.integers(0, most + 1, 5))
        batches.append((slot, random.exponential(random.choice([0.2, 0.6, 3.0]), len(slot))))
    return batches


@given(batches=arrivals())
@settings(deadline=None, max_examples=200)
def test_it_is_the_same_to_the_last_bit_however_windows_come(
    batches: list[tuple[Int64, Float64]],
) -> None:
    tails = Tails(PACE)
    parts = [tails.adjust(slot, evidence) for slot, evidence in batches]
    slot = np.concatenate([s for s, _ in batches])
    evidence = np.concatenate([e for _, e in batches])
    order = np.argsort(slot, kind="stable")
    together = Tails(PACE)
    whole, ends = together.adjust(slot[order], evidence[order])
    assert np.concatenate([found for found, _ in parts])[order].tobytes() == whole.tobytes()
    assert ended(batches, [found for _, found in parts]) == ended([(slot[order], evidence)], [ends])
    for one in np.unique(slot).tolist():
        alone = Tails(PACE)
        assert adjust(alone, evidence[slot == one]).tobytes() == whole[slot[order] == one].tobytes()
        for name in alone.state.names:
            assert alone.state[name][0].tobytes() == tails.state[name][one].tobytes()


@given(
    seen=st.lists(st.floats(0, 300), min_size=2, max_size=40).map(sorted),
    past=st.integers(0, 2**32 - 1),
    scale=st.sampled_from([0.01, 0.1, 0.4, 1.0, 5.0]),
)
@settings(deadline=None, max_examples=100)
def test_what_is_rarer_stays_rarer(seen: list[float], past: int, scale: float) -> None:
    tails = Tails(PACE)
    adjust(tails, np.random.default_rng(past).exponential(scale, 20 * BLOCK))
    one_block = np.array(seen[:BLOCK])
    found = adjust(tails, one_block)
    assert np.isfinite(found).all()
    assert (found >= 0).all()
    assert (np.diff(found) >= -1e-12 * found[1:]).all()


def test_a_series_as_it_was_calibrated_stays_so() -> None:
    found = adjust(Tails(pace(length=32, stride=1)), calibrated(200_000))
    for decades in (1, 2, 3):
        assert np.mean(found > decades) == pytest.approx(10.0**-decades, rel=0.35)


@pytest.mark.parametrize(("times", "more"), [(0.3, 0.0), (1.5, 0.0), (1.0, 0.5), (2.0, 0.3)])
def test_the_budget_holds_for_a_series_that_is_another(times: float, more: float) -> None:
    """Heavier in the tail, or stranger altogether; a lighter one alerts less often than it may."""
    evidence = calibrated(300_000) * times + more
    found = adjust(Tails(pace(length=32, stride=1)), evidence)[50_000:]
    before = np.mean(evidence > 3)
    for decades in (1.5, 2.0, 3.0):
        share = np.mean(found > decades) / 10.0**-decades
        assert share < 2.5
        assert share > 0.4 or times < 1
    assert before < 0.4e-3 or before > 2.5e-3, "it was not kept before"


@pytest.mark.parametrize("quiet", ["never above 1", "always nearly", "in a rhythm", "at all"])
def test_a_series_that_is_seldom_strange_does_not_become_so_for_ordinary_windows(
    quiet: str,
) -> None:
    random = np.random.default_rng(5)
    evidence = {
        "never above 1": np.minimum(calibrated(150_000), 1.0),
        "always nearly": random.uniform(0.6, 0.95, 150_000),
        "in a rhythm": np.where(np.arange(150_000) % 32 < 12, 0.85, 0.1),
        "at all": np.full(150_000, 0.2),
    }[quiet]
    tails = Tails(pace(length=32, stride=1))
    found, new_normals = counting(tails, evidence)
    assert found.max() < 1.5
    assert new_normals == 0
    assert adjust(tails, np.array([1.3]))[0] < 3


def test_evidence_ends_where_it_ended() -> None:
    tails = Tails(pace(length=32, stride=1))
    adjust(tails, np.zeros(20_000))
    assert adjust(tails, np.array([MOST_EVIDENCE]))[0] == MOST_EVIDENCE


@pytest.mark.parametrize("stride", [8, 32])
def test_a_long_stride_does_not_forget_what_it_was_calibrated_on(stride: int) -> None:
    found = adjust(Tails(pace(length=32, stride=stride)), calibrated(400_000))
    for decades in (2, 3):
        assert np.mean(found > decades) == pytest.approx(10.0**-decades, rel=0.35)


def test_an_incident_does_not_teach_it_and_a_second_one_is_as_strange() -> None:
    tails = Tails(pace(length=32, stride=1))
    adjust(tails, calibrated(100 * BLOCK))
    incident = np.full(PATIENCE * BLOCK, 6.0)
    first = adjust(tails, incident)
    adjust(tails, calibrated(3 * BLOCK, seed=2))
    second, new_normals = counting(tails, incident)
    assert first.min() > 5
    assert second.max() == pytest.approx(first.max(), rel=0.02)
    assert new_normals == 0


def test_an_incident_that_lasts_becomes_the_new_normal_and_is_counted_once() -> None:
    tails = Tails(pace(length=32, stride=1))
    adjust(tails, calibrated(200 * BLOCK))
    assert counting(tails, np.full(PATIENCE * BLOCK, 6.0))[1] == 0
    assert counting(tails, np.full(BLOCK, 6.0))[1] == 1
    found, again = counting(tails, 3.0 + calibrated(400 * BLOCK, seed=3))
    assert again == 0
    assert np.mean(found[:BLOCK] > 2) > 0.9
    assert np.mean(found[-50 * BLOCK :] > 2) < 0.2


def test_what_it_was_calibrated_on_counts_for_its_first_blocks() -> None:
    """A series that begins with a quiet hour does not call the next one an incident."""
    tails = Tails(pace(length=32, stride=1))
    adjust(tails, np.zeros(PRIOR * BLOCK // 4))
    assert adjust(tails, np.array([2.0]))[0] < 2.4


def test_it_costs_a_series_no_more_than_64_bytes() -> None:
    state = Tails(PACE).state
    assert sum(state[name][0].nbytes for name in state.names) <= 64
