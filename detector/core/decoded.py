"""What a reader of records hands on: ticks as columns, each with the row of its record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.names import Names
from detector.core.records import RecordBlock
from detector.core.ticks import Float64, Int32, Int64, Reject, TickBatch

#: Of a series, in characters: an alert repeats the name, and a broker limits its records.
LONGEST_NAME = 1000
NAMELESS = f"the series' name is empty or longer than {LONGEST_NAME} characters"


@dataclass(frozen=True, slots=True)
class Decoded:
    """n ticks of a block, in order of row and index.

    series, time_ns, values, index: (n, ...) as in TickBatch
    row: (n,) where the record of each stands in the block
    """

    series: Sequence[str]
    time_ns: Int64
    values: Float64
    row: Int64
    index: Int32
    rejects: list[Reject]

    def batch(self, block: RecordBlock) -> TickBatch:
        return TickBatch(
            series=self.series,
            time_ns=self.time_ns,
            values=self.values,
            partition=np.full(len(self.row), block.partition, np.int32),
            offset=np.asarray(block.offsets, np.int64)[self.row],
            index=self.index,
            received_ms=np.asarray(block.timestamps_ms, np.int64)[self.row],
        )

    def with_others(self, other: Decoded) -> Decoded:
        """With those of other records of the block, in order."""
        row = np.concatenate([self.row, other.row])
        order = np.argsort(row, kind="stable")
        series = Names.concatenate([_as_names(self.series), _as_names(other.series)])
        return Decoded(
            Names(series.distinct, series.code[order]),
            np.concatenate([self.time_ns, other.time_ns])[order],
            np.concatenate([self.values, other.values])[order],
            row[order],
            np.concatenate([self.index, other.index])[order],
            self.rejects + other.rejects,
        )


def _as_names(series: Sequence[str]) -> Names:
    return series if isinstance(series, Names) else Names.of(series)
