"""What a topic holds, read once from its beginning to where it ended when asked, beside whoever
works on it: no group, no offsets, committed records alone."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from typing import Any

import msgspec
import numpy as np

from detector.build import columns, tick_format
from detector.config import Config
from detector.core.cloudevents import AlertEvent, decode_alert
from detector.core.codec import Codec
from detector.core.features import FeatureSet
from detector.core.incidents import Incident, incidents_of
from detector.core.packed_reader import packed_objects
from detector.core.records import RecordBlock
from detector.core.tick_format import TickFormat
from detector.core.ticks import TickBatch, from_the_future
from detector.data.chunks import AutoFields
from detector.data.recorded import Recorder, Recording, fields_of_objects, in_time, is_told
from detector.errors import BrokerError, DataError
from detector.transport.broker import Broker, Reader
from detector.transport.configured import make_broker, topics

#: A log that ends in transaction markers may never look read to its end.
_GIVE_UP_S = 10.0
_POLL_S = 0.2
#: Of each partition, to find the fields of a tick in.
_SAMPLED_TICKS = 2000


@dataclass(frozen=True, slots=True)
class Span:
    """Which ticks: since_ns <= event time < until_ns, of the first limit of every partition."""

    since_ns: int | None = None
    until_ns: int | None = None
    limit: int | None = None


@dataclass(frozen=True, slots=True)
class TicksRead:
    """The ticks of a topic. recordings: one for each partition that has some, in order; auto: the
    fields that were found, where the configuration names none; unusable: ticks and records that
    were left out, by reason; unjudged: records that no worker has committed yet."""

    recordings: tuple[Recording, ...]
    auto: AutoFields | None
    unusable: Mapping[str, int]
    unjudged: int


@dataclass(frozen=True, slots=True)
class IncidentsRead:
    """What was alerted on. known: whether there is a topic of alerts; unreadable: records of it
    that are no alert."""

    incidents: tuple[Incident, ...]
    known: bool
    unreadable: int


def read_ticks(config: Config, span: Span, *, read: Callable[[int], None]) -> TicksRead:
    """The ticks that are in the ticks topic now. read: called with the number of ticks just read.
    Raises BrokerError where there is no such topic, DataError where it holds no such ticks."""
    broker, topic = make_broker(config), config.input.topic
    if topic in broker.missing(topics(config)):
        raise BrokerError(f"{broker.describe()}: has no topic {topic} (input.topic)")
    auto: AutoFields | None = None
    if isinstance(config.features, str):
        objects = _sample(config, broker, span)
        if objects:
            auto = fields_of_objects(objects, f"topic {topic}", columns(config))
        fields = auto.fields if auto else ()
    else:
        fields = FeatureSet.parse(config.features).fields
    form = tick_format(config)
    if form.series_field in fields:
        raise DataError(
            f"topic {topic}: {form.series_field!r} is a feature and names the series "
            "(input.series_field): give input.series_field another name"
        )
    unusable, first_refusal = Counter[str](), ""
    recorders: dict[int, Recorder] = {}
    codec = Codec(form, fields)
    for block in _blocks(broker, topic):
        recorder = recorders.setdefault(
            block.partition,
            Recorder(since_ns=span.since_ns, until_ns=span.until_ns, limit=span.limit),
        )
        if recorder.full:
            continue
        batch, rejects = codec.decode(block)
        for reject in rejects:
            unusable[reject.reason] += reject.ticks
        if rejects and not first_refusal:
            first_refusal = f"{rejects[0].reason}: {rejects[0].detail}"
        batch = _of_its_time(batch, config.input.max_future_s, unusable)
        read(recorder.add(batch))
    recordings = tuple(
        recording
        for partition in sorted(recorders)
        if (recording := recorders[partition].recording(f"{topic}-{partition}", form, fields))
    )
    if not recordings:
        raise DataError(_nothing(topic, unusable, first_refusal))
    return TicksRead(recordings, auto, dict(unusable), _unjudged(config, broker))


def read_incidents(config: Config) -> IncidentsRead:
    """What the alert topic says was strange in the ticks topic. Raises BrokerError."""
    broker, topic = make_broker(config), config.alerts.topic
    if topic in broker.missing(topics(config)):
        return IncidentsRead((), known=False, unreadable=0)
    unreadable = 0

    def events() -> Iterator[AlertEvent]:
        nonlocal unreadable
        for block in _blocks(broker, topic):
            for value in block.values:
                try:
                    yield decode_alert(value or b"")
                except ValueError:
                    unreadable += 1

    length = config.window.length_ticks
    least = 1 if isinstance(length, str) else length
    found = tuple(incidents_of(events(), topic=config.input.topic, length_ticks=least))
    return IncidentsRead(found, known=True, unreadable=unreadable)


def _blocks(broker: Broker, topic: str) -> Iterator[RecordBlock]:
    """The records that are in a topic now, in order within each partition."""
    reader = broker.reader(topic, from_beginning=True)
    try:
        yield from blocks_to_end(reader)
    finally:
        reader.close()


def blocks_to_end(reader: Reader) -> Iterator[RecordBlock]:
    """What a reader has before it, up to where its partitions end now."""
    ends = reader.ends()
    came_s = time.monotonic()
    while any(at < ends[partition] for partition, at in reader.positions().items()):
        records = reader.poll(timeout_s=_POLL_S)
        if records:
            came_s = time.monotonic()
        elif time.monotonic() - came_s > _GIVE_UP_S:
            reader.ends()  # raises if it is the broker that is silent
            return
        for partition, several in groupby(records, key=lambda record: record.partition):
            own = [record for record in several if record.offset < ends[partition]]
            if own:
                yield RecordBlock(
                    own[0].topic,
                    partition,
                    [record.offset for record in own],
                    [record.timestamp_ms for record in own],
                    [record.key for record in own],
                    [record.value for record in own],
                )


def _of_its_time(batch: TickBatch, max_future_s: float | None, unusable: Counter[str]) -> TickBatch:
    """Without ticks from the future, as the daemon refuses them, and times that no table holds."""
    future = from_the_future(batch, max_future_s)
    untold = ~future & ~is_told(batch.time_ns)
    if not (future | untold).any():
        return batch
    for reason, refused in (("far_future", future), ("bad_timestamp", untold)):
        if refused.any():
            unusable[reason] += int(refused.sum())
    kept = np.flatnonzero(~future & ~untold)
    return TickBatch(
        [batch.series[i] for i in kept.tolist()],
        batch.time_ns[kept],
        batch.values[kept],
        batch.partition[kept],
        batch.offset[kept],
        batch.index[kept],
        batch.received_ms[kept],
    )


def _sample(config: Config, broker: Broker, span: Span) -> list[dict[str, Any]]:
    """Some ticks as they were sent, from the beginning of every partition."""
    form = tick_format(config)
    codec, parse = Codec(form, ()), _parser(form)
    found: dict[int, list[dict[str, Any]]] = {}
    reader = broker.reader(config.input.topic, from_beginning=True)
    try:
        partitions = reader.positions().keys()
        for block in blocks_to_end(reader):
            mine = found.setdefault(block.partition, [])
            batch, _ = codec.decode(block)
            batch = _of_its_time(batch, config.input.max_future_s, Counter())
            inside = np.flatnonzero(in_time(batch.time_ns, span.since_ns, span.until_ns))
            row = {int(offset): i for i, offset in enumerate(block.offsets)}
            for at in inside[: _SAMPLED_TICKS - len(mine)].tolist():
                content = parse(block.values[row[int(batch.offset[at])]] or b"")
                several = content if isinstance(content, list) else [content]
                mine.append(several[int(batch.index[at])])
            if all(len(found.get(p, ())) >= _SAMPLED_TICKS for p in partitions):
                break
    finally:
        reader.close()
    return [one for partition in sorted(found) for one in found[partition]]


def _parser(form: TickFormat) -> Callable[[bytes], Any]:
    """Of a record that Codec reads: an object, or an array of them."""
    if form.format == "packed":
        return partial(packed_objects, form=form)
    return json.loads if form.format == "json" else msgspec.msgpack.decode


def _nothing(topic: str, unusable: Mapping[str, int], first_refusal: str) -> str:
    if not unusable:
        return f"topic {topic} holds no ticks (--since, --until, --limit)"
    counts = ", ".join(f"{number} {reason}" for reason, number in unusable.items())
    return f"topic {topic} holds no ticks that can be used: {counts}; the first is {first_refusal}"


def _unjudged(config: Config, broker: Broker) -> int:
    standing = broker.progress(topics(config)).values()
    return sum(max(0, s.end - max(s.first, s.committed or 0)) for s in standing)
