"""What C reads of JSON is what msgspec and Python read: the same ticks to the bit, and refusals."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from random import Random
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.core.codec import Codec
from detector.core.columns_of_json import JsonColumns
from detector.core.moments import TimestampUnit
from detector.core.names import Names
from detector.core.objects import ObjectReader
from detector.core.records import RecordBlock
from detector.core.slices import Slices
from detector.core.tick_format import TickFormat
from detector.core.ticks import Reject, TickBatch
from tests.core import hostile_json
from tests.core.decoding import FIELDS, UNITS, encode, good, make_block

pytest.importorskip("detector.native._ticks", reason="not built")

Place = Literal["field", "key"]


def form(
    unit: TimestampUnit = "s", series_from: Place = "field", max_record_bytes: int = 3000
) -> TickFormat:
    return TickFormat("json", series_from, "series", "timestamp", unit, max_record_bytes)


def as_seen(batch: TickBatch, rejects: list[Reject]) -> tuple[Any, ...]:
    """All of it; doubles as their bits."""
    return (
        list(batch.series),
        batch.time_ns.tolist(),
        batch.values.view(np.int64).tolist(),
        batch.offset.tolist(),
        batch.index.tolist(),
        batch.received_ms.tolist(),
        rejects,
    )


def both(
    block: RecordBlock, how: TickFormat, fields: Sequence[str] = FIELDS
) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """As it is decoded, and as it is read object by object."""
    one_by_one = ObjectReader(how, fields).read(block, range(len(block)))
    assert JsonColumns(how, fields).able
    fast = Codec(how, fields).decode(block)
    return as_seen(*fast), as_seen(one_by_one.batch(block), one_by_one.rejects)


def left(records: Sequence[bytes | None], how: TickFormat, fields: Sequence[str]) -> list[int]:
    rows: list[int] = JsonColumns(how, fields).read(make_block(records))[1].tolist()
    return rows


USUAL = [
    encode("json", good()),
    json.dumps(good(series="näme"), ensure_ascii=False).encode(),
    b' {"ask": -1e-5,"timestamp" :3 , "bid":0.1,\n"series":"a"}\r\n',
    encode("json", [good(bid=i, ask=-i) for i in range(7)]),
    b"[]",
    b' [ {"series":"a","timestamp":1.0000000001,"bid":1.2345678901234567,"ask":9007199254740993} ]',
    encode("json", good(extra={"deep": [1, "\u00e9\n", None, {"a": True}]}, more="\x7f")),
    json.dumps(good(note="日本"), ensure_ascii=False).encode(),
    encode("json", good(note=1e300)),
]


def test_usual_records_are_read_in_c_and_no_other_way() -> None:
    assert left(USUAL, form(), FIELDS) == []
    fast, slow = both(make_block(USUAL), form())
    assert fast == slow
    assert len(fast[0]) == 14


UNUSUAL = [
    encode("json", good(series="a\n")),
    b'{"s\\u0065ries":"a","timestamp":1,"bid":1,"ask":2}',
    encode("json", good()).replace(b"}", b',"bid":3}'),
    encode("json", good(bid=10**20)),
    encode("json", good(timestamp=10**11)),
    encode("json", good(series="x" * 1001)),
    encode("json", good(bid=None)),
    encode("json", good(x=[[]] * 3)).replace(b"[[]", b"[" * 60 + b"]" * 60 + b",[[]"),
    encode("json", good()) + b",",
    None,
]


def test_unusual_records_are_left_and_judged_as_ever_in_their_place() -> None:
    mixed = [one for pair in zip(USUAL, UNUSUAL, strict=False) for one in pair] + UNUSUAL
    assert left(UNUSUAL, form(), FIELDS) == list(range(len(UNUSUAL)))
    fast, slow = both(make_block(mixed), form())
    assert fast == slow
    assert fast[3] == sorted(fast[3])


@pytest.mark.parametrize("series_from", ["field", "key"])
@pytest.mark.parametrize("seed", range(8))
def test_hostile_records_are_read_alike(seed: int, series_from: Place) -> None:
    random = Random(seed)
    ticks = refused = 0
    for _ in range(60):
        records = [hostile_json.record(random) for _ in range(12)]
        keys = [hostile_json.key(random) for _ in records]
        for values in (records, Slices.of(records)):
            fast, slow = both(make_block(values, keys), form(series_from=series_from))
            assert fast == slow
        ticks, refused = ticks + len(fast[0]), refused + len(fast[-1])
    assert ticks > 50
    assert refused > 50


_LITERALS = st.from_regex(
    r"-?(0|[1-9][0-9]{0,19})(\.[0-9]{1,21})?([eE][+-]?[0-9]{1,3})?", fullmatch=True
)
_FLOATS = st.floats(allow_nan=False, allow_infinity=False).map(repr)


@given(literal=_LITERALS | _FLOATS)
@example("9007199254740993.0")
@example("9007199254740992.9")
@example("1.7976931348623157e308")
@example("0.18446744073709551616123")
@example("1844674407370955161.6")
@example("9223372036.8547758")
@example("-0")
@example("-0e3")
@example("8.5e-27")
@example("9999999999999999999e27")
@settings(deadline=None, max_examples=300)
def test_a_number_is_the_nearest_double(literal: str) -> None:
    record = f'{{"series":"a","timestamp":1,"bid":{literal},"ask":{literal}}}'.encode()
    fast, slow = both(make_block([record]), form())
    assert fast == slow
    expected = float(literal)
    if np.isfinite(expected):  # an integer has no sign where it is zero
        bits = np.float64(expected if expected or "." in literal or "e" in literal.lower() else 0.0)
        assert fast[2] == [[bits.view(np.int64)] * 2]


def test_halves_go_to_the_even_double_and_their_neighbours_to_theirs() -> None:
    """Doubles of 54 bits and a half, scaled by powers of ten within reach."""
    random, literals = Random(5), []
    for _ in range(4000):
        half = random.randrange(2**53, 2**54) | 1
        for near in (half - 1, half, half + 1):
            literals.append(f"{near}.0")
            power = random.randrange(1, 20)
            literals.append(f"{str(near)[:-power] or '0'}.{str(near)[-power:]}e{power}")
            literals.append(f"{near}e{random.randrange(-27, 28)}")
    records = [
        f'{{"series":"a","timestamp":1,"bid":{literal},"ask":1}}'.encode() for literal in literals
    ]
    assert left(records, form(), FIELDS) == []
    batch, _ = Codec(form(), FIELDS).decode(make_block(records))
    assert batch.values[:, 0].tolist() == [float(literal) for literal in literals]


@pytest.mark.parametrize("unit", UNITS)
@given(data=st.data())
@settings(deadline=None, max_examples=200)
def test_a_moment_is_read_alike(unit: TimestampUnit, data: st.DataObject) -> None:
    scale = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}[unit]
    near = st.floats(-1.1e10, 1.1e10).map(lambda s: repr(s * scale))
    whole = st.integers(-(10**20), 10**20).map(str) | st.sampled_from(
        [str(sign * (2**63 - 1) // 10**power) for sign in (1, -1) for power in (0, 3, 6, 9)]
        + [str(2**53), f"{2**53}.0", f"{2**53 - 1}.0", "-0.5", "-0.0", "1e3", "9223372036.0"]
    )
    literals = data.draw(st.lists(near | whole | _LITERALS, min_size=1, max_size=5))
    fields = ("timestamp", "bid")
    records = [f'{{"series":"a","timestamp":{t},"bid":1}}'.encode() for t in literals]
    fast, slow = both(make_block(records), form(unit), fields)
    assert fast == slow


@given(
    names=st.lists(st.text(max_size=3) | st.sampled_from(["a", "b"]), max_size=30),
    by_key=st.booleans(),
)
@settings(deadline=None, max_examples=200)
def test_names_are_read_alike_and_kept_once(names: list[str], by_key: bool) -> None:
    how = form(series_from="key" if by_key else "field")
    text = [n.encode(errors="surrogatepass") for n in names]
    records = [
        b'{"series":"' + (b"" if by_key else t) + b'","timestamp":1,"bid":1,"ask":1}' for t in text
    ]
    block = make_block(records, list(text))
    fast, slow = both(block, how)
    assert fast == slow
    batch, _ = Codec(how, FIELDS).decode(block)
    if batch.series and left(records, how, FIELDS) == []:
        assert isinstance(batch.series, Names)
        assert len(set(batch.series.distinct)) == len(batch.series.distinct)


def test_very_many_names_in_one_block_have_their_own_numbers() -> None:
    names = [f"series-{i * 7919 % 50_000}" for i in range(60_000)]
    records = [encode("json", good(series=name)) for name in names]
    assert len(left(records, form(), FIELDS)) < 600  # those that were crowded out
    fast, slow = both(make_block(records), form())
    assert fast == slow


@given(
    fields=st.lists(
        st.text(st.characters(codec="utf-8"), max_size=4)
        | st.sampled_from(["bid", "series", "timestamp", ""]),
        max_size=6,
        unique=True,
    ),
    order=st.randoms(),
)
@settings(deadline=None, max_examples=200)
def test_any_names_of_fields_in_any_order_are_found(fields: list[str], order: Random) -> None:
    fields = [field for field in fields if field != "series"]
    pairs = [(f, i + 1) for i, f in enumerate(fields) if f != "timestamp"]
    tick = [("series", "a"), ("timestamp", 5), *pairs, ("other", 3)]
    order.shuffle(tick)
    block = make_block([json.dumps(dict(tick), ensure_ascii=order.random() < 0.5).encode()])
    how = form()
    if JsonColumns(how, tuple(fields)).able:
        fast, slow = both(block, how, tuple(fields))
        assert fast == slow
        assert len(fast[0]) == 1


def test_without_the_extension_all_is_read_as_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    mixed = make_block(USUAL + UNUSUAL)
    quick = Codec(form(), FIELDS)
    assert not quick.slow_because
    fast = quick.decode(mixed)
    monkeypatch.setitem(sys.modules, "detector.native._ticks", None)
    assert not JsonColumns(form(), FIELDS).able
    without = Codec(form(), FIELDS)
    assert without.slow_because.startswith("_ticks is not built")
    slow = without.decode(mixed)
    assert isinstance(fast[0].series, Names)
    assert not isinstance(slow[0].series, Names)
    assert as_seen(*fast) == as_seen(*slow)


def test_rows_that_do_not_lie_in_their_buffer_are_left() -> None:
    body = encode("json", good())
    size = len(body)
    starts = [0, 0, -1, size, 2**62, 0, 1]
    lengths = [size, size + 1, size, 1, 2**62, -(2**63), size]
    values = Slices(body, np.array(starts, np.int64), np.array(lengths, np.int64))
    block = RecordBlock("ticks", 3, list(range(7)), [0] * 7, [None] * 7, values)
    found, unusual = JsonColumns(form(), FIELDS).read(block)
    assert (found.row.tolist(), unusual.tolist()) == ([0], [1, 2, 3, 4, 5, 6])


def test_columns_that_do_not_fit_are_an_error() -> None:
    from detector.native import _ticks  # type: ignore[attr-defined]  # written in C

    one, small, numbers = np.zeros(1, np.int64), np.zeros(1, np.int32), np.zeros((1, 1))
    names, into = (b"t", b"s"), np.array([0, -1], np.int32)
    left = np.zeros(1, np.uint8)
    fine = [b"", one, one, b"", one[:0], one[:0], into, left, one, numbers, one, small, small]
    assert _ticks.read_json(names, False, 1, 9, 9, *fine) == (0, [])
    wrong = {1: one[:0], 2: small, 4: one, 6: into[:1], 7: np.zeros(2, np.uint8), 9: one[:0],
             10: small, 11: one, 12: small[:0]}  # fmt: skip
    for place, column in wrong.items():
        changed = [*fine[:place], column, *fine[place + 1 :]]
        with pytest.raises(ValueError, match="do not belong together"):
            _ticks.read_json(names, False, 1, 9, 9, *changed)
    with pytest.raises(ValueError, match="do not belong together"):
        _ticks.read_json(names, False, 1, 9, 9, *fine[:6], into + 1, *fine[7:])
    with pytest.raises(TypeError):
        _ticks.read_json(("t", "s"), False, 1, 9, 9, *fine)
    with pytest.raises((BufferError, TypeError)):
        _ticks.read_json(names, False, 1, 9, 9, *fine[:7], b"\0", *fine[8:])
