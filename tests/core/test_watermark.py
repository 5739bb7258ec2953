"""The watermark of a partition: any comes back, any bytes are one or refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.state import (
    VERSION,
    VERSION_WITH_EXTRAS,
    Watermark,
    decode_watermark,
)
from detector.errors import StateError
from tests.core.streams import START_NS

WHERE = "state/0"


def make_watermark(**changes: Any) -> Watermark:
    fields: dict[str, Any] = {
        "version": VERSION,
        "committed": 7,
        "needed_from": 5,
        "event_ns": START_NS,
        "group": "g",
        "alerts": "a",
        "model": "m",
    }
    return Watermark(**(fields | changes))


@given(
    committed=st.integers(0, 2**63 - 1),
    needed_from=st.integers(0, 2**63 - 1),
    event_ns=st.none() | st.integers(-(2**63), 2**63 - 1),
    group=st.text(),
    alerts=st.text(),
    model=st.text(),
)
@settings(deadline=None)
def test_any_watermark_comes_back(**fields: Any) -> None:
    mark = make_watermark(**fields)
    assert decode_watermark(mark.encode(), WHERE) == mark


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


_MARKS = st.fixed_dictionaries({}, optional=dict.fromkeys(Watermark.__struct_fields__, _JSON)).map(
    lambda tree: json.dumps(tree).encode()
)


@given(st.binary(max_size=60) | _JSON.map(lambda v: json.dumps(v).encode()) | _MARKS)
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_a_watermark_or_refused(value: bytes) -> None:
    try:
        mark = decode_watermark(value, WHERE)
    except StateError as error:
        assert str(error).startswith(WHERE)  # noqa: PT017
        assert "detector state reset" in str(error)  # noqa: PT017
        return
    assert mark.version <= VERSION_WITH_EXTRAS


@pytest.mark.parametrize("value", [b"[" * 100_000, b'{"version": ' + b"[" * 100_000, b"\xff\xfe"])
def test_a_watermark_of_nothing_but_brackets_is_damaged(value: bytes) -> None:
    with pytest.raises(StateError, match="damaged"):
        decode_watermark(value, WHERE)


def test_a_watermark_of_a_newer_program_is_refused() -> None:
    """Whatever else has changed in it."""
    newer = json.dumps({"version": VERSION_WITH_EXTRAS + 1, "offsets": {"committed": 7}}).encode()
    newest = VERSION_WITH_EXTRAS
    says = rf"newer program \(version {newest + 1}, this one reads {newest}\)"
    with pytest.raises(StateError, match=says):
        decode_watermark(newer, WHERE)


def test_a_watermark_of_a_newer_program_is_refused_with_its_old_fields_too() -> None:
    with pytest.raises(StateError, match="newer program"):
        decode_watermark(make_watermark(version=VERSION_WITH_EXTRAS + 1).encode(), WHERE)
