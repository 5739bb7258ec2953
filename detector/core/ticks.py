"""A batch of ticks as columns, and what may become of a tick.

Knows nothing of formats, brokers or models. There is never one object per tick.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from detector.core.names import Names

Int64 = NDArray[np.int64]
Int32 = NDArray[np.int32]
Float64 = NDArray[np.float64]
Float32 = NDArray[np.float32]
Bool = NDArray[np.bool_]


class Outcome(IntEnum):
    """What became of a tick; every tick has exactly one.

    SCORED closed a window; WARMING came before its series had a full window; STRIDED fell
    between two windows of a stride above 1; LATE is older than the newest of its series;
    DUPLICATE repeats the newest tick of its series; REJECTED cannot be used (dead letter).
    """

    SCORED = 0
    WARMING = 1
    STRIDED = 2
    LATE = 3
    DUPLICATE = 4
    REJECTED = 5


@dataclass(frozen=True, slots=True)
class TickBatch:
    """n ticks in order of arrival (within a partition: in order of offset).

    series: (n,) names; as Names where there need not be a str a tick
    time_ns: (n,) event time, nanoseconds since the Unix epoch
    values: (n, fields) raw field values
    partition, offset, index: (n,) where the tick came from; index counts ticks in a record
    received_ms: (n,) the broker's timestamp of the record, milliseconds; -1: unknown
    """

    series: Sequence[str]
    time_ns: Int64
    values: Float64
    partition: Int32
    offset: Int64
    index: Int32
    received_ms: Int64

    def __len__(self) -> int:
        return len(self.time_ns)

    def part(self, rows: slice) -> TickBatch:
        """Consecutive ticks."""
        return TickBatch(
            self.series[rows],
            self.time_ns[rows],
            self.values[rows],
            self.partition[rows],
            self.offset[rows],
            self.index[rows],
            self.received_ms[rows],
        )

    @classmethod
    def concatenate(cls, batches: list[TickBatch], *, fields: int) -> TickBatch:
        """The ticks of all batches, one after the other; empty if there are none."""
        if len(batches) == 1:
            return batches[0]
        if not batches:
            empty = np.empty(0, np.int64)
            small = np.empty(0, np.int32)
            return cls((), empty, np.empty((0, fields)), small, empty, small, empty)
        return cls(
            _names([b.series for b in batches]),
            np.concatenate([b.time_ns for b in batches]),
            np.concatenate([b.values for b in batches]),
            np.concatenate([b.partition for b in batches]),
            np.concatenate([b.offset for b in batches]),
            np.concatenate([b.index for b in batches]),
            np.concatenate([b.received_ms for b in batches]),
        )


def _names(parts: Sequence[Sequence[str]]) -> Sequence[str]:
    names = [part for part in parts if isinstance(part, Names)]
    return Names.concatenate(names) if len(names) == len(parts) else list(chain(*parts))


def names_at(names: Sequence[str], rows: Int64) -> Sequence[str]:
    """Those of some ticks."""
    return names.at(rows) if isinstance(names, Names) else [names[i] for i in rows.tolist()]


@dataclass(frozen=True, slots=True)
class Reject:
    """A tick that cannot be used, and why. reason is one word of a fixed list, for counting; ticks:
    so many of the record with that reason, of which this is the first."""

    partition: int
    offset: int
    index: int
    reason: str
    detail: str
    ticks: int = 1


#: Every reason a tick can be rejected for; metrics start each at zero.
REJECT_REASONS = (
    "null",  # the record has no value
    "too_large",  # the record exceeds input.max_record_bytes
    "not_decodable",  # not JSON (or MessagePack), or invalid UTF-8
    "missing_field",  # a field of the configuration is absent
    "wrong_type",  # a field holds a string, null, list ... where a number must stand
    "not_finite",  # NaN or infinite, or a transform of it (the logarithm of a negative price)
    "bad_timestamp",  # not a time, or outside 1677 ... 2262
    "no_series",  # no series name in the field or in the record's key
    "far_future",  # more than input.max_future_s past the broker's timestamp of its record
    "series_limit",  # more series than limits.max_series
)


def rows_of_numbers(values: Float64) -> Bool:
    """(n, ...) -> (n,) the rows in which everything is finite."""
    finite = np.isfinite(values)
    if finite.all():  # the usual batch: row by row takes ten times as long
        return np.ones(len(values), np.bool_)
    rows: Bool = np.asarray(finite.all(axis=1))  # its type is too wide
    return rows


def from_the_future(batch: TickBatch, max_future_s: float | None) -> Bool:
    """(n,) which ticks are more than so many seconds ahead of the time their record came; none
    where that is not known, or None."""
    if max_future_s is None or not len(batch):
        return np.zeros(len(batch), np.bool_)
    most_ms, received_ms = int(min(max_future_s * 1e3, 9e18)), batch.received_ms
    first_ms, last_ns = int(received_ms.min()), int(batch.time_ns.max())
    if first_ms >= 0 and last_ns // 10**6 - first_ms <= most_ms:
        return np.zeros(len(batch), np.bool_)  # not even the last of the first: the usual batch
    # Milliseconds, of whole ones: the difference cannot wrap.
    ahead_ms = batch.time_ns // 10**6 - received_ms
    result: Bool = (received_ms >= 0) & (ahead_ms > most_ms)
    return result
