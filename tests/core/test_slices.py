"""Byte strings and names without an object each are the sequences they were made of."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from detector.core.names import Names
from detector.core.slices import Slices


@given(st.lists(st.none() | st.binary(max_size=4), max_size=9), st.slices(9))
def test_slices_are_the_byte_strings_they_were_made_of(
    values: list[bytes | None], part: slice
) -> None:
    several = Slices.of(values)
    assert list(several) == values
    assert [several[i] for i in range(len(several))] == values
    assert list(several[part]) == values[part]
    assert several.size() == sum(len(value or b"") for value in values)


@given(st.lists(st.text(max_size=2), max_size=9), st.lists(st.text(max_size=2), max_size=9))
def test_names_are_the_names_they_were_made_of(first: list[str], second: list[str]) -> None:
    names = Names.of(first)
    assert list(names) == [names[i] for i in range(len(names))] == first
    assert sorted(names.distinct) == sorted(set(first))
    assert list(Names.concatenate([names, Names.of(second)])) == first + second
