"""Data files as features, through the very stream that serves the daemon: row by row for training,
or a whole file at a time as uninterrupted runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detector.build import columns
from detector.config import Config
from detector.core.features import FeatureSet
from detector.core.intake import first_of_group
from detector.core.readings import FeatureRows, feature_rows, read
from detector.core.slots import SlotColumns
from detector.core.stream import Arrivals, Stream, StreamPolicy
from detector.core.ticks import Bool, Float32, Float64, Int64, TickBatch
from detector.data.chunks import read_chunks, to_batch
from detector.data.sources import Source
from detector.model.directory import Artifact


class RowReader:
    """Accepts the ticks of recordings and gives the rows of their features. Series are never
    forgotten, nor is any tick from the future."""

    def __init__(self, features: FeatureSet, config: Config) -> None:
        self.features = features
        self.stream = Stream(
            StreamPolicy(
                fields=len(features.fields),
                max_series=config.limits.max_series,
                max_gap_s=config.window.max_gap_s,
            )
        )

    def read(self, batch: TickBatch) -> tuple[Arrivals, FeatureRows]:
        reading = read(self.features, batch.values)
        arrivals = self.stream.accept(batch, self.stream.screen(batch, reading.usable))
        return arrivals, feature_rows(self.features, arrivals.accepted, reading)


class Withholding:
    """Takes rows out of those that are read, batch by batch, so that no window spans a hole."""

    def __init__(self) -> None:
        # By slot: whether the newest row of the series was taken out.
        self._newest = SlotColumns({"withheld": ((), np.bool_)})

    def rest(self, found: FeatureRows, withheld: Bool) -> FeatureRows:
        """The rows that stay; the first one after a hole begins a new run. What it looks back at is
        the tick before it, withheld or not. withheld: (n,) of the ticks of the batch."""
        slot = found.slot
        if not len(slot):
            return found
        self._newest.reserve(int(slot.max()) + 1)
        gone = withheld[found.row]
        first = first_of_group(slot)
        after = np.concatenate([[False], gone[:-1]])
        after[first] = self._newest["withheld"][slot[first]]
        last = np.append(np.flatnonzero(first)[1:], len(slot)) - 1
        self._newest["withheld"][slot[last]] = gone[last]
        stays = ~gone
        return FeatureRows(
            found.row[stays],
            slot[stays],
            (found.restart | after)[stays],
            found.features[stays],
            found.time_ns[stays],
        )


@dataclass(frozen=True, slots=True)
class Run:
    """Uninterrupted ticks of a series: rows (n, features) as the model sees them, time_ns (n,),
    label (n,) or None where the file has none."""

    series: str
    rows: Float32
    time_ns: Int64
    label: Float64 | None


def read_runs(
    artifact: Artifact, config: Config, file: Source, progress: Callable[[int], None]
) -> list[Run]:
    """The ticks of a file that have all features. progress: called with the number of ticks
    just read."""
    reader = RowReader(artifact.features, config)
    parts, labels = [], []
    for chunk in read_chunks(file, columns(config), artifact.features.fields):
        _, found = reader.read(to_batch(chunk))
        parts.append((found.slot, found.restart, found.features, chunk.time_ns[found.row]))
        if chunk.label is not None:
            labels.append(chunk.label[found.row])
        progress(len(chunk))
    if not parts:
        return []
    slot, restart, rows, time_ns = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(slot):  # not one tick could be used
        return []
    label = np.concatenate(labels) if labels else None
    order = np.argsort(slot, kind="stable")
    slot, restart = slot[order], restart[order]
    begins = np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]]) | restart)
    runs, scales = [], artifact.scales
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(slot)], strict=True):
        own = order[begin:end]
        own = own[~np.isnan(rows[own]).any(axis=1)]  # a first tick may lack what looks back
        name = reader.stream.series.name(int(slot[begin]))
        seen = rows[own] if scales is None else scales.seen(rows[own], scales.row(name))
        runs.append(Run(name, seen, time_ns[own], None if label is None else label[own]))
    return runs
