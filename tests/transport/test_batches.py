"""Batches read in C are what the client would have read, to the error."""

from __future__ import annotations

import itertools
import struct
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kafka.errors import CorruptRecordError, UnsupportedCodecError
from kafka.protocol.consumer import IsolationLevel
from kafka.record import MemoryRecords
from kafka.record.util import calc_crc32c

from detector.core.slices import Slices
from detector.native import extension
from detector.transport.kafka.batches import ColumnRecords
from detector.transport.kafka.pieces import Piece
from tests.transport.fetched import (
    ABORT,
    APPEND_TIME,
    CODECS,
    COMMIT,
    CONTROL,
    GZIP,
    PARTITION,
    Made,
    Outcome,
    aborted,
    batch,
    by_the_client,
    in_columns,
    legacy,
    marker,
    sealed,
)

_NATIVE, _WHY = extension("_batches")
pytestmark = pytest.mark.skipif(_NATIVE is None, reason=f"detector.native._batches: {_WHY}")

INT64 = range(-(2**63), 2**63)

blobs = st.none() | st.binary(max_size=40) | st.just(b"x" * 9000)
headers = st.lists(st.tuples(st.text(max_size=6), st.none() | st.binary(max_size=9)), max_size=3)


@st.composite
def records(draw: Any, least: int = 1) -> list[Made]:
    deltas = draw(st.lists(st.integers(1, 300), min_size=least, max_size=12))
    return [
        Made(
            delta,
            draw(st.integers(0, 2**45) | st.integers(-(2**62), 2**62)),
            draw(blobs),
            draw(blobs),
            draw(headers),
        )
        for delta in itertools.accumulate(deltas)
    ]


@st.composite
def fetches(draw: Any) -> bytes:
    """Several batches of a partition, compacted ones among them."""
    base, parts = draw(st.integers(0, 2**40)), []
    for _ in range(draw(st.integers(1, 5))):
        made = draw(records())
        producer = draw(st.sampled_from([-1, -1, 7, 8]))
        parts.append(
            batch(
                made,
                base=base,
                codec=draw(st.sampled_from(CODECS)),
                producer=producer,
                transactional=producer >= 0 and draw(st.booleans()),
                epoch=draw(st.sampled_from([3, 3, 4])),
                attributes=draw(st.sampled_from([0, 0, APPEND_TIME])),
            )
        )
        base += made[-1].delta + draw(st.integers(1, 50))
        if producer >= 0 and draw(st.booleans()):
            parts.append(marker(draw(st.sampled_from([COMMIT, ABORT])), at=base, producer=producer))
            base += 1
    return b"".join(parts)


sizes = st.lists(st.integers(1, 20) | st.none(), min_size=1, max_size=4)


def same(found: Outcome, expected: Outcome) -> None:
    """A number that no column holds ends what is read, as nothing could be done with it."""
    if all(row[0] in INT64 and row[1] in INT64 for row in expected.flat):
        assert found == expected
    else:
        assert found.error is OverflowError
        assert found.flat == expected.flat[: len(found.flat)]


@settings(max_examples=120, deadline=None)
@given(fetches(), sizes, st.data())
def test_a_fetch_is_read_as_the_client_reads_it(fetched: bytes, some: Any, data: Any) -> None:
    first = struct.unpack_from(">q", fetched)[0]
    options = {
        "sizes": some,
        "fetch_offset": first + data.draw(st.integers(-5, 2000)),
        "transactions": data.draw(
            st.lists(st.builds(aborted, st.sampled_from([7, 8]), st.integers(0, 2**40)), max_size=3)
        ),
        "isolation": data.draw(st.sampled_from(list(IsolationLevel))),
    }
    expected = by_the_client(fetched, **options)
    assert expected.error is None
    same(in_columns(fetched, **options), expected)


@settings(max_examples=150, deadline=None)
@given(fetches(), sizes, st.data())
def test_a_fetch_that_is_damaged_or_cut_off_is_refused_as_the_client_refuses_it(
    fetched: bytes, some: Any, data: Any
) -> None:
    broken = bytearray(fetched)
    for _ in range(data.draw(st.integers(1, 3))):
        # Lengths and magic of a batch are not under its checksum; hostile ones are tested below.
        where = data.draw(st.integers(16, len(broken) - 1))
        broken[where] = data.draw(st.integers(0, 255))
    cut = bytes(broken[: data.draw(st.integers(17, len(broken)) | st.just(len(broken)))])
    same(in_columns(cut, sizes=some), by_the_client(cut, sizes=some))


