"""Data files as batches of ticks: CSV, JSON lines (both also gzipped) and Parquet.

Knows files and nothing of models. Files are read in chunks, so their size does not matter.
"""

from __future__ import annotations

import csv
import gzip
import io
import itertools
import json
import math
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np

from detector.core.cloudevents import rfc3339
from detector.core.codec import TickFormat, float_to_ns, parse_time
from detector.core.slots import SeriesTable
from detector.core.ticks import Float64, Int64, TickBatch
from detector.errors import DataError

CHUNK_ROWS = 65_536
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some consecutive rows of a file. A value that is absent or no number is NaN.

    time_ns: (n,); values: (n, fields); label: (n,) or None where the file has no label column;
    row: (n,) where each stands in the file, from 0
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
class DataFile:
    """A file, the name for its series where it has no series column, and which part to read.

    since_ns <= time < until_ns; limit counts rows.
    """

    path: Path
    series: str
    since_ns: int | None = None
    until_ns: int | None = None
    limit: int | None = None


def parse_data_argument(text: str) -> DataFile:
    """`FILE` or `SERIES=FILE`; the series defaults to the file's name without its endings."""
    name, equals, rest = text.partition("=")
    if equals and not Path(text).exists():
        return DataFile(Path(rest), name)
    return DataFile(Path(text), Path(text).name.split(".")[0])


def numeric_fields(file: DataFile, form: TickFormat, label_field: str) -> list[str]:
    """The columns that hold numbers, without time, series and label (`features: auto`)."""
    columns, rows = next(_tables(file.path), ([], []))
    left_out = {form.timestamp_field, form.series_field, label_field}
    fields = []
    for i, name in enumerate(columns):
        values = _numbers([row[i] for row in rows])
        if name not in left_out and not np.isnan(values).all():
            fields.append(name)
    if not fields:
        raise DataError(f"{file.path}: no numeric column besides time, series and label")
    return fields


def read_chunks(
    file: DataFile, form: TickFormat, fields: Sequence[str], *, label_field: str
) -> Iterator[Chunk]:
    """The rows of a file in order. Raises DataError naming file and row."""
    row = 0
    for columns, rows in _tables(file.path):
        for needed in (form.timestamp_field, *fields):
            if needed not in columns:
                raise DataError(
                    f"{file.path}: has no column {needed!r}; it has {', '.join(columns)}"
                )
        table = list(zip(*rows, strict=True))
        time_ns = _times(table[columns.index(form.timestamp_field)], form, file.path, row)
        values = np.empty((len(rows), len(fields)))
        for i, field in enumerate(fields):
            values[:, i] = _numbers(table[columns.index(field)])
        series: Sequence[str] = (
            [str(s) for s in table[columns.index(form.series_field)]]
            if form.series_field in columns
            else [file.series] * len(rows)
        )
        label = _numbers(table[columns.index(label_field)]) if label_field in columns else None
        number = np.arange(row, row + len(rows))
        chunk = Chunk(series, time_ns, values, label, number)
        row += len(rows)
        done = file.limit is not None and row >= file.limit
        keep = np.ones(len(rows), np.bool_)
        if file.since_ns is not None:
            keep &= time_ns >= file.since_ns
        if file.until_ns is not None:
            keep &= time_ns < file.until_ns
        if done:
            keep[(file.limit or 0) - int(number[0]) :] = False
        if keep.any():
            yield chunk if keep.all() else _select(chunk, keep)
        if done:
            return


