"""Bytes to ticks: nothing is lost, nothing raises, and every refusal says why."""

from __future__ import annotations

import json
import math
from fractions import Fraction
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.moments import parse_moment
from detector.core.records import RecordBlock
from detector.core.ticks import REJECT_REASONS, Reject
from tests.core.decoding import (
    FIELDS,
    FORMATS,
    LIMIT,
    FormatName,
    encode,
    flat,
    good,
    make_block,
    make_codec,
    within_64_bits,
)

_SETTINGS = settings(deadline=None)


# -- good ticks


@pytest.mark.parametrize("name", FORMATS)
def test_records_of_one_tick_and_of_several_become_columns_in_order(name: FormatName) -> None:
    codec = make_codec(name)
    records = [
        encode(name, good()),
        encode(name, [good(series="a", bid=1), good(series="b", timestamp=7), good(series="a")]),
        encode(name, []),
        encode(name, good(extra={"ignored": [1, None]}, ask=-0.25)),
    ]
    batch, rejects = codec.decode(make_block(records))
    assert rejects == []
    assert flat(batch) == [
        (100, 0, "EURUSD", 1700000000500000000, (1.5, 2.5), 5000),
        (101, 0, "a", 1700000000500000000, (1.0, 2.5), 5001),
        (101, 1, "b", 7000000000, (1.5, 2.5), 5001),
        (101, 2, "a", 1700000000500000000, (1.5, 2.5), 5001),
        (104, 0, "EURUSD", 1700000000500000000, (1.5, -0.25), 5003),
    ]


@pytest.mark.parametrize("name", FORMATS)
def test_the_series_can_stand_in_the_key(name: FormatName) -> None:
    codec = make_codec(name, series_from="key")
    tick = {"timestamp": 1, "bid": 1, "ask": 2}
    records = [encode(name, tick), encode(name, [tick, tick]), encode(name, tick)]
    keys = ["näme".encode(), b"b", b"series"]
    batch, rejects = codec.decode(make_block([*records, records[0]], [*keys, b"b"]))
    assert rejects == []
    assert list(batch.series) == ["näme", "b", "b", "series", "b"]


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("key", [None, b"", b"\xff\xfe"])
def test_a_key_without_a_name_refuses_the_whole_record(name: FormatName, key: bytes | None) -> None:
    codec = make_codec(name, series_from="key")
    batch, rejects = codec.decode(make_block([encode(name, [good(), good()])], [key]))
    assert len(batch) == 0
    assert [(r.offset, r.reason) for r in rejects] == [(100, "no_series")]


def test_field_names_may_be_any_text() -> None:
    fields = ("cpu.user", "class", "", "t", "s", "f0", 'a "b"', r"\CPU(_Total)\% Time", "µ")
    codec = make_codec(fields=fields)
    tick = {"series": "a", "timestamp": 1} | {f: i for i, f in enumerate(fields)}
    batch, rejects = codec.decode(make_block([encode("json", tick)]))
    assert rejects == []
    assert batch.values.tolist() == [[0, 1, 2, 3, 4, 5, 6, 7, 8]]


@pytest.mark.parametrize("name", FORMATS)
def test_no_fields_are_a_tick_too(name: FormatName) -> None:
    codec = make_codec(name, fields=())
    batch, rejects = codec.decode(make_block([encode(name, good())] * 2))
    assert (batch.values.shape, rejects) == ((2, 0), [])


@pytest.mark.parametrize("name", FORMATS)
def test_a_field_may_also_be_the_time(name: FormatName) -> None:
    """`features: {hour: timestamp}` is unusual and no reason to fail."""
    codec = make_codec(name, fields=("timestamp", "bid"))
    batch, rejects = codec.decode(make_block([encode(name, good(timestamp=7))]))
    assert (batch.values.tolist(), batch.time_ns.tolist(), rejects) == ([[7, 1.5]], [7 * 10**9], [])


