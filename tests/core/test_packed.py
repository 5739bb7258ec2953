"""Packed records: the ticks that were packed, or a reason for each; never an exception."""

from __future__ import annotations

import json
import math
import struct
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import detector
from detector.core.codec import Codec
from detector.core.dead_letters import dead_letters
from detector.core.encoders import PACKED_BYTES, PACKED_TICKS, make_encoder
from detector.core.packed import NO_TIME, pack
from detector.core.packed_reader import packed_objects
from detector.core.records import RecordBlock
from detector.core.slices import Slices
from detector.core.tick_format import TickFormat
from detector.core.ticks import REJECT_REASONS, TickBatch
from tests.core.decoding import FIELDS, flat, good, make_block

Unit = Literal["s", "ms", "us", "ns", "iso8601"]


def form(
    series_from: Literal["field", "key"] = "field", *, unit: Unit = "s", most: int = 100_000
) -> TickFormat:
    return TickFormat("packed", series_from, "series", "timestamp", unit, most)


def packed(
    ticks: Sequence[tuple[int, int, tuple[float, ...]]] = ((0, 7, (1.5, 2.5)),),
    *,
    fields: Sequence[str] = FIELDS,
    series: Sequence[str] = ("EURUSD",),
) -> bytes:
    """Of ticks (position of the series, time, values)."""
    return pack(
        fields,
        series,
        np.array([tick[0] for tick in ticks], np.int64),
        np.array([tick[1] for tick in ticks], np.int64),
        np.array([tick[2] for tick in ticks], np.float64).reshape(len(ticks), len(fields)),
    )


def reasons(rejects: Sequence[Any]) -> list[tuple[int, int, str]]:
    assert all(reject.detail and reject.partition == 3 for reject in rejects)
    return [(reject.offset, reject.index, reject.reason) for reject in rejects]


# -- what it holds


def test_the_bytes_are_those_of_the_documentation() -> None:
    fields, series = b"\x03\x00bid\x03\x00ask", b"\x01\x00a\x03\x00b\xc3\xa4"
    expected = (
        struct.pack("<4sBBHIIII", b"\x89TKS", 1, 0, 2, len(fields), 2, len(series), 3)
        + fields
        + series
        + struct.pack("<3q", 5, -6, 2**62)
        + struct.pack("<3I", 1, 0, 1)
        + struct.pack("<6d", 1.0, 2.0, -3.0, 4.5, 0.1, 1e300)
    )
    ticks = [(1, 5, (1.0, 2.0)), (0, -6, (-3.0, 4.5)), (1, 2**62, (0.1, 1e300))]
    assert packed(ticks, series=["a", "bä"]) == expected
    alone = packed([(0, 5, (1.0, 2.0))], series=["a"])
    assert alone[-24:] == struct.pack("<q2d", 5, 1.0, 2.0), "no column of series"


_FINITE = st.floats(allow_nan=False, allow_infinity=False)
_TIMES = st.integers(-(2**63) + 1, 2**63 - 1)
_NAMES = st.lists(
    st.text(st.characters(codec="utf-8"), min_size=1, max_size=3), min_size=1, max_size=4
)


@st.composite
def records(draw: st.DrawFn) -> tuple[list[str], list[tuple[int, int, tuple[float, ...]]]]:
    names = draw(_NAMES)
    tick = st.tuples(st.integers(0, len(names) - 1), _TIMES, st.tuples(_FINITE, _FINITE))
    return names, draw(st.lists(tick, max_size=6))


@given(several=st.lists(records(), max_size=4))
@settings(deadline=None)
def test_what_was_packed_is_decoded_and_as_json_would_be(several: list[Any]) -> None:
    bodies = [packed(ticks, series=names) for names, ticks in several]
    as_json = [
        json.dumps(
            [
                {"series": names[code], "timestamp": time_ns, "bid": bid, "ask": ask}
                for code, time_ns, (bid, ask) in ticks
            ],
            ensure_ascii=False,
        ).encode()
        for names, ticks in several
    ]
    batch, rejects = Codec(form(), FIELDS).decode(make_block(bodies))
    assert rejects == []
    beside, none = Codec(
        TickFormat("json", "field", "series", "timestamp", "ns", 100_000), FIELDS
    ).decode(make_block(as_json))
    assert (flat(batch), none) == (flat(beside), [])
    expected = [
        (names[code], time_ns, values)
        for names, ticks in several
        for code, time_ns, values in ticks
    ]
    assert [tick[2:5] for tick in flat(batch)] == expected
    again, _ = Codec(form(), FIELDS).decode(make_block(Slices.of(bodies)))
    assert flat(again) == flat(batch)