@settings(max_examples=150, deadline=None)
@given(records(), st.sampled_from(CODECS), sizes, st.data())
def test_a_batch_that_is_sealed_and_wrong_is_refused_as_the_client_refuses_it(
    made: list[Made], codec: int, some: Any, data: Any
) -> None:
    """What a broken producer could write: the checksum is right."""
    broken = bytearray(batch(made, base=100, codec=codec))
    for _ in range(data.draw(st.integers(1, 4))):
        # Among the attributes only those of the time: a codec of chance may open anything.
        where = data.draw(st.integers(23, 26) | st.integers(57, len(broken) - 1))
        broken[where] = data.draw(
            st.sampled_from([0, 1, 2, 0x7F, 0x80, 0xFF]) | st.integers(0, 255)
        )
    first = batch([Made(0, 1, b"k", b"v")], base=99)
    fetched = first + sealed(broken) + batch([Made(0, 2, b"", None)], base=5000)
    same(in_columns(fetched, sizes=some), by_the_client(fetched, sizes=some))


@settings(max_examples=120, deadline=None)
@given(st.binary(max_size=120), st.integers(-3, 40))
@example(b"", 0)
@example(b"\x0c\0\0\0\x01\x01\0", 1)
@example(b"\xff" * 30, 1)
def test_a_body_of_any_bytes_is_read_as_the_client_reads_it(body: bytes, count: int) -> None:
    made = bytearray(batch([Made(0, 5, None, None)], base=40)[:61] + body)
    struct.pack_into(">i", made, 8, len(made) - 12)
    struct.pack_into(">i", made, 57, count)
    fetched = sealed(made)
    same(in_columns(fetched), by_the_client(fetched))


@pytest.mark.parametrize("magic", [0, 1])
@pytest.mark.parametrize("codec", [c for c in CODECS if c in {0, GZIP}])
def test_older_formats_are_read_by_the_client_and_given_as_columns(magic: int, codec: int) -> None:
    old = legacy([Made(n, 50 + n, b"k", b"%d" % n) for n in range(5)], magic=magic, codec=codec)
    fetched = old + batch([Made(0, 9, None, b"new")], base=5)
    expected = by_the_client(fetched, sizes=(2,))
    found = in_columns(fetched, sizes=(2,))
    # The oldest has no timestamps: -1, as records.py has it.
    expected.rows = [[(o, -1 if t is None else t, k, v) for o, t, k, v in r] for r in expected.rows]
    assert [row[3] for row in found.flat] == [b"0", b"1", b"2", b"3", b"4", b"new"]
    assert found == expected


def test_what_was_aborted_is_left_out_and_the_position_passes_it() -> None:
    def ticks(base: int, producer: int) -> bytes:
        made = [Made(n, 0, b"k", b"%d" % (base + n)) for n in range(3)]
        return batch(made, base=base, producer=producer, transactional=True)

    fetched = b"".join(
        [
            ticks(0, 7),
            ticks(3, 8),
            marker(ABORT, at=6, producer=7),
            ticks(7, 7),  # of the next transaction, which is committed
            marker(COMMIT, at=10, producer=8),
            marker(COMMIT, at=11, producer=7),
        ]
    )
    found = in_columns(fetched, sizes=(2,), transactions=[aborted(7, 0)])
    assert [row[0] for row in found.flat] == [3, 4, 5, 7, 8, 9]
    assert found.states[-1][0] == 12
    assert found == by_the_client(fetched, sizes=(2,), transactions=[aborted(7, 0)])


