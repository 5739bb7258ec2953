"""A folder of labelled series with a table of them: each trains a model of its own on its normal
beginning.

Columns: file (relative to the manifest), dataset, ticks, features, prefix, vus_width, anomalous
(ticks); every further column is a method, its cells the VUS-PR published for the series.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from detector.errors import DataError

_WHOLE_NUMBERS = ("ticks", "prefix", "vus_width", "anomalous")
_KNOWN = ("file", "dataset", "features", *_WHOLE_NUMBERS)
_NEEDED = ("file", "prefix", "vus_width")


@dataclass(frozen=True, slots=True)
class Row:
    """A series. ticks, anomalous: what the file should hold, None where the manifest does not
    say; wrong: why the row cannot be used, empty where it can."""

    name: str
    path: Path
    dataset: str
    prefix: int
    vus_width: int
    ticks: int | None
    anomalous: int | None
    published: dict[str, float]
    wrong: str = ""


def read_manifest(path: Path) -> list[Row]:
    """Every row in order, those with errors too. Raises DataError where the table itself cannot be
    read, or holds no row."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            names = reader.fieldnames or ()
            missing = [name for name in _NEEDED if name not in names]
            if missing:
                raise DataError(
                    f"{path}: has no column {', '.join(missing)}; a manifest is CSV with "
                    f"{', '.join(_KNOWN)}, and a column of published VUS-PR for each method"
                )
            rows = [_row(path, cells) for cells in reader]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: is no CSV ({error})") from None
    if not rows:
        raise DataError(f"{path}: names no series")
    return rows


def _row(manifest: Path, cells: dict[str, str]) -> Row:
    name = cells["file"] or ""
    path = manifest.parent / name
    wrong: list[str] = []
    numbers: dict[str, int | None] = {}
    for column in _WHOLE_NUMBERS:
        text = (cells.get(column) or "").strip()
        numbers[column] = int(text) if text.isascii() and text.isdigit() else None
        if numbers[column] is None and (text or column in _NEEDED):
            wrong.append(f"{column} of the manifest is no whole number: {text!r}")
    if not name:
        wrong.append("the manifest names no file")
    elif not path.is_file():
        wrong.append(f"the manifest names a file that is not there: {path}")
    published = {}
    for column, cell in cells.items():
        if column is None or column in _KNOWN or not isinstance(cell, str) or not cell.strip():
            continue
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
        if math.isfinite(value):
            published[column] = value
        else:
            wrong.append(f"{column} of the manifest is no number: {cell!r}")
    return Row(
        name=name,
        path=path,
        dataset=(cells.get("dataset") or "").strip(),
        prefix=numbers["prefix"] or 0,
        vus_width=numbers["vus_width"] or 0,
        ticks=numbers["ticks"],
        anomalous=numbers["anomalous"],
        published=published,
        wrong="; ".join(wrong),
    )