def test_a_block_of_no_records_is_an_empty_batch() -> None:
    codec = make_codec()
    batch, rejects = codec.decode(make_block([]))
    assert (len(batch), batch.values.shape, rejects) == (0, (0, 2), [])


# -- refusals

REFUSED: list[tuple[str, FormatName, bytes | None]] = [
    ("null", "json", None),
    ("null", "msgpack", None),
    ("too_large", "json", encode("json", good(note="x" * 2000))),
    ("too_large", "msgpack", encode("msgpack", good(note="x" * 2000))),
    ("not_decodable", "json", b""),
    ("not_decodable", "json", b"{"),
    ("not_decodable", "json", b'{"series": "\xff"}'),
    ("not_decodable", "json", b"\xef\xbb\xbf{}"),
    ("not_decodable", "json", b"[" * 900),
    ("not_decodable", "msgpack", b""),
    ("not_decodable", "msgpack", b"\xc1"),
    ("not_decodable", "msgpack", b"\xdd\xff\xff\xff\xff"),
    ("not_decodable", "msgpack", b"\x81\x80\x01"),
    ("wrong_type", "json", b"7"),
    ("wrong_type", "json", b"[[]]"),
    ("wrong_type", "msgpack", b"\x07"),
]
for _name in FORMATS:
    REFUSED += [
        ("missing_field", _name, encode(_name, {"series": "a", "timestamp": 1, "bid": 1})),
        ("missing_field", _name, encode(_name, {"timestamp": 1, "bid": 1, "ask": 1})),
        ("missing_field", _name, encode(_name, {"series": "a", "bid": 1, "ask": 1})),
        ("missing_field", _name, encode(_name, {})),
        ("wrong_type", _name, encode(_name, good(bid="1.5"))),
        ("wrong_type", _name, encode(_name, good(bid=None))),
        ("wrong_type", _name, encode(_name, good(bid=True))),
        ("wrong_type", _name, encode(_name, good(ask=[1.5]))),
        ("wrong_type", _name, encode(_name, good(ask={}))),
        ("no_series", _name, encode(_name, good(series=7))),
        ("no_series", _name, encode(_name, good(series=None))),
        ("no_series", _name, encode(_name, good(series=""))),
        ("bad_timestamp", _name, encode(_name, good(timestamp="2024-01-01"))),
        ("bad_timestamp", _name, encode(_name, good(timestamp=None))),
        ("bad_timestamp", _name, encode(_name, good(timestamp=True))),
        ("bad_timestamp", _name, encode(_name, good(timestamp=1700000000000))),
        ("bad_timestamp", _name, encode(_name, good(timestamp=-(10**11)))),
        ("bad_timestamp", _name, encode(_name, good(timestamp=1e300))),
        ("bad_timestamp", _name, encode(_name, good(timestamp=math.inf))),
        ("bad_timestamp", _name, encode(_name, good(timestamp=math.nan))),
    ]
REFUSED += [
    ("not_finite", "json", encode("json", good(bid=math.nan))),
    ("not_finite", "json", encode("json", good(bid=-math.inf))),
    ("not_finite", "json", encode("json", good(bid=10**400))),
    ("not_finite", "json", encode("json", good()).replace(b"1.5", b"1e400")),
    ("bad_timestamp", "json", encode("json", good(timestamp=10**400))),
    ("bad_timestamp", "json", encode("json", good()).replace(b"1700000000.5", b"1e400")),
]


@pytest.mark.parametrize(
    ("reason", "name", "record"), REFUSED, ids=[f"{i}-{r[0]}" for i, r in enumerate(REFUSED)]
)
def test_a_record_that_is_no_tick_is_refused_with_the_reason(
    reason: str, name: FormatName, record: bytes | None
) -> None:
    codec = make_codec(name, max_record_bytes=1000)
    fine = encode(name, good())
    batch, rejects = codec.decode(make_block([fine, record, fine]))
    assert [(r.partition, r.offset, r.index, r.reason) for r in rejects] == [(3, 101, 0, reason)]
    assert rejects[0].detail
    assert [tick[0] for tick in flat(batch)] == [100, 103]


