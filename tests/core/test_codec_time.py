"""Moments of ticks: exact, alone and in any batch, or refused."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.core.moments import TimestampUnit, parse_moment
from tests.core.decoding import (
    FACTOR,
    FORMATS,
    LIMIT,
    UNITS,
    FormatName,
    encode,
    good,
    make_block,
    make_codec,
    within_64_bits,
)


@pytest.mark.parametrize("digits", [19, 20, 30, 400, 4000])
@pytest.mark.parametrize("other", [1.5, 1])
def test_a_huge_whole_timestamp_harms_no_other_tick(digits: int, other: float) -> None:
    huge = 10**digits
    codec = make_codec()
    block = make_block([encode("json", good(timestamp=t)) for t in (other, huge)])
    batch, rejects = codec.decode(block)
    assert batch.time_ns.tolist() == [int(other * 10**9)]
    assert [(r.offset, r.reason) for r in rejects] == [(101, "bad_timestamp")]


def exact_ns(moment: float, unit: str) -> Fraction:
    return Fraction(moment) * FACTOR[unit]


def moments(unit: str) -> st.SearchStrategy[int | float]:
    reach = LIMIT // FACTOR[unit]
    return (
        st.integers(-reach, reach)
        | st.floats(-float(reach) * 0.999, float(reach) * 0.999)
        | st.integers(16 * 10**17, 18 * 10**17).map(lambda ns: ns // FACTOR[unit])
        | st.floats(1.6e9, 1.8e9).map(lambda s: s * (10**9 // FACTOR[unit]))
        | st.sampled_from([0, 0.0, -0.0, 5e-324, -1e-20, 0.5, reach, -reach])
        | st.sampled_from([2**53, -(2.0**53), 2**53 - 1, 1e8]).filter(lambda m: abs(m) <= reach)
    )


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("unit", UNITS)
@given(data=st.data())
@settings(deadline=None, max_examples=100)
def test_a_moment_gives_the_same_nanoseconds_alone_and_in_any_batch(
    name: FormatName, unit: TimestampUnit, data: st.DataObject
) -> None:
    times = data.draw(st.lists(moments(unit), min_size=1, max_size=6))
    codec = make_codec(name, unit=unit)
    batch, rejects = codec.decode(make_block([encode(name, good(timestamp=t)) for t in times]))
    assert rejects == []
    for moment, time_ns in zip(times, batch.time_ns.tolist(), strict=True):
        alone, _ = codec.decode(make_block([encode(name, good(timestamp=moment))]))
        assert alone.time_ns.tolist() == [time_ns]
        assert parse_moment(moment, unit) == time_ns
        # To the nearest nanosecond; whole numbers exactly.
        assert abs(time_ns - exact_ns(moment, unit)) <= (0 if type(moment) is int else 1)


def test_a_whole_number_keeps_its_digits_beside_a_float() -> None:
    codec = make_codec(unit="ns")
    times = [1700000000123456789, 1.25]
    batch, _ = codec.decode(make_block([encode("json", good(timestamp=t)) for t in times]))
    assert batch.time_ns.tolist() == [1700000000123456789, 1]


@pytest.mark.parametrize("unit", UNITS)
@given(moment=st.floats() | st.integers(-(2**70), 2**70))
@example(moment=9223372036.854775)
@example(moment=-9223372036.9)
@settings(deadline=None, max_examples=200)
def test_a_moment_is_a_time_if_it_fits_64_bits_of_nanoseconds(
    unit: TimestampUnit, moment: float
) -> None:
    codec = make_codec("msgpack", unit=unit)
    record = encode("msgpack", within_64_bits(good(timestamp=moment)))
    batch, rejects = codec.decode(make_block([record]))
    if not math.isfinite(moment) or abs(exact_ns(moment, unit)) > LIMIT:
        assert ([r.reason for r in rejects], len(batch)) == (["bad_timestamp"], 0)
    else:
        assert (rejects, len(batch)) == ([], 1)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01", 0),
        ("1970-01-01T00:00:01", 10**9),
        ("2014-05-02T12:30:00.123456Z", 1399033800123456000),
        ("2014-05-02T14:30:00.123456+02:00", 1399033800123456000),
        ("2014-05-02T12:30:00.5-00:00", 1399033800500000000),
        ("1969-12-31T23:59:59.999999Z", -1000),
    ],
)
def test_iso_8601_is_read_to_the_microsecond(text: str, expected: int) -> None:
    codec = make_codec(unit="iso8601")
    batch, rejects = codec.decode(make_block([encode("json", good(timestamp=text))]))
    assert (batch.time_ns.tolist(), rejects) == ([expected], [])


@given(st.text() | st.text("0123456789-:T.Z+ W", max_size=25))
@example("0001-01-01T00:00:00+23:59")
@example("9999-12-31T23:59:59.999999-23:59")
@settings(deadline=None, max_examples=300)
def test_any_text_is_a_time_or_refused(text: str) -> None:
    codec = make_codec(unit="iso8601")
    batch, rejects = codec.decode(make_block([encode("json", good(timestamp=text))]))
    assert [r.reason for r in rejects] == ["bad_timestamp"] * (1 - len(batch))


@pytest.mark.parametrize("moment", [1700000000, 1.5, None, [1]])
def test_a_number_is_no_iso_8601_time(moment: object) -> None:
    codec = make_codec(unit="iso8601")
    batch, rejects = codec.decode(make_block([encode("json", good(timestamp=moment))]))
    assert ([r.reason for r in rejects], len(batch)) == (["bad_timestamp"], 0)
