"""Ticks as a caller gives them, arrays or a table, to chunks."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, get_args

import numpy as np

from detector.core.moments import TimestampUnit
from detector.core.ticks import Float64
from detector.data.cells import NoMomentError, NoNameError, moments, names, numbers
from detector.data.chunks import Chunk, Columns, read_chunks
from detector.data.sources import DataTable
from detector.data.tables import CHUNK_ROWS, cells_of, columns_of, is_table
from detector.errors import DataError


def of_table(
    table: Any, meaning: Columns, fields: Sequence[str], unit: TimestampUnit | None
) -> list[Chunk]:
    """A table of ticks, or one tick with its cells by name. unit: of its times; None: as the
    columns mean. Raises DataError."""
    if unit is not None:
        form = dataclasses.replace(meaning.form, timestamp_unit=_known(unit))
        meaning = dataclasses.replace(meaning, form=form)
    return list(read_chunks(DataTable(_columns(table)), meaning, fields))


def of_arrays(
    series: Any, moment: Any, values: Any, fields: Sequence[str], unit: TimestampUnit
) -> list[Chunk]:
    """A name or (n,) names, (n,) times and (n, fields) values, in parts of bounded size. One tick
    may come without brackets. Raises DataError."""
    one = isinstance(moment, str) or np.ndim(moment) == 0
    times = cells_of([moment] if one else moment)
    try:
        time_ns = moments(times, _known(unit))
    except NoMomentError as error:
        at = error.position
        raise DataError(f"time: {times[at]!r} at {at} is no time in {unit}") from None
    n = len(time_ns)
    given = [series] * n if isinstance(series, str) else cells_of(series)
    try:
        named = names(given)
    except NoNameError as error:
        at = error.position
        raise DataError(f"series: {given[at]!r} at {at} names no series") from None
    if len(named) != n:
        raise DataError(f"series: {len(named)} names for {n} times")
    by_name = is_table(values) or (one and _is_row(values))
    matrix = _matrix(_columns(values) if by_name else values, n, fields)
    parts = [slice(at, at + CHUNK_ROWS) for at in range(0, n, CHUNK_ROWS)]
    row = np.arange(n)
    return [Chunk(named[part], time_ns[part], matrix[part], None, row[part]) for part in parts]


def _known(unit: TimestampUnit) -> TimestampUnit:
    if unit not in get_args(TimestampUnit):
        raise DataError(f"unit: {unit!r} is none of {', '.join(get_args(TimestampUnit))}")
    return unit


def _is_row(values: Any) -> bool:
    """Whether it is a row of a DataFrame: cells by the names of its columns."""
    if not hasattr(values, "to_dict") or not hasattr(values, "index"):
        return False
    return len(values) > 0 and all(isinstance(label, str) for label in values.index)


def _is_column(cell: Any) -> bool:
    if isinstance(cell, np.ndarray):
        return cell.ndim > 0
    return hasattr(cell, "__len__") and not isinstance(cell, str | bytes)


def _columns(table: Any) -> dict[str, Any]:
    """Of a table, or of one tick as a mapping or a row of a DataFrame."""
    if not is_table(table) and _is_row(table):
        table = table.to_dict()
    if isinstance(table, Mapping) and not any(map(_is_column, table.values())):
        return {str(name): [cell] for name, cell in table.items()}
    return columns_of(table)


def _matrix(values: Any, n: int, fields: Sequence[str]) -> Float64:
    """(n, fields)"""
    if isinstance(values, dict):
        missing = [field for field in fields if field not in values]
        if missing:
            raise DataError(f"values: has no {missing[0]!r}; it has {', '.join(values)}")
        of = [numbers(values[field]) for field in fields]
        if any(len(column) != n for column in of):
            raise DataError(f"values: columns of {[len(c) for c in of]} rows for {n} times")
        return np.column_stack(of)
    matrix = _numbers(values)
    if matrix.ndim <= 1 and matrix.size == n * len(fields) and 1 in (n, len(fields)):
        matrix = matrix.reshape(n, len(fields))
    if n == 0 and matrix.size == 0:
        matrix = np.empty((0, len(fields)))
    if matrix.shape != (n, len(fields)):
        raise DataError(
            f"values: must be ({n}, {len(fields)}), a row a time and a column a field ("
            f"{', '.join(fields)}); are {matrix.shape}"
        )
    return matrix


def _numbers(values: Any) -> Float64:
    """An array of whatever shape; NaN where there is no number. Raises DataError."""
    if getattr(getattr(values, "dtype", None), "kind", "") == "c":
        raise DataError("values: complex numbers are none that a model knows")
    try:
        cells = cells_of(values) if np.ndim(values) else [values]
        return np.asarray(cells, np.float64)
    except (ValueError, TypeError, OverflowError):  # some are no numbers
        pass
    try:
        texts = np.array(values, object)
    except ValueError:
        raise DataError("values: rows of different lengths") from None
    flat = texts.ravel().tolist()
    if any(isinstance(one, list | tuple | np.ndarray) for one in flat):
        raise DataError("values: rows of different lengths")
    return numbers(flat).reshape(texts.shape)