def test_every_reason_but_those_of_the_pipeline_is_reached_here() -> None:
    assert {reason for reason, _, _ in REFUSED} == set(REJECT_REASONS) - {
        "series_limit",
        "far_future",
    }


@pytest.mark.parametrize("name", FORMATS)
def test_one_bad_tick_of_an_array_leaves_the_others_in_place(name: FormatName) -> None:
    codec = make_codec(name)
    several = [good(bid=0), good(bid="x"), good(timestamp=10**12), good(bid=3), 7, {}, good(bid=6)]
    batch, rejects = codec.decode(make_block([encode(name, several)]))
    assert [(t[0], t[1], t[4][0]) for t in flat(batch)] == [
        (100, 0, 0.0),
        (100, 3, 3.0),
        (100, 6, 6.0),
    ]
    assert sorted((r.index, r.reason) for r in rejects) == [
        (1, "wrong_type"),
        (2, "bad_timestamp"),
        (4, "wrong_type"),
        (5, "missing_field"),
    ]


# -- nothing is lost, whatever comes

_NUMBERS = (
    st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=True)
    | st.sampled_from([1.5, 1700000000, 1e9, 2**53, 2**63, 10**30])
)
_ODD = st.none() | st.booleans() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
_TICKS = st.fixed_dictionaries(
    {},
    optional={
        "series": st.sampled_from(["a", "b", "c"]) | _ODD,
        "timestamp": st.floats(-1e9, 9e9) | st.integers(0, 9 * 10**9) | _NUMBERS | _ODD,
        "bid": st.floats(-1e6, 1e6) | _NUMBERS | _ODD,
        "ask": st.floats(-1e6, 1e6) | _NUMBERS | _ODD,
        "extra": _NUMBERS | _ODD,
    },
)
_MOSTLY_GOOD = (
    st.builds(good, bid=st.floats(-9, 9), timestamp=st.integers(0, 9))
    | st.builds(
        lambda field, value: good(**{field: value}),
        st.sampled_from(["series", "timestamp", "bid", "ask", "extra"]),
        _NUMBERS | _ODD,
    )
    | _TICKS
)
_CONTENTS = _MOSTLY_GOOD | st.lists(_MOSTLY_GOOD | _ODD, max_size=4)


def _json_bytes(content: Any) -> bytes:
    return encode("json", content)


def _msgpack_bytes(content: Any) -> bytes:
    return encode("msgpack", within_64_bits(content))


@st.composite
def damaged(draw: st.DrawFn, whole: st.SearchStrategy[bytes]) -> bytes:
    record = bytearray(draw(whole))
    if record:
        record[draw(st.integers(0, len(record) - 1))] = draw(st.integers(0, 255))
    return bytes(record[: draw(st.integers(0, len(record)))] if draw(st.booleans()) else record)


def records(name: FormatName) -> st.SearchStrategy[bytes | None]:
    whole = _CONTENTS.map(_json_bytes if name == "json" else _msgpack_bytes)
    found = whole | whole | damaged(whole) | st.binary(max_size=30)
    return found.filter(lambda record: name == "json" or _is_utf8(record)) | st.none()


def _is_utf8(record: bytes) -> bool:
    """MessagePack's text in fields nobody asked for is not looked at: it may be anything."""
    try:
        msgspec.msgpack.decode(record)
    except UnicodeDecodeError:
        return False
    except ValueError:
        return True
    return True


def content_of(name: FormatName, record: bytes | None) -> list[Any]:
    """What a record holds, as another parser sees it; a record that is nothing counts one."""
    if record is None:
        return [None]
    try:
        content = json.loads(record) if name == "json" else msgspec.msgpack.decode(record)
    except ValueError:
        return [None]
    return content if isinstance(content, list) else [content]