def test_columns_are_the_machines_own_and_may_be_written() -> None:
    batch, _ = Codec(form(), FIELDS).decode(make_block([packed()]))
    columns = (batch.time_ns, batch.values, batch.offset, batch.index, batch.received_ms)
    assert [column.dtype for column in columns] == ["int64", "float64", "int64", "int32", "int64"]
    assert all(column.flags.writeable and column.flags.aligned for column in columns)
    empty, _ = Codec(form(), FIELDS).decode(make_block([]))
    assert (len(empty), empty.values.shape) == (0, (0, 2))


def test_fields_are_found_by_their_names() -> None:
    body = packed([(0, 7, (1.0, math.nan, 3.0, 4.0))], fields=["ask", "other", "µ", "bid"])
    batch, rejects = Codec(form(), ("bid", "µ", "ask")).decode(make_block([body]))
    assert (batch.values.tolist(), rejects) == ([[4.0, 3.0, 1.0]], [])
    nothing, _ = Codec(form(), ()).decode(make_block([body]))
    assert nothing.values.shape == (1, 0)


@pytest.mark.parametrize(("unit", "expected"), [("s", 1.5), ("ms", 1500.0), ("iso8601", 1.5)])
def test_a_field_may_also_be_the_time(unit: Unit, expected: float) -> None:
    codec = Codec(form(unit=unit), ("bid", "timestamp", "ask"))
    batch, _ = codec.decode(make_block([packed([(0, 1_500_000_000, (1.0, 2.0))])]))
    assert batch.values.tolist() == [[1.0, expected, 2.0]]


def test_the_series_can_stand_in_the_key() -> None:
    codec = Codec(form("key"), FIELDS)
    two = [(0, 7, (1.0, 2.0)), (9, 8, (1.0, 2.0))]
    bodies = [packed(two, series=()), packed(two, series=("x", "y"))]
    keys = ["näme".encode(), b"b"]
    batch, rejects = codec.decode(make_block(bodies, keys))
    assert (list(batch.series), rejects) == (["näme", "näme", "b", "b"], [])
    batch, rejects = codec.decode(make_block(bodies * 2, [None, b"", b"\xff", b"x" * 1001]))
    assert len(batch) == 0
    assert reasons(rejects) == [
        (100, 0, "no_series"), (101, 0, "no_series"), (103, 0, "no_series"),
        (104, 0, "no_series"), (104, 1, "no_series"),
    ]  # fmt: skip


# -- what is refused

_GOOD = packed([(0, 1, (1.0, 2.0)), (1, 2, (3.0, 4.0))], series=["a", "b"])


def changed(at: int, *new: int) -> bytes:
    return _GOOD[:at] + bytes(new) + _GOOD[at + len(new) :]


DAMAGED: list[bytes | None] = [
    b"",
    b"{}",
    *(_GOOD[:cut] for cut in range(len(_GOOD))),
    _GOOD + b"\0",
    _GOOD + _GOOD,
    *(changed(at, 255) for at in range(24)),  # magic, version, counts and sizes
    changed(4, 2),
    changed(5, 1),
    changed(6, 1),
    changed(6, 3),
    changed(12, 1),
    changed(12, 3),
    changed(20, 1),
    changed(20, 3),
    changed(23, 255),
    changed(24, 4),  # the length of a name
    changed(26, 0xFF),  # its UTF-8
    _GOOD.replace(b"ask", b"bid"),
    _GOOD.replace(b"\x01\x00b", b"\x01\x00\x80"),
]


@pytest.mark.parametrize("record", DAMAGED)
def test_a_damaged_record_is_refused_whole_and_harms_no_other(record: bytes) -> None:
    batch, rejects = Codec(form(), FIELDS).decode(make_block([_GOOD, record, _GOOD]))
    assert reasons(rejects) == [(101, 0, "not_decodable")]
    assert batch.offset.tolist() == [100, 100, 103, 103]


def test_records_that_are_none_or_too_large_are_refused() -> None:
    codec = Codec(form(most=len(_GOOD)), FIELDS)
    batch, rejects = codec.decode(make_block([None, _GOOD, _GOOD + b"\0"]))
    assert reasons(rejects) == [(100, 0, "null"), (103, 0, "too_large")]
    assert batch.offset.tolist() == [101, 101]


