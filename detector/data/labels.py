"""Labelled stretches of time in files: JSON or CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detector.core.moments import parse_moment
from detector.errors import DataError

#: The class of windows without a label: no label may have its name.
NORMAL = "normal"
#: The year 2200: with tolerances and lengths of windows it still fits 64 bits.
_FARTHEST_NS = 7_258_118_400 * 10**9


@dataclass(frozen=True, slots=True)
class LabelledStretch:
    """Time of a series with a kind of fault: start_ns <= event time <= end_ns."""

    series: str
    start_ns: int
    end_ns: int
    kind: str


def read_labels(path: Path) -> list[LabelledStretch]:
    """JSON as `detector simulate --faults-out` writes it (series, kind, start_ns, end_ns), or CSV
    with the columns series, kind, start, end (ISO 8601). Raises DataError."""
    try:
        return parse_labels(path, path.read_bytes())
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None


def parse_labels(path: Path, content: bytes) -> list[LabelledStretch]:
    """As read_labels, of a file that was read already."""
    try:
        text = content.decode("utf-8-sig")
        labels = list(_from_json(path, text) if path.suffix == ".json" else _from_csv(path, text))
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no text") from None
    except csv.Error as error:
        raise DataError(f"{path}: is no CSV ({error})") from None
    if not labels:
        raise DataError(f"{path}: holds no label")
    return labels


def _from_json(path: Path, text: str) -> Iterator[LabelledStretch]:
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no JSON ({error})") from None
    if not isinstance(rows, list):
        raise DataError(f"{path}: must be a list of labels, one object each")
    for number, row in enumerate(rows, 1):
        if not isinstance(row, dict):
            raise DataError(f"{path}: label {number} is no object")
        yield _label(f"{path}: label {number}", row, ("start_ns", "end_ns"), _whole_number)


def _from_csv(path: Path, text: str) -> Iterator[LabelledStretch]:
    reader = csv.DictReader(io.StringIO(text, newline=""))
    missing = [c for c in ("series", "kind", "start", "end") if c not in (reader.fieldnames or ())]
    if missing:
        raise DataError(
            f"{path}: has no column {', '.join(missing)}; a file of labels is CSV with series, "
            "kind, start, end or JSON (.json)"
        )
    for row in reader:
        place = f"{path}: line {reader.line_num}"
        yield _label(place, row, ("start", "end"), lambda value: parse_moment(value, "iso8601"))


def _label(
    place: str, row: Mapping[str, Any], times: tuple[str, str], read: Callable[[Any], int]
) -> LabelledStretch:
    for name in ("series", "kind"):
        if not isinstance(row.get(name), str) or not row[name]:
            raise DataError(f"{place}: {name} must be a text, is {row.get(name)!r:.60}")
    if row["kind"].strip() in ("", NORMAL):
        raise DataError(f"{place}: kind {row['kind']!r}: labels name kinds of faults")
    found = []
    for name in times:
        try:
            found.append(read(row[name]))
            if abs(found[-1]) > _FARTHEST_NS:
                raise OverflowError
        except (KeyError, TypeError, ValueError, OverflowError):
            what = "nanoseconds since 1970" if name.endswith("_ns") else "a time in ISO 8601"
            raise DataError(f"{place}: {name} must be {what}, is {row.get(name)!r:.60}") from None
    start_ns, end_ns = found
    if end_ns < start_ns:
        raise DataError(f"{place}: ends before it begins")
    return LabelledStretch(row["series"], start_ns, end_ns, row["kind"].strip())


def _whole_number(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError
    return value
