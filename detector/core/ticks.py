"""A batch of ticks as columns, and what may become of a tick.

Knows nothing of formats, brokers or models. There is never one object per tick.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

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

    slot: (n,) the series, as given by the series table; -1 where the table is full
    time_ns: (n,) event time, nanoseconds since the Unix epoch
    values: (n, fields) raw field values
    partition, offset, index: (n,) where the tick came from; index counts ticks in a record
    received_ms: (n,) the broker's timestamp of the record, milliseconds
    """

    slot: Int64
    time_ns: Int64
    values: Float64
    partition: Int32
    offset: Int64
    index: Int32
    received_ms: Int64

    def __len__(self) -> int:
        return len(self.slot)

    def select(self, rows: Bool) -> TickBatch:
        """The ticks where rows is true, in order."""
        return TickBatch(
            self.slot[rows],
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
            return cls(empty, empty, np.empty((0, fields)), small, empty, small, empty)
        return cls(
            np.concatenate([b.slot for b in batches]),
            np.concatenate([b.time_ns for b in batches]),
            np.concatenate([b.values for b in batches]),
            np.concatenate([b.partition for b in batches]),
            np.concatenate([b.offset for b in batches]),
            np.concatenate([b.index for b in batches]),
            np.concatenate([b.received_ms for b in batches]),
        )


@dataclass(frozen=True, slots=True)
class Reject:
    """A tick that cannot be used, and why. reason is one word of a fixed list, for counting."""

    partition: int
    offset: int
    index: int
    reason: str
    detail: str


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