def test_a_bad_tick_leaves_the_others_of_its_record_in_place() -> None:
    fine = (1.0, 2.0)
    names = ["a", "", "x" * 1001, "b"]
    ticks = [
        (0, 1, fine), (0, 2, (math.nan, 1.0)), (3, 3, fine), (1, 4, fine), (2, 5, fine),
        (4, 6, fine), (2**32 - 1, 7, fine), (0, NO_TIME, fine), (0, 8, (1.0, -math.inf)),
        (4, NO_TIME, (math.nan, 1.0)), (3, 9, fine),
    ]  # fmt: skip
    batch, rejects = Codec(form(), FIELDS).decode(make_block([packed(ticks, series=names), _GOOD]))
    assert [tick[:3] for tick in flat(batch)] == [
        (100, 0, "a"), (100, 2, "b"), (100, 10, "b"), (101, 0, "a"), (101, 1, "b"),
    ]  # fmt: skip
    assert reasons(rejects) == [
        (100, 1, "not_finite"), (100, 3, "no_series"), (100, 4, "no_series"),
        (100, 5, "no_series"), (100, 6, "no_series"), (100, 7, "bad_timestamp"),
        (100, 8, "not_finite"), (100, 9, "not_finite"),
    ]  # fmt: skip


def test_every_tick_without_a_field_or_a_series_is_refused() -> None:
    two = [(0, 7, (1.0,)), (0, 8, (1.0,))]
    without = packed(two, fields=["bid"])
    nameless = packed([(0, 7, (1.0, 2.0))] * 2, series=())
    nothing = packed([], fields=["bid"])
    batch, rejects = Codec(form(), FIELDS).decode(make_block([without, nameless, nothing, _GOOD]))
    assert batch.offset.tolist() == [104, 104]
    assert reasons(rejects) == [
        (100, 0, "missing_field"), (101, 0, "no_series"), (101, 1, "no_series"),
    ]  # fmt: skip
    assert [reject.ticks for reject in rejects] == [2, 1, 1]


def test_a_dead_letter_holds_the_record_as_it_was() -> None:
    damaged = _GOOD[:-1]
    block = make_block([_GOOD, damaged], [b"k", b"key"])
    _, rejects = Codec(form(), FIELDS).decode(block)
    (letter,) = dead_letters(rejects, {3: block}, max_bytes=10_000)
    assert (letter.key, letter.value) == (b"key", damaged)
    assert dict(letter.headers)["reason"] == b"not_decodable"


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    names, ticks = draw(records())
    body = bytearray(packed(ticks, series=names))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(body) - 1))
        # Counts and sizes come first, and small ones are what they are mistaken for.
        body[min(at, draw(st.sampled_from([23, len(body) - 1])))] = draw(
            st.integers(0, 255) | st.integers(0, 4)
        )
    return bytes(body) if draw(st.booleans()) else bytes(body)[: draw(st.integers(0, len(body)))]


@given(bodies=st.lists(mutated() | st.binary(max_size=40), max_size=4), by_key=st.booleans())
@settings(deadline=None, max_examples=500)
def test_whatever_comes_every_tick_is_decoded_or_refused_once(
    bodies: list[bytes], by_key: bool
) -> None:
    codec = Codec(form("key" if by_key else "field"), FIELDS)
    several = [*bodies, _GOOD]
    block = make_block(several, [b"k"] * len(several))
    batch, rejects = codec.decode(block)
    places = Counter([*zip(batch.offset.tolist(), batch.index.tolist(), strict=True)])
    places += Counter((reject.offset, reject.index) for reject in rejects)
    assert set(places.values()) == {1}
    assert {reject.reason for reject in rejects} <= set(REJECT_REASONS)
    assert batch.offset.tolist()[-2:] == [block.offsets[-1]] * 2
    assert np.isfinite(batch.values).all()
    for row, offset in enumerate(block.offsets):
        indexes = sorted(index for at, index in places if at == offset)
        assert indexes == list(range(len(indexes))), "none is left out"
        alone = codec.decode(one_of(block, row))
        assert flat(alone[0]) == [tick for tick in flat(batch) if tick[0] == offset]


def one_of(block: RecordBlock, row: int) -> RecordBlock:
    return make_one(block, slice(row, row + 1))


def make_one(block: RecordBlock, rows: slice) -> RecordBlock:
    return RecordBlock(
        block.topic, block.partition, block.offsets[rows], block.timestamps_ms[rows],
        block.keys[rows], block.values[rows],
    )  # fmt: skip


# -- what is encoded


