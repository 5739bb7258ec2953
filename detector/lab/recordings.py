"""Data files as uninterrupted runs of features, a whole file at a time."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detector.artifact import Artifact
from detector.config import Config
from detector.core.intake import Intake
from detector.core.slots import SeriesTable
from detector.core.ticks import Float32, Float64, Int64
from detector.lab.datasets import DataFile, read_chunks, to_batch
from detector.service.wiring import tick_format


@dataclass(frozen=True, slots=True)
class Run:
    """Uninterrupted ticks of a series: rows (n, features), time_ns (n,), label (n,) or None where
    the file has none."""

    series: str
    rows: Float32
    time_ns: Int64
    label: Float64 | None


def read_runs(
    artifact: Artifact, config: Config, file: DataFile, read: Callable[[int], None]
) -> list[Run]:
    """The ticks of a file that have all features. read: called with the number of ticks read."""
    form = tick_format(config)
    table = SeriesTable(max_series=config.limits.max_series)
    intake = Intake(artifact.features, max_gap_s=config.window.max_gap_s)
    parts, labels = [], []
    for chunk in read_chunks(
        file, form, artifact.features.fields, label_field=config.input.label_field
    ):
        accepted = intake.accept(to_batch(chunk, table))
        time_ns = chunk.time_ns[accepted.row]
        parts.append((accepted.slot, accepted.restart, accepted.features, time_ns))
        if chunk.label is not None:
            labels.append(chunk.label[accepted.row])
        read(len(chunk))
    if not parts:
        return []
    slot, restart, rows, time_ns = (np.concatenate(column) for column in zip(*parts, strict=True))
    if not len(slot):  # not one tick could be used
        return []
    label = np.concatenate(labels) if labels else None
    order = np.argsort(slot, kind="stable")
    slot, restart = slot[order], restart[order]
    begins = np.flatnonzero(np.concatenate([[True], slot[1:] != slot[:-1]]) | restart)
    runs = []
    for begin, end in zip(begins.tolist(), [*begins[1:].tolist(), len(slot)], strict=True):
        own = order[begin:end]
        own = own[~np.isnan(rows[own]).any(axis=1)]  # a first tick may lack what looks back
        name = table.name(int(slot[begin]))
        runs.append(Run(name, rows[own], time_ns[own], None if label is None else label[own]))
    return runs