def test_damage_is_told_once_what_is_before_it_is_taken_and_then_each_time() -> None:
    bad = bytearray(batch([Made(0, 0, b"k", b"v")], base=3))
    bad[-1] ^= 1
    fetched = batch([Made(n, 0, b"k", b"v") for n in range(3)]) + bytes(bad)
    found = in_columns(fetched, sizes=(2,))
    assert ([row[0] for row in found.flat], found.error) == ([0, 1, 2], CorruptRecordError)
    part = ColumnRecords(0, PARTITION, MemoryRecords(bytes(bad)))
    for _ in range(3):
        with pytest.raises(CorruptRecordError, match="offset 3 failed crc check"):
            part.take(5)


def test_a_codec_that_is_not_there_is_named_by_the_client() -> None:
    made = bytearray(batch([Made(0, 0, b"k", b"v")]))
    made[22] |= 0x07
    assert in_columns(sealed(made)).error is UnsupportedCodecError


@pytest.mark.parametrize("length", [-1, -12, -13, -20, -61, -(2**31), 0, 13, 14, 48, 2**31 - 1])
def test_a_length_that_lies_ends_the_fetch_or_is_damage(length: int) -> None:
    made = bytearray(batch([Made(0, 0, b"k", b"v" * 100)]) * 2)
    struct.pack_into(">i", made, len(made) // 2 + 8, length)
    found = in_columns(bytes(made))
    assert [row[0] for row in found.flat] == [0]
    ends_early = length >= 0 and length > len(made) // 2 - 12
    assert (found.error is None) == ends_early


def test_a_run_stops_before_what_it_does_not_know_and_takes_one_batch_at_least() -> None:
    plain = batch([Made(n, 0, b"k", b"v") for n in range(4)], base=10)
    assert _NATIVE.run(plain * 3, 0, 0)[:4] == (len(plain), 14, 5, 4)
    assert _NATIVE.run(plain * 3, 0, 8)[:4] == (2 * len(plain), 14, 5, 8)
    assert _NATIVE.run(plain * 3, len(plain), 100)[:4] == (3 * len(plain), 14, 5, 8)
    for other in (
        batch([Made(0, 0, b"k", b"v")], epoch=6),
        batch([Made(0, 0, b"k", b"v")], attributes=CONTROL),
        batch([Made(0, 0, b"k", b"v" * 99)], codec=GZIP),
        plain[:-1],
        sealed(plain[:16] + b"\x03" + plain[17:]),
    ):
        assert _NATIVE.run(plain + other, 0, 100)[0] == len(plain)
    for at in (-1, -(2**62), len(plain), len(plain) + 1, 2**62):
        assert _NATIVE.run(plain, at, 100)[:4:3] == (at, 0)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=300))
@example(b"123456789")
def test_both_checksums_are_those_of_the_client(data: bytes) -> None:
    assert _NATIVE.crc32c(data) == _NATIVE.crc32c_plain(data) == calc_crc32c(memoryview(data))


def test_the_checksum_is_the_published_one() -> None:
    assert _NATIVE.crc32c(b"123456789") == 0xE3069283  # RFC 3720, and the catalogue of CRCs


def test_a_block_of_columns_is_cut_as_one_of_lists_is() -> None:
    fetched = b"".join(
        batch([Made(n, n, b"k%d" % n, None if n == 2 else b"v%d" % n) for n in (0, 2, 3)],
              base=base, codec=codec)
        for base, codec in ((10, GZIP), (20, 0), (30, GZIP))
    )  # fmt: skip
    part = ColumnRecords(0, PARTITION, MemoryRecords(fetched))
    block = Piece.joined(list(part.take(8))).block("t", 0)
    assert isinstance(block.values, Slices)
    assert (block.first_offset, block.next_offset, len(block)) == (10, 33, 8)
    for offset, below in ((0, 0), (10, 0), (11, 1), (13, 2), (21, 4), (33, 8), (99, 8)):
        old, new = block.split(offset)
        assert (len(old), len(new)) == (below, 8 - below)
        assert [*old.offsets, *new.offsets] == [10, 12, 13, 20, 22, 23, 30, 32]
        assert [*old.values, *new.values] == [b"v0", None, b"v3", b"v0", None, b"v3", b"v0", None]
        assert [*old.keys, *new.keys] == [b"k0", b"k2", b"k3"] * 2 + [b"k0", b"k2"]
    assert block.values.size() == 10
    assert np.asarray(block.offsets).dtype == np.int64