def faults_of(tick: Any) -> set[str]:
    """Every reason why this is no tick; empty if it is one."""
    if not isinstance(tick, dict):
        return {"wrong_type"}
    faults = set()
    if not {"series", "timestamp", *FIELDS} <= set(tick):
        faults.add("missing_field")
    for number in [tick[f] for f in FIELDS if f in tick]:
        if isinstance(number, bool) or not isinstance(number, int | float):
            faults.add("wrong_type")
        elif not math.isfinite(number):
            faults.add("not_finite")
    if not isinstance(tick.get("series", ""), str) or tick.get("series") == "":
        faults.add("no_series")
    moment = tick.get("timestamp", 0)
    a_number = isinstance(moment, int | float) and not isinstance(moment, bool)
    if not a_number or not math.isfinite(moment) or abs(Fraction(moment)) * 10**9 > LIMIT:
        faults.add("bad_timestamp")
    return faults


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(_SETTINGS, max_examples=300)
def test_every_tick_of_every_record_is_decoded_or_refused_for_a_reason_it_has(
    name: FormatName, data: st.DataObject
) -> None:
    block = make_block(data.draw(st.lists(records(name), max_size=6)))
    codec = make_codec(name)
    batch, rejects = codec.decode(block)
    decoded = {(t[0], t[1]): t for t in flat(batch)}
    refused = {(r.offset, r.index): r for r in rejects}
    assert len(decoded) + len(refused) == len(batch) + len(rejects), "one fate each"
    expected = {
        (offset, index): tick
        for offset, record in zip(block.offsets, block.values, strict=True)
        for index, tick in enumerate(content_of(name, record))
    }
    assert decoded.keys() | refused.keys() == expected.keys()
    assert decoded.keys() & refused.keys() == set()
    for place, tick in decoded.items():
        source = expected[place]
        faults = faults_of(source)
        # MessagePack can hold NaN in a good record: the intake refuses it there.
        assert faults <= ({"not_finite"} if name == "msgpack" else set()), source
        assert tick[2] == source["series"]
        assert tick[3] == parse_moment(source["timestamp"], "s")
        if not faults:
            assert tick[4] == tuple(float(source[f]) for f in FIELDS)
    for place, reject in refused.items():
        assert reject.reason in faults_of(expected[place]) | {"null", "not_decodable"}, expected[
            place
        ]
        assert (reject.partition, bool(reject.detail)) == (3, True)


@pytest.mark.parametrize("name", FORMATS)
@given(data=st.data())
@settings(_SETTINGS, max_examples=200)
def test_a_record_means_the_same_alone_and_among_others(
    name: FormatName, data: st.DataObject
) -> None:
    block = make_block(data.draw(st.lists(records(name), max_size=6)))
    codec = make_codec(name)
    batch, rejects = codec.decode(block)
    ticks, refused = [], []
    for row in range(len(block)):
        one = RecordBlock(
            block.topic,
            block.partition,
            block.offsets[row : row + 1],
            block.timestamps_ms[row : row + 1],
            block.keys[row : row + 1],
            block.values[row : row + 1],
        )
        alone, alone_rejects = codec.decode(one)
        ticks += flat(alone)
        refused += alone_rejects
    assert flat(batch) == ticks
    assert sorted(rejects, key=_place) == sorted(refused, key=_place)


def _place(reject: Reject) -> tuple[int, int]:
    return reject.offset, reject.index


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("depth", [10, 450, 900, 960, 980, 990, 1000, 5000, 100_000])
def test_nesting_is_no_danger(name: FormatName, depth: int) -> None:
    nested = b"[" * depth + b"]" * depth if name == "json" else b"\x91" * depth + b"\x01"
    deep_extra = encode(name, good(x=0))[:-1] + nested + (b"}" if name == "json" else b"")
    if name == "json":
        deep_extra = encode(name, good(x=0)).replace(b'"x": 0', b'"x": ' + nested)
    codec = make_codec(name)
    batch, rejects = codec.decode(make_block([nested, deep_extra, encode(name, good())]))
    assert {r.offset for r in rejects} | set(batch.offset.tolist()) == {100, 101, 103}
    assert batch.offset.tolist()[-1] == 103
