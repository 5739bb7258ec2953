"""Dead letters: the raw record that could not be used, why, and from where; written and read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from detector.core.records import Headers, Message, Record, RecordBlock
from detector.core.ticks import Reject

#: Keys of dead letters are cut off above: key and value together must fit a record.
_LONGEST_KEY_BYTES = 1000


@dataclass(frozen=True, slots=True)
class Letter:
    """A dead letter as it was read: the raw record, and the headers that dead_letters wrote."""

    record: Record
    headers: Mapping[str, str]

    @classmethod
    def read(cls, record: Record) -> Letter:
        return cls(record, {k: v.decode(errors="replace") for k, v in record.headers})

    @property
    def reason(self) -> str | None:
        return self.headers.get("reason")

    @property
    def cut_off(self) -> bool:
        """Whether only the beginning of the record was kept."""
        return "truncated_from_bytes" in self.headers or "key_truncated_from_bytes" in self.headers


def dead_letters(
    rejects: Sequence[Reject], blocks: Mapping[int, RecordBlock], *, max_bytes: int
) -> list[Message]:
    """One message for each record with a reject. blocks: by partition.

    A record may be an array with very many bad ticks: they share a letter, whose reason is
    that of the first."""
    by_record: dict[tuple[int, int], list[Reject]] = {}
    for reject in rejects:
        by_record.setdefault((reject.partition, reject.offset), []).append(reject)
    return [
        _letter(several, blocks[partition], offset, max_bytes)
        for (partition, offset), several in by_record.items()
    ]


def _letter(several: list[Reject], block: RecordBlock, offset: int, max_bytes: int) -> Message:
    row = offset - block.first_offset
    if row >= len(block) or block.offsets[row] != offset:  # a log with holes
        row = list(block.offsets).index(offset)
    first = several[0]
    headers = {
        "reason": first.reason,
        "detail": first.detail,
        "topic": block.topic,
        "partition": str(block.partition),
        "offset": str(offset),
        "index": str(first.index),
        "rejected_ticks": str(sum(reject.ticks for reject in several)),
    }
    value, key = block.values[row], block.keys[row]
    if value is not None and len(value) > max_bytes:
        headers["truncated_from_bytes"] = str(len(value))
        value = value[:max_bytes]
    if key is not None and len(key) > _LONGEST_KEY_BYTES:
        headers["key_truncated_from_bytes"] = str(len(key))
        key = key[:_LONGEST_KEY_BYTES]
    return Message(key, value, _encoded(headers))


def _encoded(headers: Mapping[str, str]) -> Headers:
    return tuple((k, v.encode(errors="replace")) for k, v in headers.items())
