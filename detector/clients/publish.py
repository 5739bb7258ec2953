"""Data files, or standard input, into the ticks topic, as fast as it goes or at a rate.

Rows travel as they are: what is wrong with a value the detector says, and its dead letter holds
what was sent. Only a row that is none (too few cells, no JSON) cannot travel.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any

from detector.build import tick_format
from detector.clients.pacer import Pacer
from detector.config import Config
from detector.core.encoders import make_encoder
from detector.core.moments import write_moment
from detector.core.records import Message
from detector.core.tick_format import TickFormat
from detector.data.arriving import Wrong
from detector.data.cells import as_written, moment
from detector.data.sources import DataFile
from detector.data.tables import file_objects, stream_objects
from detector.transport.configured import make_broker, prepare_topics

_CATCH_UP_S = 0.1  # a stream that was idle does not burst


@dataclass(frozen=True, slots=True)
class Feed:
    """Rows and how to read them: a file, or a stream (its part is all of it)."""

    file: DataFile
    stream: IO[bytes] | None = None

    @property
    def name(self) -> str:
        return self.file.name if self.stream is None else "standard input"

    def objects(self, wrong: Wrong, needed: Sequence[str]) -> Iterator[list[dict[str, Any]]]:
        if self.stream is None:
            return file_objects(self.file.path, wrong, needed)
        return stream_objects(self.stream, self.name, wrong, needed)


def publish(
    config: Config,
    feeds: Sequence[Feed],
    *,
    fields: Sequence[str] | None,
    rate: float | None,
    sent: Callable[[int], None],
    wrong: Wrong,
) -> int:
    """Publish every row; returns how many. fields: None takes every column but the label. wrong:
    told of each row that is none, which is skipped unless it raises."""
    broker = make_broker(config)
    prepare_topics(config, broker)
    publisher = broker.publisher()
    pacer = Pacer(rate, catch_up_s=_CATCH_UP_S)
    total = 0
    try:
        for feed in feeds:
            rows = _Rows(config, feed, fields, rate, wrong)
            for chunk in feed.objects(wrong, rows.needed):
                for ticks, messages in rows.messages(chunk):
                    pacer.wait(ticks)
                    publisher.publish(config.input.topic, messages)
                    total += ticks
                    sent(ticks)
                publisher.flush()
                if rows.ended:
                    break
    finally:
        publisher.close()
    return total


class _Rows:
    """Of one feed, to messages. ended: those that were asked for are through."""

    def __init__(
        self,
        config: Config,
        feed: Feed,
        fields: Sequence[str] | None,
        rate: float | None,
        wrong: Wrong,
    ) -> None:
        self._form, self._label = tick_format(config), config.input.label_field
        self._feed, self._fields, self._wrong = feed, fields, wrong
        self._encoder = make_encoder(self._form)
        most = self._encoder.together
        self._together = most if rate is None else max(1, min(most, int(rate / 100)))
        self._number = 0
        self.needed = (self._form.timestamp_field, *(fields or ()))
        self.ended = False

    def messages(self, rows: Sequence[dict[str, Any]]) -> Iterator[tuple[int, list[Message]]]:
        """Some ticks at a time, with how many they are; none are left behind."""
        ticks, limit = 0, self._feed.file.limit
        for row in rows:
            self._number += 1
            if limit is not None and self._number > limit:
                self.ended = True
                break
            try:
                ticks += self._add(row)
            except ValueError as error:
                self._wrong(f"{self._feed.name}: row {self._number}: {error}")
            if ticks == self._together:
                yield ticks, self._encoder.take()
                ticks = 0
        if ticks:
            yield ticks, self._encoder.take()

    def _add(self, row: dict[str, Any]) -> bool:
        """Whether it is one of those that were asked for. Raises ValueError where it is no row."""
        form, part, fields = self._form, self._feed.file, self._fields
        written = row.pop(form.timestamp_field, None)
        if not _in_time(written, form, part):
            return False
        series = row.pop(form.series_field, part.series)
        row.pop(self._label, None)
        values = row if fields is None else {f: row[f] for f in fields if f in row}
        cells = {name: as_written(cell) for name, cell in values.items()}
        self._encoder.add(series, _moment(written, form), cells)
        return True


def _in_time(written: Any, form: TickFormat, part: DataFile) -> bool:
    """Raises ValueError for a row without a time where only some are asked for."""
    if part.since_ns is None and part.until_ns is None:
        return True
    try:
        time_ns = moment(written, form.timestamp_unit)
    except ValueError:
        raise ValueError(
            f"{form.timestamp_field} = {written!r} is no time in {form.timestamp_unit}"
        ) from None
    since, until = part.since_ns, part.until_ns
    return (since is None or time_ns >= since) and (until is None or time_ns < until)


def _moment(written: Any, form: TickFormat) -> Any:
    """A time as a record holds it: as it is written, but for an Arrow timestamp; in a packed record
    nanoseconds, and None for what is no time."""
    unit = form.timestamp_unit
    if form.format == "packed":
        try:
            return moment(written, unit)
        except ValueError:
            return None
    if unit == "iso8601":
        return written
    if isinstance(written, str) and "T" in written:
        try:
            return write_moment(moment(written, unit), unit)
        except ValueError:
            return written
    return as_written(written)
