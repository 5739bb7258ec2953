"""Sources of ticks as chunks of columns, ready for the pipeline."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detector.core.tick_format import TickFormat
from detector.core.ticks import Float64, Int64, TickBatch
from detector.data.cells import NoMomentError, NoNameError, moments, names, numbers
from detector.data.sources import Source
from detector.errors import DataError


@dataclass(frozen=True, slots=True)
class Columns:
    """What the columns of a source mean."""

    form: TickFormat
    label: str
    exclude: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive rows of a source. A value that is absent or no number is NaN.

    time_ns: (n,); values: (n, fields); label: (n,) or None where there is no label column;
    row: (n,) where each stands in the source, from 0
    """

    series: Sequence[str]
    time_ns: Int64
    values: Float64
    label: Float64 | None
    row: Int64

    def __len__(self) -> int:
        return len(self.time_ns)

    @property
    def first_row(self) -> int:
        return int(self.row[0])


@dataclass(frozen=True, slots=True)
class AutoFields:
    """What `features: auto` takes, and the columns it leaves out because they look like labels, or
    hold no number. named: whether a column names the series."""

    fields: tuple[str, ...]
    labels: tuple[str, ...]
    texts: tuple[str, ...]
    named: bool


#: A column of zeros and ones that is called so says what is to be found.
_LABEL_WORDS = {
    "label", "labels", "anomaly", "anomalies", "anomalous", "outlier", "outliers", "attack",
    "attacks", "fault", "faulty", "target", "class", "truth", "y",
}  # fmt: skip


def auto_fields(source: Source, columns: Columns) -> AutoFields:
    """The columns that hold numbers, without time, series, label and those to exclude. Raises
    DataError where none is left, or one to exclude is not there."""
    table = next(source.tables(), None)
    if table is None:
        raise DataError(f"{source.name}: holds no tick")
    cells = table.cells
    for name in columns.exclude:
        if name not in cells:
            raise DataError(
                f"{source.name}: input.exclude names {name!r}; it has {', '.join(cells)}"
            )
    form = columns.form
    left_out = {form.timestamp_field, form.series_field, columns.label, *columns.exclude}
    fields: list[str] = []
    labels: list[str] = []
    texts: list[str] = []
    for name, column in cells.items():
        if name in left_out or getattr(column, "dtype", np.dtype(float)).kind in "mM":
            continue
        values = numbers(column)
        if np.isnan(values).all():
            texts.append(name)
            continue
        (labels if _is_label(name, values) else fields).append(name)
    if not fields:
        raise DataError(
            f"{source.name}: no numeric column besides time, series and label"
            + (f"; {', '.join(texts)} hold no number (a decimal point is a point)" if texts else "")
        )
    return AutoFields(tuple(fields), tuple(labels), tuple(texts), form.series_field in cells)


def _is_label(name: str, values: Float64) -> bool:
    words = re.split(r"[^a-z]+", name.lower())
    known = values[~np.isnan(values)]
    return bool(_LABEL_WORDS & set(words)) and bool(np.isin(known, (0, 1)).all())


def read_chunks(source: Source, columns: Columns, fields: Sequence[str]) -> Iterator[Chunk]:
    """The rows of a source in order. Raises DataError naming source and row."""
    form, row = columns.form, 0
    for table in source.tables():
        cells, n = table.cells, table.rows
        for needed in (form.timestamp_field, *fields):
            if needed not in cells:
                where = " (input.timestamp_field)" if needed == form.timestamp_field else ""
                raise DataError(
                    f"{source.name}: has no column {needed!r}{where}; it has {_list(cells)}"
                )
        try:
            time_ns = moments(cells[form.timestamp_field], form.timestamp_unit)
        except NoMomentError as error:
            at = error.position
            raise DataError(
                f"{source.name}: row {row + at + 1}: {form.timestamp_field} = "
                f"{cells[form.timestamp_field][at]!r} is no time in {form.timestamp_unit} "
                "(input.timestamp_unit)"
            ) from None
        values = np.empty((n, len(fields)))
        for i, field in enumerate(fields):
            values[:, i] = numbers(cells[field])
        given = cells.get(form.series_field, [source.series] * n)
        try:
            named = names(given)
        except NoNameError as error:
            at = error.position
            raise DataError(
                f"{source.name}: row {row + at + 1}: {form.series_field} = "
                f"{given[at]!r} names no series"
            ) from None
        chunk = Chunk(
            named,
            time_ns,
            values,
            numbers(cells[columns.label]) if columns.label in cells else None,
            np.arange(row, row + n),
        )
        row += n
        done = source.limit is not None and row >= source.limit
        keep = np.ones(n, np.bool_)
        if source.since_ns is not None:
            keep &= time_ns >= source.since_ns
        if source.until_ns is not None:
            keep &= time_ns < source.until_ns
        if done:
            keep[(source.limit or 0) - chunk.first_row :] = False
        if keep.any():
            yield chunk if keep.all() else _select(chunk, keep)
        if done:
            return


def to_batch(chunk: Chunk) -> TickBatch:
    """A chunk as the pipeline takes it: partition 0, the row number for offset."""
    n = len(chunk)
    return TickBatch(
        series=chunk.series,
        time_ns=chunk.time_ns,
        values=chunk.values,
        partition=np.zeros(n, np.int32),
        offset=chunk.row,
        index=np.zeros(n, np.int32),
        received_ms=chunk.time_ns // 10**6,
    )


def _select(chunk: Chunk, keep: Any) -> Chunk:
    which = np.flatnonzero(keep).tolist()
    return replace(
        chunk,
        series=[chunk.series[i] for i in which],
        time_ns=chunk.time_ns[which],
        values=chunk.values[which],
        label=None if chunk.label is None else chunk.label[which],
        row=chunk.row[which],
    )


def _list(cells: Any) -> str:
    return ", ".join(cells)
