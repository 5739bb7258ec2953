"""Slots given out, released and given out again: nothing of one series reaches another."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.slots import SeriesTable, SlotColumns


def make_columns() -> SlotColumns:
    return SlotColumns({"count": ((), np.int64), "pair": ((2,), np.float32)})


def rows(*numbers: int) -> dict[str, np.ndarray[Any, np.dtype[Any]]]:
    return {
        "count": np.array(numbers, np.int64),
        "pair": np.array([(n, -n) for n in numbers], np.float32).reshape(len(numbers), 2),
    }


def assert_equal(found: dict[str, Any], expected: dict[str, Any]) -> None:
    assert found.keys() == expected.keys()
    for name, column in found.items():
        np.testing.assert_array_equal(column, expected[name], err_msg=name)


def test_rows_start_as_zeros_however_far_out() -> None:
    columns = make_columns()
    assert_equal(columns.take(np.array([0, 63, 64, 5000])), rows(0, 0, 0, 0))
    assert columns.names == ("count", "pair")


def test_what_is_taken_is_a_copy() -> None:
    columns = make_columns()
    columns.put(np.array([3]), rows(7))
    taken = columns.take(np.array([3]))
    taken["count"][:] = 9
    columns["pair"][3] = 0
    assert_equal(columns.take(np.array([3])), {"count": [7], "pair": [[0, 0]]})
    assert taken["pair"].tolist() == [[7, -7]]


def test_clearing_a_slot_that_was_never_used_is_no_error() -> None:
    columns = make_columns()
    columns.clear(np.array([1, 10**6]))
    columns.clear(np.empty(0, np.int64))
    assert_equal(columns.take(np.array([1])), rows(0))


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
            assert_equal(columns.take(slots), rows(*(model.get(s, 0) for s in chosen)))
        else:
            columns.reserve(max(chosen, default=0) + 1)
            assert all(len(columns[name]) > max(chosen, default=0) for name in columns.names)
    everything = np.arange(301)
    assert_equal(columns.take(everything), rows(*(model.get(s, 0) for s in range(301))))


def test_one_name_in_two_partitions_is_two_series() -> None:
    table = SeriesTable(max_series=10)
    a, b = table.slots(0, ["x"])[0], table.slots(1, ["x"])[0]
    assert a != b
    assert (table.name(a), table.partition(a)) == ("x", 0)
    assert (table.name(b), table.partition(b)) == ("x", 1)


def test_a_full_table_knows_its_series_and_refuses_others() -> None:
    table = SeriesTable(max_series=2)
    assert table.slots(0, ["a", "b", "c", "a"]).tolist() == [0, 1, -1, 0]
    table.release(0)
    assert table.slots(1, ["c", "d", "a"]).tolist().count(-1) == 1


def test_a_released_slot_has_no_name() -> None:
    table = SeriesTable(max_series=2)
    (slot,) = table.slots(0, ["a"]).tolist()
    table.release(0)
    with pytest.raises(KeyError):
        table.name(slot)


@given(
    st.lists(
        st.tuples(
            st.integers(0, 2),
            st.none() | st.lists(st.sampled_from("abcdef"), max_size=6),
        ),
        max_size=25,
    ),
    st.integers(1, 8),
)
@settings(deadline=None, max_examples=300)
def test_the_table_is_a_dictionary_that_reuses_slots(
    operations: list[tuple[int, list[str] | None]], max_series: int
) -> None:
    """None releases the partition; a list asks for the slots of its names."""
    table = SeriesTable(max_series=max_series)
    model: dict[tuple[int, str], int] = {}
    for partition, names in operations:
        if names is None:
            mine = {slot for (p, _), slot in model.items() if p == partition}
            assert set(table.release(partition).tolist()) == mine
            model = {k: v for k, v in model.items() if k[0] != partition}
        else:
            slots = table.slots(partition, names).tolist()
            for name, slot in zip(names, slots, strict=True):
                known = model.get((partition, name))
                if known is None and len(model) < max_series:
                    assert slot >= 0
                    assert slot not in model.values()
                    model[partition, name] = slot
                else:
                    assert slot == (-1 if known is None else known)
        assert len(table) == len(model)
        for (p, name), slot in model.items():
            assert (table.name(slot), table.partition(slot)) == (name, p)
        for p in range(3):
            expected = {slot for (q, _), slot in model.items() if q == p}
            assert set(table.of_partition(p).tolist()) == expected
            assert not expected or p in table.partitions()
        assert table.capacity <= max_series, "slots are given out again, not added"
