"""The rules of time, one by one and against plain Python."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.features import FeatureSet
from detector.core.readings import feature_rows, read
from detector.core.stream import Stream, StreamPolicy
from detector.core.ticks import Float32, Outcome, TickBatch

S = 10**9
#: series, time in seconds, values
Row = tuple[int, float, tuple[float, ...]]


def batch(rows: Sequence[Row], *, fields: int = 1, first: int = 0) -> TickBatch:
    n = len(rows)
    return TickBatch(
        series=[f"s{r[0]}" for r in rows],
        time_ns=np.array([round(r[1] * S) for r in rows], np.int64),
        values=np.array([r[2] for r in rows], np.float64).reshape(n, fields),
        partition=np.zeros(n, np.int32),
        offset=np.arange(first, first + n),
        index=np.zeros(n, np.int32),
        received_ms=np.zeros(n, np.int64),
    )


@dataclass
class Seen:
    """What a stream and a model that reads it make of a batch. series: of each accepted tick."""

    outcome: list[int]
    reason: dict[int, str]
    row: list[int]
    series: list[int]
    restart: list[bool]
    features: Float32


class Reader:
    def __init__(
        self,
        expressions: dict[str, str] | None = None,
        *,
        max_gap_s: float | None = None,
        max_series: int = 100,
    ) -> None:
        self.features = FeatureSet.parse(expressions or {"x": "x"})
        fields = len(self.features.fields)
        self.stream = Stream(StreamPolicy(fields, max_series, max_gap_s=max_gap_s))

    def accept(self, ticks: TickBatch) -> Seen:
        reading = read(self.features, ticks.values)
        arrivals = self.stream.accept(ticks, self.stream.screen(ticks, reading.usable))
        rows = feature_rows(self.features, arrivals.accepted, reading)
        names = [self.stream.series.name(slot) for slot in rows.slot.tolist()]
        return Seen(
            arrivals.outcome.tolist(),
            dict(arrivals.refused),
            rows.row.tolist(),
            [int(name[1:]) for name in names],
            [bool(begins) for begins in rows.restart],
            rows.features,
        )


def outcomes(reader: Reader, rows: Sequence[Row]) -> list[str]:
    """ACCEPTED, or why not, of every tick."""
    found = [Outcome(o).name for o in reader.accept(batch(rows)).outcome]
    return ["ACCEPTED" if name == "SCORED" else name for name in found]


def test_a_tick_older_than_the_newest_is_late() -> None:
    rows: list[Row] = [(0, 5, (1,)), (0, 3, (1,)), (0, 4.999, (2,)), (0, 5, (2,)), (0, 6, (1,))]
    expected = ["ACCEPTED", "LATE", "LATE", "ACCEPTED", "ACCEPTED"]
    assert outcomes(Reader(), rows) == expected
    one_by_one = Reader()
    assert [outcomes(one_by_one, [row])[0] for row in rows] == expected


def test_a_late_tick_does_not_become_the_newest() -> None:
    rows: list[Row] = [(0, 5, (1,)), (0, 3, (1,)), (0, 4, (1,))]
    assert outcomes(Reader(), rows) == ["ACCEPTED", "LATE", "LATE"]


def test_a_repeat_of_the_newest_is_a_duplicate() -> None:
    rows: list[Row] = [(0, 5, (1,)), (0, 5, (1,)), (0, 5, (1,)), (0, 5, (2,)), (0, 5, (1,))]
    expected = ["ACCEPTED", "DUPLICATE", "DUPLICATE", "ACCEPTED", "ACCEPTED"]
    assert outcomes(Reader(), rows) == expected
    one_by_one = Reader()
    assert [outcomes(one_by_one, [row])[0] for row in rows] == expected


def test_a_late_tick_between_does_not_hide_a_duplicate() -> None:
    rows: list[Row] = [(0, 5, (1,)), (0, 2, (1,)), (0, 5, (1,))]
    assert outcomes(Reader(), rows) == ["ACCEPTED", "LATE", "DUPLICATE"]


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_a_value_that_is_not_finite_is_rejected_and_forgotten(value: float) -> None:
    reader = Reader()
    accepted = reader.accept(batch([(0, 5, (value,)), (0, 3, (1,))]))
    assert accepted.outcome == [Outcome.REJECTED, Outcome.SCORED]
    assert accepted.reason == {0: "not_finite"}


def test_a_feature_that_is_not_finite_rejects_its_tick() -> None:
    reader = Reader({"r": "log_return(x)"})
    accepted = reader.accept(batch([(0, 1, (1,)), (0, 2, (0,)), (0, 3, (-1,)), (0, 4, (math.e,))]))
    assert accepted.reason == {1: "not_finite", 2: "not_finite"}
    assert accepted.row == [0, 3]
    assert accepted.features[1, 0] == pytest.approx(1)


def test_a_series_without_room_is_over_the_limit() -> None:
    reader = Reader(max_series=1)
    accepted = reader.accept(batch([(0, 1, (1,)), (1, 1, (1,)), (2, 1, (math.nan,)), (0, 2, (1,))]))
    assert accepted.reason == {1: "series_limit", 2: "not_finite"}
    assert accepted.row == [0, 3]


@pytest.mark.parametrize("max_series", [1, 100])
def test_a_rejected_tick_leaves_no_series_behind(max_series: int) -> None:
    reader = Reader({"r": "log(x)"}, max_series=max_series)
    accepted = reader.accept(batch([(5, 1, (math.nan,)), (6, 1, (-1,)), (7, 1, (math.e,))]))
    assert accepted.reason == {0: "not_finite", 1: "not_finite"}
    assert len(reader.stream.series) == 1
    assert reader.stream.series.find(0, "s7") >= 0


def test_only_a_gap_above_the_limit_restarts() -> None:
    reader = Reader(max_gap_s=2)
    rows: list[Row] = [(0, 0, (1,)), (0, 2, (1,)), (0, 4.000000001, (1,)), (0, 4.5, (1,))]
    assert reader.accept(batch(rows)).restart == [True, False, True, False]
    assert reader.accept(batch([(0, 6.5, (1,)), (0, 9, (1,))])).restart == [False, True]


def test_without_a_limit_no_gap_restarts() -> None:
    rows: list[Row] = [(0, 0, (1,)), (0, 10**9, (1,))]
    assert Reader().accept(batch(rows)).restart == [True, False]


@pytest.mark.parametrize("max_gap_s", [1e9, 1e12, 1e300])
def test_a_limit_beyond_all_times_is_no_limit(max_gap_s: float) -> None:
    rows: list[Row] = [(0, 0, (1,)), (0, 10**6, (1,))]
    reader = Reader(max_gap_s=max_gap_s)
    assert reader.accept(batch(rows)).restart == [True, False]


def test_a_gap_is_measured_from_the_newest_accepted_tick() -> None:
    reader = Reader(max_gap_s=2)
    rows: list[Row] = [(0, 0, (1,)), (0, 2, (math.nan,)), (0, 3, (1,)), (0, 1, (1,)), (0, 5, (1,))]
    accepted = reader.accept(batch(rows))
    assert accepted.row == [0, 2, 4]
    assert accepted.restart == [True, True, False]


def test_features_that_look_back_are_nan_at_a_restart_only() -> None:
    reader = Reader({"d": "diff(x)", "t": "interarrival()"}, max_gap_s=2)
    first = reader.accept(batch([(0, 0, (1,)), (0, 1, (4,))]))
    then = reader.accept(batch([(0, 2.5, (6,)), (0, 9, (7,)), (0, 9, (9,))]))
    features = np.concatenate([first.features, then.features])
    nan = math.nan
    expected = np.array([[nan, nan], [3, 1], [2, 1.5], [nan, nan], [2, 0]])
    np.testing.assert_allclose(features, expected)


def test_accepted_ticks_are_grouped_by_series_in_order_of_arrival() -> None:
    rows: list[Row] = [(7, 3, (1,)), (2, 9, (2,)), (7, 4, (3,)), (0, 0, (4,)), (2, 9, (5,))]
    accepted = Reader().accept(batch(rows))
    assert accepted.series == [7, 7, 2, 2, 0]
    assert accepted.row == [0, 2, 1, 4, 3]
    assert accepted.features[:, 0].tolist() == [1, 3, 2, 5, 4]


def test_without_fields_the_time_alone_tells_a_duplicate() -> None:
    reader = Reader({"t": "interarrival()"})
    rows: list[Row] = [(0, 1, ()), (0, 1, ()), (0, 2, ())]
    accepted = reader.accept(batch(rows, fields=0))
    assert accepted.outcome == [Outcome.SCORED, Outcome.DUPLICATE, Outcome.SCORED]


@pytest.mark.parametrize("rows", [[], [(0, 1, (math.nan,))]])
def test_a_batch_of_nothing_usable_accepts_nothing(rows: list[Row]) -> None:
    accepted = Reader().accept(batch(rows))
    assert (accepted.row, accepted.features.shape) == ([], (0, 1))
    assert accepted.outcome == [Outcome.REJECTED] * len(rows)


_ROWS = st.lists(
    st.tuples(
        st.integers(0, 4),
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
    for series, step, value in steps:
        clock[series] += step
        rows.append((series, clock[series], (value,)))
    reader = Reader({"x": "x", "d": "diff(x)"}, max_gap_s=gap, max_series=4)
    newest: dict[int, Row] = {}
    borders = [0, *sorted(min(a, len(rows)) for a in at), len(rows)]
    for start, end in itertools.pairwise(borders):
        part = rows[start:end]
        accepted = reader.accept(batch(part, first=start))
        found = dict(zip(accepted.row, _facts(accepted), strict=True))
        for i, row in enumerate(part):
            series, time_s, (value,) = row
            before = newest.get(series)
            if math.isnan(value) or (before is None and len(newest) == 4):
                expected = Outcome.REJECTED
            elif before is not None and time_s < before[1]:
                expected = Outcome.LATE
            elif before is not None and (time_s, (value,)) == before[1:]:
                expected = Outcome.DUPLICATE
            else:
                expected = Outcome.SCORED
                newest[series] = row
            assert accepted.outcome[i] == expected
            assert (i in found) == (expected == Outcome.SCORED)
            if i in found:
                restart = before is None or (gap is not None and time_s - before[1] > gap)
                step = math.nan if before is None or restart else value - before[2][0]
                assert found[i] == pytest.approx((series, restart, value, step), nan_ok=True)
        assert len(reader.stream.series) == len(newest)


def _facts(accepted: Seen) -> list[tuple[int, bool, float, float]]:
    return [
        (series, restart, level, step)
        for series, restart, (level, step) in zip(
            accepted.series, accepted.restart, accepted.features.tolist(), strict=True
        )
    ]
