"""Where ticks are read from besides a topic: files, and tables in memory."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from detector.data.tables import Table, column_tables, file_tables


class Source(Protocol):
    """A table of ticks and which part of it to read: since_ns <= time < until_ns, limit rows."""

    @property
    def name(self) -> str:
        """As errors and manifests name it."""
        ...

    @property
    def series(self) -> str:
        """The name of its series where it has no column of them."""
        ...

    @property
    def since_ns(self) -> int | None: ...

    @property
    def until_ns(self) -> int | None: ...

    @property
    def limit(self) -> int | None: ...

    def tables(self) -> Iterator[Table]: ...

    def sha256(self) -> str: ...


@dataclass(frozen=True, slots=True)
class DataFile:
    """CSV, JSON lines (both also .gz) or Parquet, by its ending."""

    path: Path
    series: str
    since_ns: int | None = None
    until_ns: int | None = None
    limit: int | None = None

    @property
    def name(self) -> str:
        return str(self.path)

    def tables(self) -> Iterator[Table]:
        return file_tables(self.path)

    def sha256(self) -> str:
        with self.path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()


@dataclass(frozen=True, slots=True)
class DataTable:
    """Columns in memory, as tables.columns_of gives them."""

    columns: Mapping[str, Any]
    series: str = "series"
    name: str = "table"
    since_ns: int | None = None
    until_ns: int | None = None
    limit: int | None = None

    def tables(self) -> Iterator[Table]:
        return column_tables(self.columns)

    def sha256(self) -> str:
        """Of names and cells in order; other than that of a file with the same ticks."""
        digest = hashlib.sha256()
        for name, cells in self.columns.items():
            array = isinstance(cells, np.ndarray) and cells.dtype != object
            digest.update(repr(name).encode())
            digest.update(cells.tobytes() if array else repr(list(cells)).encode())
        return digest.hexdigest()


def parse_data_argument(text: str) -> DataFile:
    """`FILE` or `SERIES=FILE`; the series defaults to the file's name without its endings. A file
    called - stands for standard input."""
    if text == "-":
        return DataFile(Path(text), "stdin")
    name, equals, rest = text.partition("=")
    if equals and not Path(text).exists():
        return DataFile(Path(rest), name)
    return DataFile(Path(text), Path(text).name.split(".")[0])
