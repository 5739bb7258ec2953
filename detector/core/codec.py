"""Records (bytes) to a TickBatch, with the reason for each tick or record that is none.

Chooses who reads a format and knows nothing of brokers.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from detector.core.columns_of_json import JsonColumns
from detector.core.decoded import Decoded
from detector.core.objects import ObjectReader
from detector.core.packed_reader import PackedReader
from detector.core.records import RecordBlock
from detector.core.tick_format import TickFormat
from detector.core.ticks import Reject, TickBatch
from detector.errors import ConfigError


class Codec:
    """Decodes records that hold one tick, several, or (packed) many. slow_because: why JSON is read
    object by object, "" where it is not, or is no JSON."""

    def __init__(self, form: TickFormat, fields: Sequence[str]) -> None:
        if form.series_from == "field" and form.series_field in fields:
            raise ConfigError(
                f"features: {form.series_field!r} is input.series_field, a name and no number"
            )
        self._read, self.slow_because = _reader(form, tuple(fields))

    def decode(self, block: RecordBlock) -> tuple[TickBatch, list[Reject]]:
        """The ticks of a block in order, and a Reject for each tick or record that is none."""
        found = self._read(block)
        return found.batch(block), found.rejects


def _reader(
    form: TickFormat, fields: tuple[str, ...]
) -> tuple[Callable[[RecordBlock], Decoded], str]:
    if form.format == "packed":
        return PackedReader(form, fields).read, ""
    objects, columns = ObjectReader(form, fields), JsonColumns(form, fields)

    def one_by_one(block: RecordBlock) -> Decoded:
        return objects.read(block, range(len(block)))

    def at_once(block: RecordBlock) -> Decoded:
        found, unusual = columns.read(block)
        if not len(unusual):
            return found
        return found.with_others(objects.read(block, unusual.tolist()))

    if columns.able:
        return at_once, ""
    return one_by_one, columns.not_built if form.format == "json" else ""
