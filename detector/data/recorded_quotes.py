"""Quotes as a file of them has recorded: bid and ask of each series, and the step of its price."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.ticks import Float64, Int64
from detector.data.chunks import Columns, read_chunks
from detector.data.sources import Source
from detector.errors import DataError


@dataclass(frozen=True, slots=True)
class RecordedQuotes:
    """time_ns, bid, ask: (n,) each, in the order of the file; tick: the least step of the bid."""

    time_ns: Int64
    bid: Float64
    ask: Float64
    tick: float

    def stretches(self, ticks: int, *, most: int) -> list[RecordedQuotes]:
        """Parts of so many ticks each, evenly spread; the whole where it is shorter."""
        begins = np.arange(0, max(len(self.bid) - ticks, 0) + 1, ticks)
        if len(begins) > most:
            begins = begins[np.linspace(0, len(begins) - 1, most).astype(int)]
        parts = [slice(i, i + ticks) for i in begins.tolist()]
        return [RecordedQuotes(self.time_ns[p], self.bid[p], self.ask[p], self.tick) for p in parts]


def read_quotes(source: Source, columns: Columns) -> dict[str, RecordedQuotes]:
    """Of each series; rows without bid or ask are left out. Raises DataError where the bid of a
    series never moves."""
    chunks = list(read_chunks(source, columns, ("bid", "ask")))
    names = np.concatenate([np.asarray(chunk.series) for chunk in chunks])
    time_ns = np.concatenate([chunk.time_ns for chunk in chunks])
    values = np.concatenate([chunk.values for chunk in chunks])
    finite = np.isfinite(values).all(axis=1)
    found = {}
    for name in dict.fromkeys(names.tolist()):
        own = finite & (names == name)
        bid, ask = values[own].T
        # Prices are decimal numbers: 0.86165 - 0.86164 is not quite 0.00001.
        steps = np.round(np.abs(np.diff(bid)), 9)
        if not steps.any():
            raise DataError(f"{source.name}: the bid of {name} never moves")
        found[name] = RecordedQuotes(time_ns[own], bid, ask, float(steps[steps > 0].min()))
    return found
