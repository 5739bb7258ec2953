"""Tables of ticks as people have them: CSV, JSON lines (both also gzipped), Parquet, a stream of
lines, or columns in memory. Knows how cells are held and nothing of what they mean.

Everything is read in chunks, so its size does not matter.
"""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NoReturn

import numpy as np

from detector.core.moments import rfc3339
from detector.data.arriving import Arriving, Wrong
from detector.errors import DataError

CHUNK_ROWS = 65_536


@dataclass(frozen=True, slots=True)
class Table:
    """Some consecutive rows, column by column. Cells are text, numbers, None, or a NumPy array."""

    cells: Mapping[str, Any]
    rows: int


def refuse(wrong: str) -> NoReturn:
    """A row that is none ends the reading."""
    raise DataError(wrong)


def file_tables(path: Path) -> Iterator[Table]:
    """A file by its ending. Raises DataError naming file and line."""
    with _errors_named(path):
        kind = _kind(path)
        if kind == "parquet":
            yield from _parquet(path)
            return
        with _text(path) as lines:
            if kind == "csv":
                for columns, rows in _csv(lines, str(path), refuse):
                    yield _transposed(columns, rows)
                return
            names: list[str] = []
            for found in _json_lines(lines, str(path), refuse):
                names = names or list(found[0])
                yield Table({name: [one.get(name) for one in found] for name in names}, len(found))


