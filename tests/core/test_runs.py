"""Training windows: none crosses a gap or a border, none is lost."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.features import FeatureSet
from detector.core.readings import FeatureRows, feature_rows, read
from detector.core.runs import RunCollector, WindowSet, ticks_needed
from detector.core.stream import Stream, StreamPolicy
from detector.core.ticks import Float32, TickBatch

_SPLIT = (0.5, 0.2)


def accepted(slots: list[int], restarts: list[bool], rows: Float32) -> FeatureRows:
    return FeatureRows(
        row=np.arange(len(slots)),
        slot=np.array(slots, np.int64),
        restart=np.array(restarts, np.bool_),
        features=rows,
        time_ns=np.arange(len(slots)),
    )


def one_series(count: int, restarts: set[int], *, nan: set[int] = frozenset()) -> FeatureRows:  # type: ignore[assignment]
    rows = np.arange(2 * count, dtype=np.float32).reshape(count, 2)
    rows[sorted(nan)] = np.nan
    return accepted([0] * count, [i == 0 or i in restarts for i in range(count)], rows)


def firsts(windows: WindowSet) -> list[float]:
    """The first number of each window, half of which is its tick."""
    if not len(windows):
        return []
    return [float(x) / 2 for x in windows.cut(slice(None))[:, 0, 0]]


def test_windows_cross_neither_gaps_nor_borders() -> None:
    runs = RunCollector()
    runs.add(one_series(20, {4}))
    (fitting, validating, calibrating), _ = runs.split(_SPLIT, 3)
    assert firsts(fitting) == [0, 1, 4, 5, 6, 7]
    assert firsts(validating) == [10, 11]
    assert firsts(calibrating) == [14, 15, 16, 17]


def test_a_row_without_features_is_in_no_window() -> None:
    runs = RunCollector()
    runs.add(one_series(10, {5}, nan={0, 5}))
    assert firsts(runs.split((1.0, 0.0), 2)[0][0]) == [1, 2, 3, 6, 7, 8]


def test_a_split_empties_the_collector() -> None:
    runs = RunCollector()
    runs.add(one_series(10, set()))
    runs.split(_SPLIT, 2)
    assert [len(windows) for windows in runs.split(_SPLIT, 2)[0]] == [0, 0, 0]


@pytest.mark.parametrize("count", [0, 1, 2])
def test_too_few_ticks_are_no_windows(count: int) -> None:
    runs = RunCollector()
    runs.add(one_series(count, set()))
    assert [len(windows) for windows in runs.split(_SPLIT, 3)[0]] == [0, 0, 0]


def test_a_sample_is_spread_over_all_windows() -> None:
    rows = np.arange(200, dtype=np.float32).reshape(100, 2)
    windows = WindowSet(rows, np.arange(98), 3)
    sample = windows.sample(5)
    assert firsts(sample) == [0, 24, 48, 72, 97]
    assert len(windows.sample(98)) == len(windows.sample(1000)) == 98


@given(
    length=st.integers(2, 4),
    fractions=st.sampled_from([(0.5, 0.2), (0.7, 0.1), (0.34, 0.33), (0.1, 0.1)]),
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 2), st.integers(0, 6)), max_size=25), max_size=4
    ),
    looks_back=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_the_three_sets_are_those_of_plain_lists(
    length: int,
    fractions: tuple[float, float],
    batches: list[list[tuple[int, int]]],
    looks_back: bool,
) -> None:
    runs = RunCollector()
    series: dict[int, list[list[int]]] = {}  # slot -> uninterrupted stretches of row numbers
    number = 0
    for batch in batches:
        batch = sorted(batch, key=lambda t: t[0])
        rows = np.zeros((len(batch), 1), np.float32)
        restarts = []
        for i, (slot, dice) in enumerate(batch):
            number += 1
            restart = dice == 0 or slot not in series
            restarts.append(restart)
            rows[i] = np.nan if restart and looks_back else number
            if restart:
                series.setdefault(slot, []).append([])
            if not (restart and looks_back):
                series[slot][-1].append(number)
        runs.add(accepted([s for s, _ in batch], restarts, rows))
    expected: list[list[list[int]]] = [[], [], []]
    for slot in sorted(series):
        total = sum(map(len, series[slot]))
        first = round(total * fractions[0])
        second = round(total * (fractions[0] + fractions[1]))
        position = 0
        for stretch in series[slot]:
            for i in range(len(stretch) - length + 1):
                begin, end = position + i, position + i + length
                for kind, (low, high) in enumerate([(0, first), (first, second), (second, total)]):
                    if low <= begin and end <= high:
                        expected[kind].append(stretch[i : i + length])
            position += len(stretch)
    for windows, wanted in zip(runs.split(fractions, length)[0], expected, strict=True):
        assert len(windows) == len(wanted)
        if wanted:
            assert windows.cut(slice(None))[:, :, 0].astype(int).tolist() == wanted


def test_the_stream_and_the_collector_fit_together() -> None:
    features = FeatureSet.parse({"d": "diff(x)"})
    stream, runs = Stream(StreamPolicy(fields=1, max_series=1, max_gap_s=1.5)), RunCollector()
    times = [0, 1, 2, 3, 10, 11, 12]
    for part in (slice(0, 3), slice(3, 7)):
        n = len(times[part])
        batch = TickBatch(
            series=["one"] * n,
            time_ns=np.array(times[part], np.int64) * 10**9,
            values=np.array(times[part], np.float64)[:, None] ** 2,
            partition=np.zeros(n, np.int32),
            offset=np.arange(n),
            index=np.zeros(n, np.int32),
            received_ms=np.zeros(n, np.int64),
        )
        reading = read(features, batch.values)
        arrivals = stream.accept(batch, stream.screen(batch, reading.usable))
        runs.add(feature_rows(features, arrivals.accepted, reading))
    (windows, _, _), _ = runs.split((1.0, 0.0), 2)
    assert windows.cut(slice(None))[:, :, 0].tolist() == [[1, 3], [3, 5], [21, 23]]


@given(
    wanted=st.tuples(st.integers(1, 300), st.integers(1, 20), st.integers(1, 600)),
    fitting=st.floats(0.3, 0.8),
    validating=st.floats(0.05, 0.19),
    length=st.integers(4, 40),
    series=st.integers(1, 7),
)
@settings(deadline=None, max_examples=150)
def test_as_many_ticks_as_are_needed_suffice(
    wanted: tuple[int, int, int], fitting: float, validating: float, length: int, series: int
) -> None:
    """In series of one size, and not many more than needed: half of them never do, but of windows
    so short that rounding to whole ticks matters."""
    shares = (fitting, validating, 1 - fitting - validating)
    needed = ticks_needed(wanted, shares, length, series=series, gaps=0)

    def enough(ticks: int) -> bool:
        runs, each = RunCollector(), -(-ticks // series)
        for slot in range(series):
            rows = np.zeros((each, 1), np.float32)
            runs.add(accepted([slot] * each, [i == 0 for i in range(each)], rows))
        assert (runs.series, runs.gaps) == (series, 0)
        found, _ = runs.split(shares[:2], length)
        return all(len(part) >= least for part, least in zip(found, wanted, strict=True))

    assert enough(needed)
    assert not enough(needed // 2 - series)


def test_gaps_are_counted() -> None:
    runs = RunCollector()
    assert (runs.series, runs.gaps) == (0, 0)
    runs.add(one_series(20, {4, 9}))
    assert (runs.series, runs.gaps) == (1, 2)
