"""Slots given out, released and given out again: nothing of one series reaches another."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.names import Names
from detector.core.series import NO_SLOT, SeriesTable


def test_one_name_in_two_partitions_is_two_series() -> None:
    table = SeriesTable(max_series=10)
    a, b = table.slots(0, ["x"])[0], table.slots(1, ["x"])[0]
    assert a != b
    assert (table.name(a), table.partition(a)) == ("x", 0)
    assert (table.name(b), table.partition(b)) == ("x", 1)


def test_a_full_table_knows_its_series_and_refuses_others() -> None:
    table = SeriesTable(max_series=2)
    assert table.slots(0, ["a", "b", "c", "a"]).tolist() == [0, 1, NO_SLOT, 0]
    table.release(0)
    assert table.slots(1, ["c", "d", "a"]).tolist().count(NO_SLOT) == 1


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
            st.sets(st.sampled_from("abcdef"), max_size=3),
        ),
        max_size=25,
    ),
    st.integers(1, 8),
)
@settings(deadline=None, max_examples=300)
def test_the_table_is_a_dictionary_that_reuses_slots(
    operations: list[tuple[int, list[str] | None, set[str]]], max_series: int
) -> None:
    """None releases the partition; a list asks for the slots of its names. Then some are
    forgotten."""
    table = SeriesTable(max_series=max_series)
    model: dict[tuple[int, str], int] = {}
    for partition, names, leaving in operations:
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
                    assert slot == (NO_SLOT if known is None else known)
        gone = {k: v for k, v in model.items() if k[0] == partition and k[1] in leaving}
        table.forget(np.array(sorted(gone.values()), np.int64))
        model = {k: v for k, v in model.items() if k not in gone}
        assert all(table.find(*k) == NO_SLOT for k in gone)
        assert all(table.find(*k) == v and table.in_use(v) for k, v in model.items())
        assert len(table) == len(model)
        assert table.used().tolist() == sorted(model.values())
        for (p, name), slot in model.items():
            assert (table.name(slot), table.partition(slot)) == (name, p)
        for p in range(3):
            expected = {slot for (q, _), slot in model.items() if q == p}
            assert set(table.of_partition(p).tolist()) == expected
            assert not expected or p in table.partitions()
        assert table.capacity <= max_series, "slots are given out again, not added"


@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abc")), max_size=20))
@settings(deadline=None)
def test_names_of_several_partitions_have_the_slots_of_each(
    ticks: list[tuple[int, str]],
) -> None:
    together, apart = SeriesTable(max_series=5), SeriesTable(max_series=5)
    partition = np.array([p for p, _ in ticks], np.int32)
    found = together.slots_of(partition, [name for _, name in ticks]).tolist()
    assert found == [apart.slots(p, [name]).tolist()[0] for p, name in ticks]


@given(
    ticks=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcd")), max_size=25),
    known=st.lists(st.tuples(st.integers(0, 2), st.sampled_from("abcd")), max_size=4),
    distinct=st.permutations([*"abcde", *"abc", "f"]),
    second=st.booleans(),
)
@settings(deadline=None, max_examples=300)
def test_names_and_numbers_have_the_slots_that_a_list_of_them_has(
    ticks: list[tuple[int, str]],
    known: list[tuple[int, str]],
    distinct: list[str],
    second: bool,
) -> None:
    """Wherever a name stands among the distinct ones, once or twice, whether it has ticks or
    not."""
    numbered, listed = SeriesTable(max_series=4), SeriesTable(max_series=4)
    for table in (numbered, listed):
        for number, name in known:
            table.slots(number, [name])
    names = [name for _, name in ticks]
    partition = np.array([p for p, _ in ticks], np.int32)
    places = [[i for i, one in enumerate(distinct) if one == name] for name in names]
    code = [where[-1] if second and i % 2 else where[0] for i, where in enumerate(places)]
    found = numbered.slots_of(partition, Names(distinct, np.array(code, np.int32)))
    assert found.tolist() == listed.slots_of(partition, names).tolist()
    assert numbered.used().tolist() == listed.used().tolist()
    for slot in numbered.used().tolist():
        assert numbered.name(slot) == listed.name(slot)
    of = numbered.partitions_of(numbered.used()).tolist()
    assert of == [listed.partition(slot) for slot in listed.used().tolist()]