def file_objects(
    path: Path, wrong: Wrong, needed: Sequence[str] = ()
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a file as they are, each with its cells by name; a row of text is one line.
    Raises DataError where a column that is needed is not there."""
    with _errors_named(path):
        kind = _kind(path)
        if kind == "parquet":
            for number, table in enumerate(_parquet(path)):
                if number == 0:
                    _require(str(path), table.cells, needed)
                rows = zip(*table.cells.values(), strict=True)
                yield [dict(zip(table.cells, row, strict=True)) for row in rows]
            return
        with _text(path) as lines:
            if kind == "csv":
                yield from _csv_objects(lines, str(path), wrong, needed)
                return
            first = True
            for found in _json_lines(lines, str(path), wrong):
                if first:  # each object has its own names
                    _require(str(path), {name: None for one in found for name in one}, needed)
                first = False
                yield found


def stream_objects(
    stream: IO[bytes], name: str, wrong: Wrong, needed: Sequence[str] = ()
) -> Iterator[list[dict[str, Any]]]:
    """The rows of a stream as they come, JSON lines or CSV with a header, gzipped or not: what is
    there is given before more is waited for. Raises DataError where a column that is needed is not
    in a header."""
    with _errors_named(name):
        lines = Arriving(_unzipped(stream), name, wrong)
        if lines.first().lstrip().startswith(("{", "[")):
            yield from _json_lines(lines, name, wrong)
        else:
            yield from _csv_objects(lines, name, wrong, needed)


def _unzipped(stream: IO[bytes]) -> IO[bytes]:
    peek = getattr(stream, "peek", None)
    zipped = peek is not None and peek(2)[:2] == b"\x1f\x8b"
    return gzip.GzipFile(fileobj=stream) if zipped else stream  # type: ignore[return-value]  # reads


def column_tables(columns: Mapping[str, Any]) -> Iterator[Table]:
    """Columns in memory, all of one length. Raises DataError where they are not."""
    lengths = {name: len(cells) for name, cells in columns.items()}
    rows = next(iter(lengths.values()), 0)
    for name, length in lengths.items():
        if length != rows:
            raise DataError(f"the columns differ in length: {name!r} has {length}, not {rows}")
    for start in range(0, rows, CHUNK_ROWS):
        n = min(CHUNK_ROWS, rows - start)
        yield Table({name: cells[start : start + n] for name, cells in columns.items()}, n)


def columns_of(table: Any) -> dict[str, Any]:
    """The columns of what people hold ticks in: a mapping of sequences, a pandas DataFrame, or
    whatever speaks Arrow (pyarrow, polars, DuckDB). Times with a zone become UTC. Raises
    DataError for anything else."""
    if isinstance(table, Mapping) or (hasattr(table, "items") and hasattr(table, "columns")):
        return {str(name): cells_of(cells) for name, cells in table.items()}
    if not hasattr(table, "__arrow_c_stream__"):
        raise DataError(
            "a table is a mapping of columns, a DataFrame or an Arrow table, not "
            f"{type(table).__name__}"
        )
    try:
        import pyarrow  # an extra
    except ImportError:
        raise DataError("an Arrow table needs pyarrow: pip install 'detector[parquet]'") from None
    try:
        found = pyarrow.table(table)
        return {name: arrow_cells(found.column(name)) for name in found.column_names}
    except ValueError as error:  # pyarrow's ArrowInvalid is one: no table, times beyond 64 bits
        raise DataError(f"a table is a mapping of columns, or ticks in Arrow: {error}") from None


def is_table(thing: Any) -> bool:
    """Whether it has columns by name, rather than being one."""
    named = hasattr(thing, "columns") or hasattr(thing, "column_names")
    return named or isinstance(thing, Mapping)


def cells_of(cells: Any) -> Any:
    """A column in memory as a NumPy array or a list. Times with a zone: datetime64 in UTC."""
    if hasattr(cells, "to_pylist"):  # Arrow
        try:
            return arrow_cells(cells)
        except ValueError as error:
            raise DataError(f"a column: {error}") from None
    kind = getattr(cells, "dtype", None)
    if str(kind).startswith("datetime64") and not isinstance(kind, np.dtype):  # pandas: with a zone
        return np.asarray(cells, dtype=f"datetime64[{getattr(kind, 'unit', 'ns')}]")
    if hasattr(cells, "to_numpy"):
        cells = cells.to_numpy()
    return cells if isinstance(cells, np.ndarray) else list(cells)


# -- by kind of file


def _kind(path: Path) -> str:
    endings = [s for s in path.suffixes if s != ".gz"]
    kinds = {".parquet": "parquet", ".csv": "csv"} | dict.fromkeys(
        (".jsonl", ".ndjson", ".json"), "json"
    )
    kind = kinds.get(endings[-1] if endings else "")
    if kind is None:
        raise DataError(f"{path}: must end in .csv, .jsonl (both also .gz) or .parquet")
    return kind


@contextlib.contextmanager
def _errors_named(path: Path | str) -> Iterator[None]:
    try:
        yield
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


def _csv_objects(
    lines: IO[str] | Arriving, name: str, wrong: Wrong, needed: Sequence[str]
) -> Iterator[list[dict[str, Any]]]:
    """A row is a line, so that a quote too many spoils no other."""
    columns, delimiter = _header(lines)
    if columns:
        _require(name, columns, needed)
    rows: list[dict[str, Any]] = []
    for number, line in _numbered(lines, 2):
        try:
            row = next(csv.reader([line.rstrip("\r\n")], delimiter=delimiter, strict=True), [])
        except csv.Error as error:
            wrong(f"{name}: line {number}: {error}")
            continue
        if len(row) == len(columns):
            rows.append(dict(zip(columns, row, strict=True)))
        elif row:
            wrong(f"{name}: line {number} has {len(row)} cells, the header {len(columns)}")
        if rows and (len(rows) == CHUNK_ROWS or _drained(lines)):
            yield rows
            rows = []
    if rows:
        yield rows


def _require(name: str, columns: Iterable[str], needed: Sequence[str]) -> None:
    there = list(columns)
    for one in needed:
        if one not in there:
            raise DataError(f"{name}: has no column {one!r}; it has {', '.join(there)}")


def _header(lines: IO[str] | Arriving) -> tuple[list[str], str]:
    """The names of the columns, and what stands between them."""
    head = next(lines, "")
    delimiter = max(",;\t", key=head.count)
    return [cell.strip() for cell in next(csv.reader([head], delimiter=delimiter), [])], delimiter


def _csv(lines: IO[str], name: str, wrong: Wrong) -> Iterator[tuple[list[str], list[list[str]]]]:
    columns, delimiter = _header(lines)
    rows: list[list[str]] = []
    reader = csv.reader(lines, delimiter=delimiter)
    for row in reader:
        if len(row) == len(columns):
            rows.append(row)
        elif row:
            wrong(
                f"{name}: near line {reader.line_num + 1}: a row has {len(row)} cells, the header "
                f"{len(columns)}"
            )
        if len(rows) == CHUNK_ROWS:
            yield columns, rows
            rows = []
    if rows:
        yield columns, rows


def _json_lines(
    lines: IO[str] | Arriving, name: str, wrong: Wrong
) -> Iterator[list[dict[str, Any]]]:
    found: list[dict[str, Any]] = []
    for number, line in _numbered(lines, 1):
        if line.strip():
            try:
                item = json.loads(line)
            except (ValueError, RecursionError):
                wrong(f"{name}: line {number} is not JSON")
            else:
                ticks = item if isinstance(item, list) else [item]
                if all(isinstance(tick, dict) for tick in ticks):
                    found += ticks
                else:
                    wrong(f"{name}: line {number} is no object, and no array of them")
        if found and (len(found) == CHUNK_ROWS or _drained(lines)):
            yield found
            found = []
    if found:
        yield found


def _numbered(lines: IO[str] | Arriving, first: int) -> Iterator[tuple[int, str]]:
    if isinstance(lines, Arriving):  # it leaves some out
        return ((lines.number, line) for line in lines)
    return enumerate(lines, first)


def _drained(lines: IO[str] | Arriving) -> bool:
    return isinstance(lines, Arriving) and lines.drained


def _transposed(columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> Table:
    return Table(dict(zip(columns, zip(*rows, strict=True), strict=True)), len(rows))


def _parquet(path: Path) -> Iterator[Table]:
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
            cells = map(arrow_cells, batch.columns)
            yield Table(dict(zip(batch.schema.names, cells, strict=True)), batch.num_rows)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from None


def arrow_cells(column: Any) -> list[Any]:
    """Values of an Arrow column; timestamps as ISO 8601 text with all their digits."""
    import pyarrow

    if pyarrow.types.is_timestamp(column.type):
        ns = column.cast(pyarrow.timestamp("ns", column.type.tz)).cast(pyarrow.int64()).to_pylist()
        return [None if n is None else rfc3339(n) for n in ns]
    cells: list[Any] = column.to_pylist()
    return cells
