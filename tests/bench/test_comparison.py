"""Two runs beside each other: which figures are compared, and what is the machine's."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.bench.comparison import compare, figures

NAMES = st.text("abcdef_", min_size=1, max_size=6)
NUMBERS = st.floats(1e-6, 1e9)
RESULTS = st.recursive(
    st.one_of(NUMBERS, st.integers(1, 10**9), st.text(max_size=3), st.booleans(), st.none()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(NAMES, inner, max_size=3)),
    max_leaves=8,
)


def run(gflops: float, **figures: Any) -> dict[str, Any]:
    return {"matrix_product_gflops": gflops} | figures


@settings(deadline=None)
@given(st.dictionaries(NAMES, RESULTS, max_size=5))
def test_a_run_beside_itself_has_every_figure_at_one(results: dict[str, Any]) -> None:
    found = compare(results, results)
    assert found.keys() == {name for name, _ in figures(results)}
    assert {one.ratio for one in found.values()} <= {1.0}
    assert all(one.normalised is None for one in found.values()), "no matrix product"


@settings(deadline=None)
@given(st.floats(0.1, 10), NUMBERS, st.floats(1, 1000))
def test_on_a_machine_that_is_faster_all_over_nothing_became_better(
    faster: float, value: float, gflops: float
) -> None:
    before = run(gflops, windows_per_s=value, one_window_ms_p50=value)
    after = run(
        gflops * faster,
        windows_per_s=value * faster,
        one_window_ms_p50=value / faster,
    )
    found = compare(before, after)
    for name in ("windows_per_s", "one_window_ms_p50"):
        assert found[name].normalised == pytest.approx(1.0)
    assert found["windows_per_s"].ratio == pytest.approx(faster)
    assert found["one_window_ms_p50"].ratio == pytest.approx(1 / faster)


@pytest.mark.parametrize(
    ("figure", "normalised"),
    [
        ("ticks_per_s", 1.0),
        ("state_bytes_per_s", 1.0),
        ("cpu_us_per_tick", 4.0),
        ("restore_s 10000 series", 4.0),
        ("exactly_once 100 ms: ticks_per_s", 1.0),
        ("exactly_once 100 ms: tick_to_alert_ms_p50", 4.0),
        ("exactly_once 100 ms: rate beside at_least_once", None),
        ("ratio_to_matrix_product", None),
        ("bytes_per_series", None),
        ("matrix_product_windows_per_s", None),
    ],
)
def test_a_rate_is_told_from_a_time_and_both_from_the_rest(
    figure: str, normalised: float | None
) -> None:
    """Twice the figure on a machine that is twice as fast."""
    found = compare(run(50.0, **{figure: 3.0}), run(100.0, **{figure: 6.0}))[figure]
    assert found.ratio == 2.0
    assert found.normalised == normalised


def test_only_what_both_measured_is_compared_within_tables_and_lists_too() -> None:
    before = {"engines": {"a": {"ms": 2.0}, "gone": {"ms": 1.0}}, "p50_p99": [1.0, 4.0], "old": 1}
    after = {"engines": {"a": {"ms": 1.0}, "new": {"ms": 1.0}}, "p50_p99": [1.0, 2.0], "new": 1}
    found = compare(before, after)
    assert {name: one.ratio for name, one in found.items()} == {
        "engines.a.ms": 0.5, "p50_p99.0": 1.0, "p50_p99.1": 0.5,
    }  # fmt: skip


def test_an_earlier_comparison_in_a_baseline_and_what_was_asked_for_are_no_figures() -> None:
    before = {"ticks_per_s": 0, "against": {"ticks_per_s": {"ratio": 3.0}}, "seconds": 10}
    found = compare(before, before)
    assert found.keys() == {"ticks_per_s"}
    assert found["ticks_per_s"].ratio is None, "nothing is a multiple of zero"
