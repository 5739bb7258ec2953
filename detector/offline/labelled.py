"""The windows of data files that labelled stretches of time say something of. Knows nothing of
classifiers."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.config import Config
from detector.core.ticks import Float32, Int64
from detector.data.labels import NORMAL, LabelledStretch
from detector.data.sources import Source
from detector.errors import DataError
from detector.model.directory import Artifact
from detector.offline.recordings import Run, read_runs

#: Windows of one class that are kept: more would fill the memory, and overlap ever more.
_MOST_NORMAL, _MOST_OF_A_KIND = 5_000, 20_000
#: Instead of the index of a stretch.
_NONE, _TRAILING = -1, -2
#: A time in seconds as a float is off by up to 0.12 us (in the year 2026).
_TOLERANCE_NS = 1000


@dataclass(frozen=True, slots=True)
class LabelledWindows:
    """n windows. windows: (n, length, features); kind: index into classes (normal first);
    stretch: index of the label, -1 of none; first_ns, last_ns: of the first and last tick;
    series: a number for each name; unmatched: indices of the labels no full window belongs to."""

    windows: Float32
    kind: Int64
    stretch: Int64
    first_ns: Int64
    last_ns: Int64
    series: Int64
    classes: tuple[str, ...]
    unmatched: tuple[int, ...]


def label_windows(
    artifact: Artifact,
    config: Config,
    files: Sequence[Source],
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
    matched: set[int] = set()
    length, back = artifact.length, min(recent, artifact.length - 1)
    for file in files:
        for run in read_runs(artifact, config, file, read):
            known.add(run.series)
            if len(run.rows) >= length:
                times = run.time_ns
                first, newest = times[: len(times) - length + 1], times[length - 1 :]
                late = times[length - 1 - back : len(times) - back]
                parts.append(run)
                of, seen = stretch_of(first, late, newest, by_series.get(run.series, {}))
                stretches.append(of)
                matched |= seen
    missing = sorted({one.series for one in labels} - known)
    if missing:
        raise DataError(
            f"the labels name series that the data does not have: {', '.join(missing[:5])}; the "
            f"data has {', '.join(sorted(known)[:5]) or 'none'}"
        )
    if not parts:
        raise DataError(f"the data holds no full window of {length} ticks to learn from")
    stretch = np.concatenate(stretches)
    kinds = np.array([classes.index(one.kind) for one in labels])
    # Class of every window, -1 of those that only trail a fault: kinds[-2] would be another's.
    kind = np.where(stretch >= 0, kinds[np.maximum(stretch, 0)], np.where(stretch == _NONE, 0, -1))
    random = np.random.default_rng(seed)
    picked = [_some(np.flatnonzero(kind == 0), _MOST_NORMAL, random)]
    for number in range(1, len(classes)):
        rows = np.flatnonzero(kind == number)
        own = np.unique(stretch[rows])
        # Each stretch its share: a long one leaves the others theirs.
        share = max(1, _MOST_OF_A_KIND // max(1, len(own)))
        picked += [_some(rows[stretch[rows] == each], share, random) for each in own]
    chosen = np.concatenate(picked)
    windows, first_ns, last_ns, series = _cut(parts, chosen, length)
    unmatched = sorted(set(range(len(labels))) - matched)
    found = LabelledWindows(
        windows,
        kind[chosen],
        stretch[chosen],
        first_ns,
        last_ns,
        series,
        classes,
        tuple(unmatched),
    )
    _require_enough(found, kinds, length)
    return found


def _some(rows: Int64, most: int, random: np.random.Generator) -> Int64:
    return rows if len(rows) <= most else np.sort(random.choice(rows, most, replace=False))


def _require_enough(found: LabelledWindows, kinds: Int64, length: int) -> None:
    for number, one in enumerate(found.classes):
        stretches = len(np.unique(found.stretch[found.kind == number]))
        if number and stretches < 2:
            given = int((kinds == number).sum())
            raise DataError(
                f"{stretches} of {given} labels of kind {one} have full windows of their own, two "
                "are needed: one to learn from, one to measure with; do the times (UTC) of labels "
                f"and data belong together, does a later label cover them? Windows have {length} "
                "ticks"
            )
    if not (found.kind == 0).any():
        raise DataError("no full window is free of labels: there is no normal one to learn from")


def _cut(runs: Sequence[Run], chosen: Int64, length: int) -> tuple[Float32, Int64, Int64, Int64]:
    """The chosen of all windows of the runs, the times of their first and last tick, and a number
    for the series of each."""
    names = sorted({run.series for run in runs})
    counts = [len(run.rows) - length + 1 for run in runs]
    offset = np.concatenate([[0], np.cumsum(counts)])
    windows = np.empty((len(chosen), length, runs[0].rows.shape[1]), np.float32)
    first_ns, last_ns, series = (np.empty(len(chosen), np.int64) for _ in range(3))
    for run, begin, end in zip(runs, offset[:-1], offset[1:], strict=True):
        here = np.flatnonzero((chosen >= begin) & (chosen < end))
        start = chosen[here] - begin
        windows[here] = run.rows[start[:, None] + np.arange(length)]
        first_ns[here], last_ns[here] = run.time_ns[start], run.time_ns[start + length - 1]
        series[here] = names.index(run.series)
    return windows, first_ns, last_ns, series


def stretch_of(
    first_ns: Int64, recent_ns: Int64, last_ns: Int64, labels: Mapping[int, LabelledStretch]
) -> tuple[Int64, set[int]]:
    """Index of the label that a tick from recent_ns to last_ns lies in, -1 where the window from
    first_ns on touches none, -2 where it only trails one. Of two the later listed counts; the set
    holds both. All three times are those of one series, in order."""
    stretch = np.full(len(first_ns), _NONE, np.int64)
    indices = list(labels)
    start_ns = np.array([labels[i].start_ns for i in indices], np.int64) - _TOLERANCE_NS
    end_ns = np.array([labels[i].end_ns for i in indices], np.int64) + _TOLERANCE_NS
    begin = np.searchsorted(last_ns, start_ns, side="left")
    touched = np.searchsorted(first_ns, end_ns, side="right")
    recent = np.searchsorted(recent_ns, end_ns, side="right")
    for i in np.flatnonzero(touched > begin).tolist():
        stretch[begin[i] : touched[i]] = _TRAILING
    matched = np.flatnonzero(recent > begin).tolist()
    for i in matched:
        stretch[begin[i] : recent[i]] = indices[i]
    return stretch, {indices[i] for i in matched}
