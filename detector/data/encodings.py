"""Vectors of windows or sequences in files: Parquet, CSV or npz, written and read.

A table has a row for each vector: series, timestamp (of its last tick), ticks, label (of its
last tick, where the data has labels; the highest of a sequence), for windows score and anomalous,
and e0 ... e<units - 1>.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.core.moments import parse_moment, rfc3339
from detector.core.ticks import Float32, Float64, Int64
from detector.errors import DataError, UsageError

FORMS = (".parquet", ".csv", ".npz")
_ROWS = 4096  # written at a time


@dataclass(frozen=True, slots=True)
class Encodings:
    """n vectors and what each stands for. label: NaN where the data says nothing of it; score,
    anomalous: of windows, not of sequences."""

    vectors: Float32
    series: tuple[str, ...]
    time_ns: Int64
    ticks: Int64
    label: Float64 | None
    score: Float64 | None
    anomalous: np.ndarray[Any, np.dtype[np.bool_]] | None

    def columns(self) -> dict[str, Any]:
        """As a table, without the vectors."""
        found: dict[str, Any] = {
            "series": list(self.series),
            "timestamp": [rfc3339(t) for t in self.time_ns.tolist()],
            "ticks": self.ticks,
        }
        for name in ("label", "score", "anomalous"):
            values = getattr(self, name)
            if values is not None:
                found[name] = values
        return found


def require_form(out: Path) -> None:
    """Refuse a file that could not be written; asked before the work too."""
    if out.suffix not in FORMS:
        raise UsageError(f"{out}: must end in {', '.join(FORMS[:-1])} or {FORMS[-1]}")
    if out.suffix == ".parquet":
        _pyarrow()
    if not out.parent.is_dir():
        raise UsageError(f"{out}: {out.parent} is no directory")


def write_encodings(found: Encodings, out: Path) -> None:
    """Parquet, CSV or npz, by the ending of the name."""
    require_form(out)
    write = {".parquet": _write_parquet, ".csv": _write_csv, ".npz": _write_npz}[out.suffix]
    draft = out.with_name(f".{out.name}.draft")
    try:
        write(found, draft)
        draft.replace(out)
    except OSError as error:
        raise UsageError(f"{out}: {error.strerror}") from None
    finally:
        draft.unlink(missing_ok=True)


def _write_npz(found: Encodings, path: Path) -> None:
    columns = found.columns() | {"series": np.array(found.series, np.str_)}
    columns["timestamp"] = found.time_ns
    with path.open("wb") as file:  # of a name NumPy would add an ending to
        np.savez_compressed(file, allow_pickle=False, encoding=found.vectors, **columns)


def _write_csv(found: Encodings, path: Path) -> None:
    columns = found.columns()
    shown = [
        ["" if v != v else repr(v) for v in values.tolist()]
        if getattr(values, "dtype", None) == np.float64
        else [int(v) for v in values.tolist()]
        if hasattr(values, "dtype")
        else values
        for values in columns.values()
    ]
    rows = list(zip(*shown, strict=True))
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*columns, *(f"e{i}" for i in range(found.vectors.shape[1]))])
        for start in range(0, len(rows), _ROWS):  # text takes ten times the room of its number
            part = slice(start, start + _ROWS)
            vectors = found.vectors[part].astype(str).tolist()
            writer.writerows([*row, *v] for row, v in zip(rows[part], vectors, strict=True))


def _write_parquet(found: Encodings, path: Path) -> None:
    pyarrow, parquet = _pyarrow()
    columns = found.columns() | {
        "timestamp": pyarrow.array(found.time_ns, pyarrow.timestamp("ns", "UTC"))
    }
    columns |= {f"e{i}": column for i, column in enumerate(found.vectors.T)}
    parquet.write_table(pyarrow.table(columns), path)


def read_encodings(path: Path) -> Encodings:
    """What write_encodings wrote. Raises DataError if it is something else."""
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as stored:
                table = {name: stored[name] for name in stored.files}
            vectors, time_ns = table.pop("encoding"), table["timestamp"]
        elif path.suffix == ".parquet":
            _, parquet = _pyarrow()
            stored = parquet.read_table(path)
            time_ns = stored.column("timestamp").cast("int64").to_numpy()
            # Not the time: Python's own has no nanoseconds.
            names = [n for n in stored.column_names if n != "timestamp"]
            table = {n: np.array(stored.column(n).to_pylist()) for n in names}
            vectors = _pop_vectors(table)
        elif path.suffix == ".csv":
            with path.open(newline="", encoding="utf-8") as file:
                names, *rows = list(csv.reader(file))
            table = {n: np.array(c) for n, c in zip(names, zip(*rows, strict=True), strict=True)}
            vectors = _pop_vectors(table)
            time_ns = np.array([parse_moment(t, "iso8601") for t in table["timestamp"].tolist()])
        else:
            raise DataError(f"{path}: is none of {', '.join(FORMS)}")
        return Encodings(
            vectors=np.asarray(vectors, np.float32),
            series=tuple(str(s) for s in table["series"].tolist()),
            time_ns=np.asarray(time_ns, np.int64),
            ticks=table["ticks"].astype(np.int64),
            label=_numbers(table.get("label")),
            score=_numbers(table.get("score")),
            anomalous=None
            if "anomalous" not in table
            else table["anomalous"].astype(np.int64 if path.suffix == ".csv" else np.bool_) > 0,
        )
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
    except (KeyError, ValueError) as error:
        raise DataError(f"{path}: was not written by detector encode ({error})") from None


def _pop_vectors(table: dict[str, Any]) -> Any:
    names = [f"e{i}" for i in range(len(table)) if f"e{i}" in table]
    if not names:
        raise KeyError("e0")
    return np.stack([table.pop(name).astype(np.float32) for name in names], axis=1)


def _numbers(column: Any) -> Float64 | None:
    if column is None:
        return None
    if column.dtype.kind in "US":
        column = np.where(column == "", "nan", column)
    return np.asarray(column, np.float64)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow  # an extra: only where such a file is read or written
        import pyarrow.parquet as parquet
    except ImportError:
        raise DataError("Parquet needs pyarrow: pip install 'detector[parquet]'") from None
    return pyarrow, parquet
