"""Dead letters: one a record, with what was wrong first, from where, and the raw bytes."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.dead_letters import dead_letters
from detector.core.records import Message, RecordBlock
from detector.core.ticks import Reject


def make_block(
    offsets: Sequence[int],
    *,
    partition: int = 0,
    values: Sequence[bytes | None] | None = None,
    keys: Sequence[bytes | None] | None = None,
) -> RecordBlock:
    named = [f"{partition}/{offset}".encode() for offset in offsets]
    return RecordBlock(
        "ticks", partition, tuple(offsets), [0] * len(offsets), keys or named, values or named
    )


def headers_of(message: Message) -> dict[str, str]:
    return {name: value.decode() for name, value in message.headers}


def test_a_record_with_several_bad_ticks_is_one_letter_that_tells_of_the_first() -> None:
    block = make_block([7, 8])
    rejects = [
        Reject(0, 8, 2, "wrong_type", "field 'bid' is a string, not a number"),
        Reject(0, 8, 5, "missing_field", "field 'ask' is absent"),
        Reject(0, 8, 1, "far_future", "much too early"),
    ]
    (letter,) = dead_letters(rejects, {0: block}, max_bytes=100)
    assert (letter.key, letter.value) == (b"0/8", b"0/8")
    assert headers_of(letter) == {
        "reason": "wrong_type",
        "detail": "field 'bid' is a string, not a number",
        "topic": "ticks",
        "partition": "0",
        "offset": "8",
        "index": "2",
        "rejected_ticks": "3",
    }


@given(
    offsets=st.dictionaries(
        st.integers(0, 3), st.sets(st.integers(0, 30), min_size=1).map(sorted), min_size=1
    ),
    data=st.data(),
)
@settings(deadline=None, max_examples=150)
def test_every_letter_holds_the_record_of_its_offset_whatever_holes_the_log_has(
    offsets: dict[int, list[int]], data: st.DataObject
) -> None:
    blocks = {p: make_block(several, partition=p) for p, several in offsets.items()}
    places = [(p, o) for p, several in offsets.items() for o in several]
    chosen = data.draw(st.lists(st.sampled_from(places), max_size=12))
    rejects = [Reject(p, o, i, "null", "") for i, (p, o) in enumerate(chosen)]
    letters = dead_letters(rejects, blocks, max_bytes=100)
    found = [(int(headers_of(m)["partition"]), int(headers_of(m)["offset"])) for m in letters]
    assert found == list(dict.fromkeys(chosen))
    for (partition, offset), letter in zip(found, letters, strict=True):
        assert letter.value == f"{partition}/{offset}".encode()
        assert headers_of(letter)["rejected_ticks"] == str(chosen.count((partition, offset)))


@given(st.none() | st.binary(max_size=40), st.none() | st.integers(0, 1100), st.integers(1, 30))
@settings(deadline=None, max_examples=100)
def test_value_and_key_are_cut_off_where_they_are_too_long_and_say_so(
    value: bytes | None, key_bytes: int | None, max_bytes: int
) -> None:
    key = None if key_bytes is None else b"k" * key_bytes
    block = make_block([3], values=[value], keys=[key])
    reject = Reject(0, 3, 0, "null", "")
    (letter,) = dead_letters([reject], {0: block}, max_bytes=max_bytes)
    headers = headers_of(letter)
    assert letter.value == (None if value is None else value[:max_bytes])
    assert letter.key == (None if key is None else key[:1000])
    cut = None if value is None or len(value) <= max_bytes else str(len(value))
    assert headers.get("truncated_from_bytes") == cut
    cut = None if key is None or len(key) <= 1000 else str(len(key))
    assert headers.get("key_truncated_from_bytes") == cut


def test_a_detail_that_is_no_utf8_does_not_stop_the_letter() -> None:
    reject = Reject(0, 3, 0, "missing_field", "field '\ud800' is absent")
    (letter,) = dead_letters([reject], {0: make_block([3])}, max_bytes=9)
    assert headers_of(letter)["detail"] == "field '?' is absent"


def test_without_rejects_there_are_no_letters() -> None:
    assert dead_letters([], {0: make_block([3])}, max_bytes=9) == []
