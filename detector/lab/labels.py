"""Labelled stretches of time, and the windows of data files they say something of. Knows nothing
of classifiers."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.artifact import Artifact
from detector.config import Config
from detector.core.codec import parse_time
from detector.core.ticks import Float32, Int64
from detector.errors import DataError
from detector.lab.datasets import DataFile
from detector.lab.recordings import Run, read_runs

NORMAL = "normal"
_MOST_NORMAL = 5000
#: Instead of the index of a stretch.
_NONE, _TRAILING = -1, -2
#: A time in seconds as a float is off by up to 0.12 us (in the year 2026).
_TOLERANCE_NS = 1000


@dataclass(frozen=True, slots=True)
class LabelledStretch:
    """Time of a series with a kind of fault: start_ns <= event time <= end_ns."""

    series: str
    start_ns: int
    end_ns: int
    kind: str


@dataclass(frozen=True, slots=True)
class LabelledWindows:
    """n windows. windows: (n, length, features); kind: index into classes (normal first);
    stretch: index of the label, -1 of none; first_ns, last_ns: of the first and last tick."""

    windows: Float32
    kind: Int64
    stretch: Int64
    first_ns: Int64
    last_ns: Int64
    classes: tuple[str, ...]


def read_labels(path: Path) -> list[LabelledStretch]:
    """JSON as `detector simulate --faults-out` writes it (series, kind, start_ns, end_ns), or CSV
    with the columns series, kind, start, end (ISO 8601). Raises DataError."""
    try:
        if path.suffix == ".json":
            labels = [
                LabelledStretch(
                    str(r["series"]), int(r["start_ns"]), int(r["end_ns"]), str(r["kind"])
                )
                for r in json.loads(path.read_text())
            ]
        else:
            with path.open(newline="") as file:
                labels = [
                    LabelledStretch(
                        r["series"],
                        parse_time(r["start"], "iso8601"),
                        parse_time(r["end"], "iso8601"),
                        r["kind"],
                    )
                    for r in csv.DictReader(file)
                ]
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except (KeyError, TypeError, ValueError) as error:
        raise DataError(
            f"{path}: is no list of labels ({error!r}): JSON with series, kind, start_ns, end_ns, "
            "or CSV with series, kind, start, end"
        ) from None
    if not labels:
        raise DataError(f"{path}: holds no label")
    for one in labels:
        if one.kind in ("", NORMAL):
            raise DataError(f"{path}: a label of kind {one.kind!r}: labels name kinds of faults")
        if one.end_ns < one.start_ns:
            raise DataError(f"{path}: a label of {one.series} ends before it begins")
    return labels


def label_windows(
    artifact: Artifact,
    config: Config,
    files: Sequence[DataFile],
    labels: Sequence[LabelledStretch],
    *,
    recent: int,
    seed: int,
    read: Callable[[int], None],
) -> LabelledWindows:
    """The labelled windows of the files, and normal ones drawn from the seed. A fault may be so
    many recent ticks ago. Raises DataError where labels and data do not belong together."""
    classes = (NORMAL, *sorted({one.kind for one in labels}))
    by_series: dict[str, dict[int, LabelledStretch]] = {}
    for index, one in enumerate(labels):
        by_series.setdefault(one.series, {})[index] = one
    parts: list[Run] = []
    stretches: list[Int64] = []
    known: set[str] = set()
    length, back = artifact.length, min(recent, artifact.length - 1)
    for file in files:
        for run in read_runs(artifact, config, file, read):
            known.add(run.series)
            if len(run.rows) >= length:
                times = run.time_ns
                first, newest = times[: len(times) - length + 1], times[length - 1 :]
                late = times[length - 1 - back : len(times) - back]
                parts.append(run)
                stretches.append(stretch_of(first, late, newest, by_series.get(run.series, {})))
    missing = sorted({one.series for one in labels} - known)
    if missing:
        raise DataError(
            f"the labels name series that the data does not have: {', '.join(missing[:5])}; the "
            f"data has {', '.join(sorted(known)[:5])}"
        )
    if not parts:
        raise DataError(f"the data holds no full window of {length} ticks to learn from")
    stretch = np.concatenate(stretches)
    normal = np.flatnonzero(stretch == _NONE)
    if len(normal) > _MOST_NORMAL:
        random = np.random.default_rng(seed)
        normal = np.sort(random.choice(normal, _MOST_NORMAL, replace=False))
    chosen = np.concatenate([normal, np.flatnonzero(stretch >= 0)])
    kinds = np.array([classes.index(one.kind) for one in labels])
    kind = np.concatenate([np.zeros(len(normal), np.int64), kinds[stretch[chosen[len(normal) :]]]])
    whole = _cut(parts, chosen, length)
    found = LabelledWindows(whole[0], kind, stretch[chosen], whole[1], whole[2], classes)
    _require_enough(found, kinds, length)
    return found


def _require_enough(found: LabelledWindows, kinds: Int64, length: int) -> None:
    for number, one in enumerate(found.classes):
        stretches = len(np.unique(found.stretch[found.kind == number]))
        if number and stretches < 2:
            given = int((kinds == number).sum())
            raise DataError(
                f"{stretches} of {given} labels of kind {one} have full windows, two are needed: "
                "one to learn from, one to measure with; do the times (UTC) of labels and data "
                f"belong together? Windows have {length} ticks"
            )
    if not (found.kind == 0).any():
        raise DataError("no full window is free of labels: there is no normal one to learn from")


def _cut(runs: Sequence[Run], chosen: Int64, length: int) -> tuple[Float32, Int64, Int64]:
    """The chosen of all windows of the runs, and the times of their first and last tick."""
    counts = [len(run.rows) - length + 1 for run in runs]
    offset = np.concatenate([[0], np.cumsum(counts)])
    windows = np.empty((len(chosen), length, runs[0].rows.shape[1]), np.float32)
    first_ns, last_ns = np.empty(len(chosen), np.int64), np.empty(len(chosen), np.int64)
    for run, begin, end in zip(runs, offset[:-1], offset[1:], strict=True):
        here = np.flatnonzero((chosen >= begin) & (chosen < end))
        start = chosen[here] - begin
        windows[here] = run.rows[start[:, None] + np.arange(length)]
        first_ns[here], last_ns[here] = run.time_ns[start], run.time_ns[start + length - 1]
    return windows, first_ns, last_ns


def stretch_of(
    first_ns: Int64, recent_ns: Int64, last_ns: Int64, labels: dict[int, LabelledStretch]
) -> Int64:
    """Index of the label that a tick from recent_ns to last_ns lies in, -1 where the window from
    first_ns on touches none, -2 where it only trails one. Of two the later listed counts."""
    stretch = np.full(len(first_ns), _NONE, np.int64)
    for one in labels.values():
        begun = last_ns >= one.start_ns - _TOLERANCE_NS
        stretch[begun & (first_ns <= one.end_ns + _TOLERANCE_NS)] = _TRAILING
    for index, one in labels.items():
        begun = last_ns >= one.start_ns - _TOLERANCE_NS
        stretch[begun & (recent_ns <= one.end_ns + _TOLERANCE_NS)] = index
    return stretch
