"""A labelled file as the rows of a model's features: what baselines and views score. The pipeline
itself reads the file by its own way (labelled.py); both keep every tick, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from detector.build import columns
from detector.config import Config
from detector.core.features import FeatureSet
from detector.core.ticks import Float32, Float64, Int64
from detector.data.chunks import read_chunks, to_batch
from detector.data.sources import Source
from detector.errors import DataError
from detector.offline.recordings import RowReader


@dataclass(frozen=True, slots=True)
class Recording:
    """n ticks of a series. runs: for each uninterrupted run of ticks the model can use, where they
    stand among the n (m,) and their features (m, features)."""

    ticks: int
    runs: list[tuple[Int64, Float32]]

    def scored(self, score: Callable[[Float32], Float64]) -> Float64:
        """(n,) of a function that scores runs; NaN where it does not."""
        found = np.full(self.ticks, np.nan)
        for place, rows in self.runs:
            found[place] = score(rows)
        return found


@dataclass(slots=True)
class _Parts:
    ticks: int = 0
    place: list[Int64] = field(default_factory=list)
    restart: list[np.ndarray[tuple[int], np.dtype[np.bool_]]] = field(default_factory=list)
    rows: list[Float32] = field(default_factory=list)


def read_recordings(config: Config, features: FeatureSet, file: Source) -> dict[str, Recording]:
    """Of each series of a file. Raises DataError where the file cannot be read."""
    reader = RowReader(features, config)
    parts: dict[str, _Parts] = {}
    for chunk in read_chunks(file, columns(config), features.fields):
        _, found = reader.read(to_batch(chunk))
        names = np.array(chunk.series)
        owner = names[found.row]
        for name in np.unique(names).tolist():
            one = parts.setdefault(name, _Parts())
            at = np.flatnonzero(names == name)
            own = owner == name
            one.place.append(one.ticks + np.searchsorted(at, found.row[own]))
            one.restart.append(found.restart[own])
            one.rows.append(found.features[own])
            one.ticks += len(at)
    return {name: _recording(one) for name, one in parts.items()}


def _recording(parts: _Parts) -> Recording:
    place, restart = np.concatenate(parts.place), np.concatenate(parts.restart)
    rows = np.concatenate(parts.rows)
    runs = []
    begins = np.flatnonzero(restart).tolist()
    for begin, end in zip(begins, [*begins[1:], len(place)], strict=True):
        whole = ~np.isnan(rows[begin:end]).any(axis=1)  # a first tick may lack what looks back
        if whole.any():
            runs.append((place[begin:end][whole], rows[begin:end][whole]))
    return Recording(parts.ticks, runs)


def has_labels(config: Config, file: Source) -> bool:
    """Whether it has the column. Raises DataError where the file cannot be read."""
    chunk = next(read_chunks(file, columns(config), ()), None)
    return chunk is not None and chunk.label is not None


def require_labels(config: Config, file: Source) -> None:
    """Raises DataError where a tick has no label, naming its row, or there is no tick."""
    ticks, name = 0, config.input.label_field
    for chunk in read_chunks(file, columns(config), ()):
        if chunk.label is None:
            raise DataError(f"{file.name}: has no column {name!r} (input.label_field)")
        absent = np.flatnonzero(np.isnan(chunk.label))
        if len(absent):
            row = int(chunk.row[absent[0]]) + 1
            raise DataError(
                f"{file.name}: row {row} has no label ({name}, input.label_field): labels and "
                "ticks do not align"
            )
        ticks += len(chunk)
    if not ticks:
        raise DataError(f"{file.name}: holds no tick")
