"""Labelled files through the production pipeline, beside what must be beaten."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from detector.build import alert_policy, budget_of, columns, deployed_threshold
from detector.config import Config
from detector.core.features import FeatureSet
from detector.core.ticks import Float32, Float64
from detector.data.sources import DataFile, Source
from detector.errors import DataError
from detector.evaluate.baselines import BASELINES
from detector.evaluate.baselines.contract import Fitted
from detector.evaluate.budgets import at_budgets, thresholds
from detector.evaluate.drift import Drift
from detector.evaluate.drifting import WITHIN, after_drifts, place_of_drift, read_series
from detector.evaluate.judging import Truth, at_threshold, rank, sketch
from detector.evaluate.labelled import REFUSED, LabelledScores, score_labelled
from detector.evaluate.recording import Recording, has_labels, read_recordings, require_labels
from detector.evaluate.results import WHOLE, AfterDrift, Judged, Scorer, SeriesResult, Side, Skipped
from detector.evaluate.windows_file import LabelledByTime, Windows, windows_of_file
from detector.model.directory import Artifact

Outcome = Judged | Skipped
#: Ticks a baseline learns from: it remembers a few thousand windows of them.
_MOST_NORMAL = 200_000


@dataclass(frozen=True, slots=True)
class Beside:
    """Baselines that have learned, and why others have not."""

    fitted: Mapping[str, Fitted]
    left_out: Mapping[str, str]


def evaluate_files(
    config: Config,
    artifact: Artifact,
    files: Sequence[DataFile],
    *,
    train: Sequence[Source],
    prefix: int,
    windows: Mapping[str, Windows] | None,
    done: Callable[[str], None],
    drifts: Sequence[Drift] = (),
) -> list[Outcome]:
    """A trained model over labelled files. train: normal ticks for the baselines; prefix: so many
    ticks at the beginning of every series are normal, the baselines of its file learn from them
    (where train is empty) and nothing at the threshold counts in them; windows: labels, instead
    of those in the files; done: called with the name of each file; drifts: to be injected; where
    there are any, a file may have no labels, and every tick of it is normal. Never raises for one
    file."""
    beside = fit_baselines(normal_rows(config, artifact.features, train)) if train else None
    found: list[tuple[DataFile, Outcome]] = []
    for file in files:
        try:
            own = windows
            if drifts and windows is None and not has_labels(config, file):
                own = {file.path.name: ()}
            source = labelled_source(config, file, own)
            series = evaluate_source(config, artifact, source, beside, prefix=prefix, drifts=drifts)
            found += [(file, one) for one in series]
        except DataError as error:
            found.append((file, skipped(file.name, error)))
        done(file.name)
    return _told_apart(found)


def _told_apart(found: Sequence[tuple[DataFile, Outcome]]) -> list[Outcome]:
    """A series whose name is in several files, with the file: each file is a beginning of its
    own."""
    count = Counter(_name(one) for _, one in found)
    return [
        _named(one, f"{file.name}: {_name(one)}") if count[_name(one)] > 1 else one
        for file, one in found
    ]


def _name(one: Outcome) -> str:
    return one.name if isinstance(one, Skipped) else one.result.name


def _named(one: Outcome, name: str) -> Outcome:
    if isinstance(one, Skipped):
        return replace(one, name=name)
    return replace(one, result=replace(one.result, name=name))


def skipped(name: str, error: Exception) -> Skipped:
    return Skipped(name, str(error).removeprefix(f"{name}: "))


def labelled_source(
    config: Config, file: DataFile, windows: Mapping[str, Windows] | None
) -> Source:
    """Raises DataError where a tick has no label."""
    source: Source = file
    if windows is not None:
        own = windows_of_file(windows, Path(file.path))
        source = LabelledByTime(file, columns(config), own)
    require_labels(config, source)
    return source


def normal_rows(config: Config, features: FeatureSet, files: Sequence[Source]) -> Float32:
    """The usable ticks of files, one after the other, the last ones where they are more than
    baselines need: (n, features)."""
    parts: list[Float32] = []
    for file in files:
        for recording in read_recordings(config, features, file).values():
            parts += [rows for _, rows in recording.runs]
        while parts and sum(map(len, parts[1:])) >= _MOST_NORMAL:
            del parts[0]
    return _joined(parts, features)


def _joined(parts: Sequence[Float32], features: FeatureSet) -> Float32:
    if not parts:
        return np.empty((0, len(features.names)), np.float32)
    return np.concatenate(parts)[-_MOST_NORMAL:]


def fit_baselines(rows: Float32) -> Beside:
    """All that can learn from the rows."""
    fitted: dict[str, Fitted] = {}
    left_out: dict[str, str] = {}
    for name, fit in BASELINES.items():
        try:
            fitted[name] = fit(rows)
        except DataError as error:
            left_out[name] = str(error)
    return Beside(fitted, left_out)


def evaluate_source(
    config: Config,
    artifact: Artifact,
    file: Source,
    beside: Beside | None,
    *,
    prefix: int,
    width: int | None = None,
    drifts: Sequence[Drift] = (),
) -> list[Outcome]:
    """Each series of a file whose ticks all have labels. beside: None: baselines learn from the
    prefixes of the file's series, if there are any; width: the widest soft edge of VUS-PR, default
    the length of the window; drifts: to be injected into every series."""
    started_s = time.perf_counter()
    scored, opened = score_labelled(config, artifact, file)
    recordings = read_recordings(config, artifact.features, file)
    raw = read_series(config, artifact, file) if drifts else {}
    if beside is None:
        first = [rows[place < prefix] for one in recordings.values() for place, rows in one.runs]
        beside = fit_baselines(_joined(first, artifact.features)) if prefix else Beside({}, {})
    deployed = deployed_threshold(config, artifact.calibration, artifact.length)
    threshold, fallen = deployed.threshold, deployed.words(artifact.calibration)
    cold_windows = config.threshold.cold_windows if artifact.score == "evidence" else 0
    policy = alert_policy(config, artifact, threshold)
    asked = thresholds(config, artifact.calibration)
    views = artifact.calibrated().views if artifact.score == "evidence" else ()
    width = artifact.length if width is None else width
    found: list[Outcome] = []
    for series, one in scored.items():
        score, labels = one.score, one.labels
        reason = _reason_to_skip(recordings[series], artifact.length, bool(labels.all()))
        reason = reason or ("" if np.isfinite(score).any() else "no window has a score")
        if reason:
            found.append(Skipped(series, reason))
            continue
        # A late tick counts at the time when it was seen.
        times = np.maximum.accumulate(one.time_ns)
        truth = Truth(series, times, labels, min(prefix, len(labels)), artifact.length)
        scorers = [Scorer(WHOLE, "detector", score)]
        scorers += [
            Scorer(name, "view", score) for name, score in zip(views, one.views.T, strict=True)
        ]
        scorers += [
            Scorer(name, "baseline", recordings[series].scored(one.score))
            for name, one in beside.fitted.items()
        ]
        own = [alert for alert in opened if alert.series == series]
        unused = one.unused()
        notes = [note for note in (fallen, unused) if note]
        if not labels.any():
            notes.append("no tick is labelled: nothing to rank")
        if truth.prefix == len(labels):
            notes.append("the prefix is the whole series: nothing counts at the threshold")
        if labels[: truth.prefix].any():
            count = int(labels[: truth.prefix].sum())
            notes.append(f"{count} ticks of the prefix are labelled as anomalous")
        after: list[AfterDrift] = []
        if drifts:
            begin = place_of_drift(truth, score)
            if begin is None:
                notes.append(f"no drift injected: fewer than {WITHIN} normal windows would follow")
            else:
                own_ticks = raw[series]
                after = after_drifts(config, artifact, own_ticks, truth, drifts, begin=begin)
        result = SeriesResult(
            name=series,
            dataset=None,
            ticks=len(labels),
            features=len(artifact.features.names),
            prefix=truth.prefix,
            labelled=int(labels.sum()),
            unused=int(np.isin(one.outcome, REFUSED).sum()),
            vus_width=width,
            rankings=[rank(truth, one, width=width) for one in scorers],
            at_threshold=at_threshold(truth, score, threshold, own),
            budget=budget_of(config, artifact),
            asked=deployed.asked,
            left_out=dict(beside.left_out),
            notes=notes,
            budgets=at_budgets(
                truth, _sides(artifact, one), asked, policy, cold_windows=cold_windows
            ),
            drifts=after,
            seconds=round(time.perf_counter() - started_s, 2),
        )
        found.append(Judged(result, sketch(truth, scorers, threshold, own)))
    return found


def _sides(artifact: Artifact, found: LabelledScores) -> dict[Side, Float64]:
    """A score that follows no tail is the same with and without one."""
    if artifact.score != "evidence":
        return {"static": found.static}
    return {"static": found.static, "adaptive": found.adaptive}


def _reason_to_skip(recording: Recording, length: int, all_labelled: bool) -> str:
    if all_labelled:
        return "every tick is labelled as anomalous: there is nothing normal to tell them from"
    longest = max((len(place) for place, _ in recording.runs), default=0)
    if longest < length:
        return f"no full window: {longest} ticks in a row can be used, a window has {length}"
    first = recording.runs[0][1][0]
    if all((rows == first).all() for _, rows in recording.runs):
        return "constant: no feature ever changes"
    return ""
