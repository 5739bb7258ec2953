"""Windows of time as labels: a file as NAB keeps them, `{"folder/file.csv": [[start, end], ...]}`,
both ends inside."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

import numpy as np

from detector.core.moments import parse_moment
from detector.data.cells import NoMomentError, moments
from detector.data.chunks import Columns
from detector.data.sources import Source
from detector.data.tables import Table
from detector.errors import DataError

Windows = Sequence[tuple[int, int]]


def read_windows(path: Path) -> dict[str, Windows]:
    """Windows of each file, in ns. Raises DataError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        windows: dict[str, Windows] = {
            str(file): [
                (parse_moment(start, "iso8601"), parse_moment(end, "iso8601")) for start, end in own
            ]
            for file, own in found.items()
        }
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (AttributeError, RecursionError, TypeError, ValueError):
        raise DataError(
            f'{path}: must be JSON like {{"folder/file.csv": [["2014-04-10 07:15:00", '
            '"2014-04-11 16:45:00"]]}'
        ) from None
    for file, read in windows.items():
        if any(end_ns < start_ns for start_ns, end_ns in read):
            raise DataError(f"{path}: a window of {file} ends before it begins")
    return windows


def windows_of_file(windows: Mapping[str, Windows], path: Path) -> Windows:
    """Those of the name that the path ends with. Raises DataError where there is none."""
    own = path.parts
    for name, found in windows.items():
        parts = PurePath(name).parts
        if own[-len(parts) :] == parts:
            return found
    raise DataError(f"{path}: the file of windows does not name it")


@dataclass(frozen=True, slots=True)
class LabelledByTime:
    """A source whose label column says which ticks are in a window of time."""

    source: Source
    columns: Columns
    windows: Windows

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def series(self) -> str:
        return self.source.series

    @property
    def since_ns(self) -> int | None:
        return self.source.since_ns

    @property
    def until_ns(self) -> int | None:
        return self.source.until_ns

    @property
    def limit(self) -> int | None:
        return self.source.limit

    def sha256(self) -> str:
        return self.source.sha256()

    def tables(self) -> Iterator[Table]:
        """Raises DataError where a window holds no tick at all."""
        met = [False] * len(self.windows)
        form = self.columns.form
        for table in self.source.tables():
            cells = table.cells
            label = np.zeros(table.rows)
            if form.timestamp_field in cells:  # else whoever reads the table says so
                try:
                    times = moments(cells[form.timestamp_field], form.timestamp_unit)
                except NoMomentError:
                    times = np.zeros(0, np.int64)  # likewise
                for number, (start, end) in enumerate(self.windows):
                    inside = np.flatnonzero((times >= start) & (times <= end))
                    label[inside] = 1.0
                    met[number] = met[number] or len(inside) > 0
            yield Table({**cells, self.columns.label: label}, table.rows)
        if not all(met):
            raise DataError(
                f"{self.name}: {met.count(False)} of {len(met)} windows hold no tick: labels and "
                "ticks do not align"
            )
