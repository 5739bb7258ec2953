"""The rules of time, one by one and against plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.features import FeatureSet
from detector.core.intake import Accepted, Intake
from detector.core.ticks import Outcome, TickBatch

S = 10**9
#: slot, time in seconds, values
Row = tuple[int, float, tuple[float, ...]]


def batch(rows: Sequence[Row], *, fields: int = 1) -> TickBatch:
    n = len(rows)
    return TickBatch(
        slot=np.array([r[0] for r in rows], np.int64),
        time_ns=np.array([round(r[1] * S) for r in rows], np.int64),
        values=np.array([r[2] for r in rows], np.float64).reshape(n, fields),
        partition=np.zeros(n, np.int32),
        offset=np.arange(n),
        index=np.zeros(n, np.int32),
        received_ms=np.zeros(n, np.int64),
    )


def make_intake(
    expressions: dict[str, str] | None = None, *, max_gap_s: float | None = None
) -> Intake:
    return Intake(FeatureSet.parse(expressions or {"x": "x"}), max_gap_s=max_gap_s)


def outcomes(intake: Intake, rows: Sequence[Row]) -> list[str]:
    """ACCEPTED, or why not, of every tick."""
    found = [Outcome(o).name for o in intake.accept(batch(rows)).outcome]
    return ["ACCEPTED" if name == "SCORED" else name for name in found]


def test_a_tick_older_than_the_newest_is_late() -> None:
    rows: list[Row] = [(0, 5, (1,)), (0, 3, (1,)), (0, 4.999, (2,)), (0, 5, (2,)), (0, 6, (1,))]
    expected = ["ACCEPTED", "LATE", "LATE", "ACCEPTED", "ACCEPTED"]
    assert outcomes(make_intake(), rows) == expected
    one_by_one = make_intake()
    assert [outcomes(one_by_one, [row])[0] for row in rows] == expected


def test_a_late_tick_does_not_become_the_newest() -> None:
    rows: list[Row] = [(0, 5, (1,)), (0, 3, (1,)), (0, 4, (1,))]
    assert outcomes(make_intake(), rows) == ["ACCEPTED", "LATE", "LATE"]


def test_a_repeat_of_the_newest_is_a_duplicate() -> None:
    rows: list[Row] = [(0, 5, (1,)), (0, 5, (1,)), (0, 5, (1,)), (0, 5, (2,)), (0, 5, (1,))]
    expected = ["ACCEPTED", "DUPLICATE", "DUPLICATE", "ACCEPTED", "ACCEPTED"]
    assert outcomes(make_intake(), rows) == expected
    one_by_one = make_intake()
    assert [outcomes(one_by_one, [row])[0] for row in rows] == expected


def test_a_late_tick_between_does_not_hide_a_duplicate() -> None:
    rows: list[Row] = [(0, 5, (1,)), (0, 2, (1,)), (0, 5, (1,))]
    assert outcomes(make_intake(), rows) == ["ACCEPTED", "LATE", "DUPLICATE"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_rejected_and_forgotten(value: float) -> None:
    intake = make_intake()
    accepted = intake.accept(batch([(0, 5, (value,)), (0, 3, (1,))]))
    assert accepted.outcome.tolist() == [Outcome.REJECTED, Outcome.SCORED]
    assert accepted.reason == {0: "not_finite"}


def test_a_feature_that_is_not_finite_rejects_its_tick() -> None:
    intake = make_intake({"r": "log_return(x)"})
    accepted = intake.accept(batch([(0, 1, (1,)), (0, 2, (0,)), (0, 3, (-1,)), (0, 4, (math.e,))]))
    assert accepted.reason == {1: "not_finite", 2: "not_finite"}
    assert accepted.row.tolist() == [0, 3]
    assert accepted.features[1, 0] == pytest.approx(1)


def test_a_tick_without_a_slot_is_over_the_limit() -> None:
    accepted = make_intake().accept(batch([(-1, 1, (1,)), (0, 1, (1,)), (-1, 1, (math.nan,))]))
    assert accepted.reason == {0: "series_limit", 2: "series_limit"}
    assert accepted.row.tolist() == [1]


def test_only_a_gap_above_the_limit_restarts() -> None:
    intake = make_intake(max_gap_s=2)
    rows: list[Row] = [(0, 0, (1,)), (0, 2, (1,)), (0, 4.000000001, (1,)), (0, 4.5, (1,))]
    assert intake.accept(batch(rows)).restart.tolist() == [True, False, True, False]
    assert intake.accept(batch([(0, 6.5, (1,)), (0, 9, (1,))])).restart.tolist() == [False, True]


def test_without_a_limit_no_gap_restarts() -> None:
    rows: list[Row] = [(0, 0, (1,)), (0, 10**9, (1,))]
    assert make_intake().accept(batch(rows)).restart.tolist() == [True, False]


@pytest.mark.parametrize("max_gap_s", [1e9, 1e12, 1e300])
def test_a_limit_beyond_all_times_is_no_limit(max_gap_s: float) -> None:
    rows: list[Row] = [(0, 0, (1,)), (0, 10**6, (1,))]
    intake = make_intake(max_gap_s=max_gap_s)
    assert intake.accept(batch(rows)).restart.tolist() == [True, False]


def test_a_gap_is_measured_from_the_newest_accepted_tick() -> None:
    intake = make_intake(max_gap_s=2)
    rows: list[Row] = [(0, 0, (1,)), (0, 2, (math.nan,)), (0, 3, (1,)), (0, 1, (1,)), (0, 5, (1,))]
    accepted = intake.accept(batch(rows))
    assert accepted.row.tolist() == [0, 2, 4]
    assert accepted.restart.tolist() == [True, True, False]


def test_features_that_look_back_are_nan_at_a_restart_only() -> None:
    intake = make_intake({"d": "diff(x)", "t": "interarrival()"}, max_gap_s=2)
    first = intake.accept(batch([(0, 0, (1,)), (0, 1, (4,))]))
    then = intake.accept(batch([(0, 2.5, (6,)), (0, 9, (7,)), (0, 9, (9,))]))
    features = np.concatenate([first.features, then.features])
    nan = math.nan
    expected = np.array([[nan, nan], [3, 1], [2, 1.5], [nan, nan], [2, 0]])
    np.testing.assert_allclose(features, expected)


def test_accepted_ticks_are_grouped_by_series_in_order_of_arrival() -> None:
    rows: list[Row] = [(7, 3, (1,)), (2, 9, (2,)), (7, 4, (3,)), (0, 0, (4,)), (2, 9, (5,))]
    accepted = make_intake().accept(batch(rows))
    assert accepted.slot.tolist() == [0, 2, 2, 7, 7]
    assert accepted.row.tolist() == [3, 1, 4, 0, 2]
    assert accepted.features[:, 0].tolist() == [4, 2, 5, 1, 3]


def test_without_fields_the_time_alone_tells_a_duplicate() -> None:
    intake = make_intake({"t": "interarrival()"})
    rows: list[Row] = [(0, 1, ()), (0, 1, ()), (0, 2, ())]
    accepted = intake.accept(batch(rows, fields=0))
    assert accepted.outcome.tolist() == [Outcome.SCORED, Outcome.DUPLICATE, Outcome.SCORED]


@pytest.mark.parametrize("rows", [[], [(0, 1, (math.nan,))], [(-1, 1, (1,))]])
def test_a_batch_of_nothing_usable_accepts_nothing(rows: list[Row]) -> None:
    accepted = make_intake().accept(batch(rows))
    assert (len(accepted.row), accepted.features.shape) == (0, (0, 1))
    assert accepted.outcome.tolist() == [Outcome.REJECTED] * len(rows)


_ROWS = st.lists(
    st.tuples(
        st.integers(-1, 3),
        st.sampled_from([-2.0, -0.5, 0.0, 0.0, 0.5, 1.0, 1.0, 1.5, 3.0]),
        st.sampled_from([0.0, -0.0, 1.0, 1.0, 2.0, math.nan]),
    ),
    max_size=60,
)


@given(steps=_ROWS, at=st.lists(st.integers(0, 60), max_size=6), gap=st.sampled_from([None, 1.0]))
@settings(deadline=None, max_examples=500)
def test_ticks_are_accepted_as_if_each_came_alone(
    steps: list[tuple[int, float, float]], at: list[int], gap: float | None
) -> None:
    clock = [100.0] * 5
    rows: list[Row] = []
    for slot, step, value in steps:
        clock[slot] += step
        rows.append((slot, clock[slot], (value,)))
    intake = make_intake({"x": "x", "d": "diff(x)"}, max_gap_s=gap)
    newest: dict[int, Row] = {}
    borders = [0, *sorted(min(a, len(rows)) for a in at), len(rows)]
    for start, end in itertools.pairwise(borders):
        part = rows[start:end]
        accepted = intake.accept(batch(part))
        found = dict(zip(accepted.row.tolist(), _facts(accepted), strict=True))
        for i, row in enumerate(part):
            slot, time_s, (value,) = row
            before = newest.get(slot)
            if slot < 0 or math.isnan(value):
                expected = Outcome.REJECTED
            elif before is not None and time_s < before[1]:
                expected = Outcome.LATE
            elif before is not None and (time_s, (value,)) == before[1:]:
                expected = Outcome.DUPLICATE
            else:
                expected = Outcome.SCORED
                newest[slot] = row
            assert accepted.outcome[i] == expected
            assert (i in found) == (expected == Outcome.SCORED)
            if i in found:
                restart = before is None or (gap is not None and time_s - before[1] > gap)
                step = math.nan if before is None or restart else value - before[2][0]
                assert found[i] == pytest.approx((slot, restart, value, step), nan_ok=True)


def _facts(accepted: Accepted) -> list[tuple[int, bool, float, float]]:
    return [
        (slot, restart, level, step)
        for slot, restart, (level, step) in zip(
            accepted.slot.tolist(),
            accepted.restart.tolist(),
            accepted.features.tolist(),
            strict=True,
        )
    ]
