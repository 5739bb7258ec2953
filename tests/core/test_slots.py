"""Columns by slot: a dictionary of rows that start as zeros."""

from __future__ import annotations

from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.slots import SlotColumns


def make_columns() -> SlotColumns:
    return SlotColumns({"count": ((), np.int64), "pair": ((2,), np.float32)})


def rows(*numbers: int) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    return {
        "count": np.array(numbers, np.int64),
        "pair": np.array([(n, -n) for n in numbers], np.float32).reshape(len(numbers), 2),
    }


def take(columns: SlotColumns, slots: Any) -> dict[str, Any]:
    return {name: columns.rows(slots, name) for name in columns.names}


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, column in found.items():
        np.testing.assert_array_equal(column, expected[name], err_msg=name)


def test_rows_start_as_zeros_however_far_out() -> None:
    columns = make_columns()
    assert_equal(take(columns, np.array([0, 63, 64, 5000])), rows(0, 0, 0, 0))
    assert columns.names == ("count", "pair")


def test_what_is_taken_is_a_copy() -> None:
    columns = make_columns()
    columns.put(np.array([3]), rows(7))
    taken = take(columns, np.array([3]))
    taken["count"][:] = 9
    columns["pair"][3] = 0
    assert_equal(take(columns, np.array([3])), {"count": [7], "pair": [[0, 0]]})
    assert taken["pair"].tolist() == [[7, -7]]


def test_clearing_a_slot_that_was_never_used_is_no_error() -> None:
    columns = make_columns()
    columns.clear(np.array([1, 10**6]))
    columns.clear(np.empty(0, np.int64))
    assert_equal(take(columns, np.array([1])), rows(0))


_SLOTS = st.lists(st.integers(0, 300), unique=True, max_size=5)
_OPERATIONS = st.tuples(st.sampled_from(["put", "clear", "take", "reserve"]), _SLOTS)


@given(st.lists(_OPERATIONS, max_size=30))
@settings(deadline=None, max_examples=200)
def test_columns_are_a_dictionary_of_rows(operations: list[tuple[str, list[int]]]) -> None:
    columns = make_columns()
    model: dict[int, int] = {}
    for number, (operation, chosen) in enumerate(operations):
        slots = np.array(chosen, np.int64)
        if operation == "put":
            values = [number * 10 + i + 1 for i in range(len(chosen))]
            columns.put(slots, rows(*values))
            model.update(zip(chosen, values, strict=True))
        elif operation == "clear":
            columns.clear(slots)
            for slot in chosen:
                model.pop(slot, None)
        elif operation == "take":
            assert_equal(take(columns, slots), rows(*(model.get(s, 0) for s in chosen)))
        else:
            columns.reserve(max(chosen, default=0) + 1)
            assert all(len(columns[name]) > max(chosen, default=0) for name in columns.names)
    everything = np.arange(301)
    assert_equal(take(columns, everything), rows(*(model.get(s, 0) for s in range(301))))