def decoded(how: TickFormat, add: Sequence[tuple[Any, Any, dict[str, Any]]]) -> TickBatch:
    encoder = make_encoder(how)
    for one in add:
        encoder.add(*one)
    messages = encoder.take()
    assert encoder.take() == []
    for message in messages:
        assert message.value is not None
        assert len(message.value) <= how.max_record_bytes
    block = make_block([m.value for m in messages], [m.key for m in messages])
    batch, rejects = Codec(how, FIELDS).decode(block)
    assert rejects == []
    return batch


@pytest.mark.parametrize("series_from", ["field", "key"])
def test_a_series_has_its_own_records_in_order(series_from: Literal["field", "key"]) -> None:
    ticks: list[tuple[str, int, dict[str, Any]]]
    ticks = [("ab"[i % 2], i, {"bid": i, "ask": 0.5}) for i in range(3 * PACKED_TICKS)]
    ticks += [("a", 10**6 + i, {"ask": 1.0, "more": "x", "bid": i}) for i in range(3)]
    batch = decoded(form(series_from), ticks)
    assert len(batch) == len(ticks)
    for name in "ab":
        mine = [tick for tick in flat(batch) if tick[2] == name]
        expected = [(t, (float(f["bid"]), f["ask"])) for s, t, f in ticks if s == name]
        assert [(tick[3], tick[4]) for tick in mine] == expected
    assert len(set(batch.offset.tolist())) == 5


def test_records_stay_below_what_is_accepted() -> None:
    ticks = [("a", i, {**good(), **{f"f{j}": 1.0 for j in range(900)}}) for i in range(300)]
    assert len(decoded(form(most=2 * PACKED_BYTES), ticks)) == 300


def test_what_is_no_number_travels_as_none() -> None:
    encoder = make_encoder(form())
    odd: list[Any] = [None, "text", True, [1], math.nan, 10**400, -(10**400)]
    for value in odd:
        encoder.add("a", 1, {"bid": value, "ask": 1.0})
    for moment in (None, 2**63, 1.5, "soon", True):
        encoder.add("a", moment, {"bid": 1.0, "ask": 1.0})
    encoder.add(None, 1, {"bid": 1.0, "ask": 1.0})
    encoder.add(7, 1, {"bid": 1.0, "ask": 1.0})
    messages = encoder.take()
    assert [message.key for message in messages] == [b"a", None, b"7"]
    batch, rejects = Codec(form(), FIELDS).decode(make_block([m.value for m in messages]))
    assert list(batch.series) == ["7"]
    assert Counter(reject.reason for reject in rejects) == {
        "not_finite": 7, "bad_timestamp": 5, "no_series": 1,
    }  # fmt: skip


def test_what_has_no_form_is_said_at_once_and_harms_no_other() -> None:
    encoder = make_encoder(form())
    encoder.add("a", 1, {"bid": 1.0, "ask": 1.0})
    for series, fields in (("x" * 70_000, {}), ("a", {"f" * 70_000: 1.0}), ("\ud800", {})):
        with pytest.raises(ValueError, match=r"too long|surrogates"):
            encoder.add(series, 1, fields)
    encoder.add("a", 2, {"bid": 2.0, "ask": 1.0})
    (message,) = encoder.take()
    batch, _ = Codec(form(), FIELDS).decode(make_block([message.value]))
    assert batch.time_ns.tolist() == [1, 2]


def test_a_record_can_be_told_as_objects() -> None:
    body = packed([(1, 1_500_000_000, (1.0, 2.0)), (7, 2 * 10**9, (3.0, 4.0))], series=["a", "b"])
    assert packed_objects(body, form()) == [
        {"bid": 1.0, "ask": 2.0, "timestamp": 1.5, "series": "b"},
        {"bid": 3.0, "ask": 4.0, "timestamp": 2},
    ]


def test_what_the_documentation_writes_is_read() -> None:
    page = (Path(detector.__file__).parents[1] / "docs" / "packed.md").read_text()
    found: dict[str, Any] = {}
    exec(page.partition("```python\n")[2].partition("```")[0], found)
    body = found["packed"](["ask", "bid"], "EURUSD", [1, 2], [(1.0, 2.0), (3.0, 4.0)])
    batch, rejects = Codec(form(), FIELDS).decode(make_block([body]))
    assert rejects == []
    assert [tick[2:5] for tick in flat(batch)] == [
        ("EURUSD", 1, (2.0, 1.0)),
        ("EURUSD", 2, (4.0, 3.0)),
    ]