def to_batch(chunk: Chunk, table: SeriesTable) -> TickBatch:
    """A chunk as the pipeline takes it: partition 0, the row number for offset."""
    n = len(chunk)
    return TickBatch(
        slot=table.slots(0, chunk.series),
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


def _tables(path: Path) -> Iterator[tuple[list[str], list[Sequence[Any]]]]:
    """(column names, rows) chunk by chunk, by the file's ending."""
    endings = [s for s in path.suffixes if s != ".gz"]
    kind = endings[-1] if endings else ""
    try:
        if kind == ".parquet":
            yield from _parquet(path)
        elif kind == ".csv":
            with _text(path) as file:
                yield from _csv(file)
        elif kind in (".jsonl", ".ndjson", ".json"):
            with _text(path) as file:
                yield from _json_lines(file, path)
        else:
            raise DataError(f"{path}: must end in .csv, .jsonl (both also .gz) or .parquet")
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise DataError(f"{path}: {reason}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no UTF-8 text") from None
    except csv.Error as error:
        raise DataError(f"{path}: {error}") from None


def _text(path: Path) -> IO[str]:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig", newline="")
    return path.open(encoding="utf-8-sig", newline="")


def _csv(file: IO[str]) -> Iterator[tuple[list[str], list[Sequence[Any]]]]:
    head = file.readline()
    delimiter = max(",;\t", key=head.count)
    columns = [name.strip() for name in next(csv.reader([head], delimiter=delimiter), [])]
    reader = csv.reader(file, delimiter=delimiter)
    while rows := list(itertools.islice(reader, CHUNK_ROWS)):
        if any(len(row) != len(columns) for row in rows):
            rows = [row for row in rows if row]
            for row in rows:
                if len(row) != len(columns):
                    raise DataError(
                        f"{getattr(file, 'name', 'CSV')}: near line {reader.line_num + 1}: a row "
                        f"has {len(row)} cells, the header {len(columns)}"
                    )
        if rows:
            yield columns, list(rows)


def _json_lines(file: IO[str], path: Path) -> Iterator[tuple[list[str], list[Sequence[Any]]]]:
    columns: list[str] = []
    number = 0
    while lines := list(itertools.islice(file, CHUNK_ROWS)):
        rows: list[Sequence[Any]] = []
        for line in lines:
            number += 1
            if not line.strip():
                continue
            try:
                item = json.loads(line)
            except ValueError:
                raise DataError(f"{path}: line {number} is not JSON") from None
            if not isinstance(item, dict):
                raise DataError(f"{path}: line {number} is no object")
            columns = columns or list(item)
            rows.append([item.get(c) for c in columns])
        if rows:
            yield columns, rows


def _parquet(path: Path) -> Iterator[tuple[list[str], list[Sequence[Any]]]]:
    try:
        import pyarrow.parquet as parquet  # an extra: only where such a file is read
    except ImportError:
        raise DataError(f"{path}: Parquet needs pyarrow: pip install 'detector[parquet]'") from None
    try:
        file = parquet.ParquetFile(path)
    except ValueError as error:  # pyarrow's ArrowInvalid is one
        raise DataError(f"{path}: {error}") from None
    try:
        for batch in file.iter_batches(CHUNK_ROWS):
            columns = [_cells(column) for column in batch.columns]
            yield batch.schema.names, list(zip(*columns, strict=True))
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def _cells(column: Any) -> list[Any]:
    """Values of a Parquet column; timestamps as ISO 8601 text with all their digits."""
    import pyarrow

    if pyarrow.types.is_timestamp(column.type):
        ns = column.cast(pyarrow.timestamp("ns", column.type.tz)).cast(pyarrow.int64()).to_pylist()
        return [None if n is None else rfc3339(n) for n in ns]
    cells: list[Any] = column.to_pylist()
    return cells


def _exact(cell: Any) -> int | float:
    """A number from a cell; a whole one keeps all its digits."""
    try:
        return int(cell) if not isinstance(cell, float) else cell
    except ValueError:
        return float(cell)


def _numbers(cells: Sequence[Any]) -> Float64:
    try:
        column = np.array(cells, np.float64)
        if column.ndim == 1:
            return column
        raise ValueError
    except (ValueError, TypeError, OverflowError):
        return np.array([_number(cell) for cell in cells])


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (ValueError, TypeError, OverflowError):
        return math.nan


def _times(cells: Sequence[Any], form: TickFormat, path: Path, first_row: int) -> Int64:
    unit = form.timestamp_unit
    if unit != "iso8601":
        try:
            if not any(isinstance(cell, float) for cell in cells):  # NumPy would cut them off
                whole = np.array(cells, np.int64)  # whole numbers, as text or not
                if len(whole) == 0 or np.abs(whole.astype(np.float64)).max() < 2**63 / _NS[unit]:
                    return whole * _NS[unit]
            raise ValueError
        except (ValueError, TypeError, OverflowError):
            numbers = _numbers(cells)
            if (np.abs(numbers) < min(2**63 / _NS[unit], 2**53)).all():  # false for NaN too
                return float_to_ns(numbers, _NS[unit])
    times = []
    for i, cell in enumerate(cells):
        try:
            if isinstance(cell, str) and "T" in cell:  # a Parquet timestamp, whatever the unit
                times.append(parse_time(cell, "iso8601"))
            else:
                times.append(parse_time(cell if unit == "iso8601" else _exact(cell), unit))
        except (ValueError, TypeError, OverflowError):
            raise DataError(
                f"{path}: row {first_row + i + 1}: {form.timestamp_field} = {cell!r} is no time "
                f"in {unit} (input.timestamp_unit)"
            ) from None
    return np.array(times, np.int64)
