"""Ring buffers against lists: which ticks close a window, and what is in it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.ticks import Float32
from detector.core.windows import Windows, WindowStore

Push = tuple[int, bool]  # slot, restart
_SETTINGS = settings(deadline=None)


def make_store(
    *, length: int = 3, features: int = 2, stride: int = 1, needs_previous: bool = False
) -> WindowStore:
    return WindowStore(
        length=length, features=features, stride=stride, needs_previous=needs_previous
    )


def rows_of(count: int, features: int, *, first: int = 0) -> Float32:
    """Rows of numbers that occur once."""
    numbers = np.arange(first * features, (first + count) * features, dtype=np.float32)
    return numbers.reshape(count, features)


def push(store: WindowStore, ticks: Sequence[Push], rows: Float32) -> Windows:
    """Push ticks that are grouped by slot already."""
    slot = np.array([t[0] for t in ticks], np.int64)
    return store.push(slot, np.array([t[1] for t in ticks], np.bool_), rows)


def test_the_first_window_is_full_at_its_last_tick() -> None:
    store = make_store(length=3)
    rows = rows_of(5, 2)
    windows = push(store, [(0, True)] + [(0, False)] * 4, rows)
    assert windows.tick.tolist() == [2, 3, 4]
    assert windows.warming.tolist() == [True, True, False, False, False]
    np.testing.assert_array_equal(windows.cut(slice(None)), [rows[0:3], rows[1:4], rows[2:5]])


def test_a_gap_resets_the_window() -> None:
    store = make_store(length=2)
    rows = rows_of(4, 2)
    windows = push(store, [(0, True), (0, False), (0, True), (0, False)], rows)
    assert windows.tick.tolist() == [1, 3]
    np.testing.assert_array_equal(windows.cut(slice(None)), [rows[0:2], rows[2:4]])


def test_the_first_tick_of_a_run_is_no_part_of_a_window_where_features_look_back() -> None:
    store = make_store(length=2, needs_previous=True)
    rows = rows_of(4, 2)
    rows[0] = np.nan
    windows = push(store, [(0, True), (0, False), (0, False), (0, False)], rows)
    assert windows.tick.tolist() == [2, 3]
    np.testing.assert_array_equal(windows.cut(slice(None)), [rows[1:3], rows[2:4]])


def test_the_stride_counts_from_the_first_full_window_of_a_run() -> None:
    store = make_store(length=2, stride=3)
    windows = push(store, [(0, True)] + [(0, False)] * 8 + [(0, True)] + [(0, False)] * 4,
                   rows_of(14, 2))  # fmt: skip
    assert windows.tick.tolist() == [1, 4, 7, 10, 13]


def test_windows_are_cut_by_position_in_any_order() -> None:
    store = make_store(length=2)
    rows = rows_of(4, 2)
    windows = push(store, [(0, True)] + [(0, False)] * 3, rows)
    np.testing.assert_array_equal(windows.cut(np.array([2, 0])), [rows[2:4], rows[0:2]])
    assert windows.cut(np.empty(0, np.int64)).shape == (0, 2, 2)


def test_a_cut_window_is_a_copy() -> None:
    store = make_store(length=2)
    windows = push(store, [(0, True), (0, False)], rows_of(2, 2))
    windows.cut(slice(None))[:] = -1
    np.testing.assert_array_equal(windows.cut(slice(None))[0], rows_of(2, 2))


@pytest.mark.parametrize("length", [2, 5])
def test_nothing_pushed_is_no_window(length: int) -> None:
    windows = push(make_store(length=length), [], rows_of(0, 2))
    assert (len(windows), len(windows.warming)) == (0, 0)
    assert windows.cut(slice(None)).shape == (0, length, 2)


def test_a_slot_far_beyond_the_first_allocation_works() -> None:
    store = make_store(length=2)
    push(store, [(5, True), (900, True)], rows_of(2, 2))
    windows = push(store, [(5, False), (900, False)], rows_of(2, 2, first=2))
    np.testing.assert_array_equal(
        windows.cut(slice(None)), [[[0, 1], [4, 5]], [[2, 3], [6, 7]]]
    )  # fmt: skip


@given(
    length=st.integers(2, 5),
    stride=st.integers(1, 4),
    needs_previous=st.booleans(),
    features=st.integers(1, 3),
    batches=st.lists(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 5)), max_size=15), max_size=6
    ),
)
@settings(_SETTINGS, max_examples=300)
def test_windows_are_those_of_plain_lists(
    length: int,
    stride: int,
    needs_previous: bool,
    features: int,
    batches: list[list[tuple[int, int]]],
) -> None:
    store = make_store(
        length=length, features=features, stride=stride, needs_previous=needs_previous
    )
    runs: dict[int, list[Float32]] = {}
    pushed = 0
    for batch in batches:
        batch = sorted(batch, key=lambda t: t[0])
        ticks: list[Push] = []
        rows = rows_of(len(batch), features, first=pushed)
        pushed += len(batch)
        expected_ticks, expected_windows, expected_warming = [], [], []
        for i, (slot, dice) in enumerate(batch):
            restart = dice == 0 or slot not in runs
            ticks.append((slot, restart))
            if restart:
                runs[slot] = []
            if restart and needs_previous:
                rows[i] = np.nan
            else:
                runs[slot].append(rows[i].copy())
            beyond = len(runs[slot]) - length
            expected_warming.append(beyond < 0)
            if beyond >= 0 and beyond % stride == 0:
                expected_ticks.append(i)
                expected_windows.append(runs[slot][-length:])
        windows = push(store, ticks, rows)
        assert windows.tick.tolist() == expected_ticks
        assert windows.warming.tolist() == expected_warming
        assert len(windows) == len(expected_ticks)
        if expected_windows:
            np.testing.assert_array_equal(windows.cut(slice(None)), expected_windows)
