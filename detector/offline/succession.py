"""A new model beside the old one it may follow: both over the same recent ticks, by the rules of
the configuration.

Each runs over everything recorded, as if it had been deployed at the first tick, so that levels
and tails are warm; judged is the last part of every series, which trained neither the new network
nor, as far as one can know, the old one. Mean errors are not compared: each model has a scale of
its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from detector.build import columns, deployed_threshold, make_pipeline
from detector.config import Config
from detector.core.alerts import ANOMALIES, State
from detector.core.incidents import NONE
from detector.core.ticks import Bool, Float64, Int64
from detector.data.chunks import read_chunks, to_batch
from detector.data.recorded import Recording
from detector.errors import ArtifactError, ConfigError, DataError
from detector.model.directory import Artifact

_DAY_NS = 86_400 * 10**9


@dataclass(frozen=True, slots=True)
class Showing:
    """What a model says of the judged part. windows: scored, without a tick of an incident; share:
    of them above the threshold; alerts: opened outside of incidents; incidents: those in which it
    opens one. None: there was no such window, or no time passed."""

    model_version: str
    threshold: float
    windows: int
    above: int
    share: float | None
    alerts: int
    alerts_per_day_and_series: float | None
    mean_score: float | None
    median_score: float | None
    highest_score: float | None
    incidents: int


@dataclass(frozen=True, slots=True)
class Succession:
    """new, old: what each shows; old None: refused says why it cannot be run. budget: the share of
    normal windows that may be above the threshold, None where it is fixed; ticks, series, days (of
    all series together), incidents: of the judged part."""

    new: Showing
    old: Showing | None
    refused: str | None
    budget: float | None
    ticks: int
    series: int
    days: float
    incidents: int


@dataclass(frozen=True, slots=True)
class _Part:
    """Of a recording of n ticks. last: (n,) it lies in the last part of its series; quiet: (n,) and
    no incident in the window it closes; incident: (n,) -1: in none."""

    last: Bool
    quiet: Bool
    incident: Int64


def compare_models(
    config: Config,
    old: Artifact,
    new: Artifact,
    recordings: Sequence[Recording],
    struck: Sequence[Int64],
) -> Succession:
    """struck: by recording, (n,) the incident each tick lies in, -1: in none. Raises ArtifactError
    where the new model cannot be run."""
    length = max(old.length, new.length)
    fraction = config.training.calibration_fraction
    parts = [
        _part(recording, incident, length=length, fraction=fraction)
        for recording, incident in zip(recordings, struck, strict=True)
    ]
    spans_ns = [_spans_ns(r, p.last) for r, p in zip(recordings, parts, strict=True)]
    days = float(sum(spans.sum() for spans in spans_ns)) / _DAY_NS
    shown, refused = None, None
    try:
        shown = _showing(config, old, recordings, parts, days)
    except (ArtifactError, ConfigError, DataError) as error:
        refused = str(error)
    touched = [np.unique(p.incident[p.last & (p.incident != NONE)]) for p in parts]
    return Succession(
        new=_showing(config, new, recordings, parts, days),
        old=shown,
        refused=refused,
        budget=deployed_threshold(config, new.calibration, new.length).rate,
        ticks=sum(int(p.last.sum()) for p in parts),
        series=sum(map(len, spans_ns)),
        days=days,
        incidents=len({one for found in touched for one in found.tolist()}),
    )


def _part(recording: Recording, incident: Int64, *, length: int, fraction: float) -> _Part:
    last = np.zeros(len(recording), np.bool_)
    quiet = np.zeros(len(recording), np.bool_)
    free = incident == NONE
    for rows in _rows_of_series(recording):
        usual = np.flatnonzero(free[rows])
        if not len(usual):
            continue
        border = min(round(len(usual) * (1 - fraction)), len(usual) - 1)
        begin = int(usual[border])
        last[rows[begin:]] = True
        # Ticks of incidents up to and with each; a window holds those of its last length ticks.
        struck = np.concatenate([np.zeros(length, np.int64), np.cumsum(~free[rows])])
        quiet[rows[begin:]] = (struck[length:] == struck[:-length])[begin:]
    return _Part(last, quiet, incident)


def _rows_of_series(recording: Recording) -> list[Int64]:
    """Of each series the rows, in order."""
    order = np.argsort(recording.number, kind="stable")
    borders = np.searchsorted(recording.number[order], np.arange(1, len(recording.names)))
    return np.split(order, borders)


def _spans_ns(recording: Recording, last: Bool) -> Int64:
    """How long the last part of each series lasts."""
    spans = []
    for rows in _rows_of_series(recording):
        own = recording.time_ns[rows[last[rows]]]
        if len(own):
            spans.append(int(own.max() - own.min()))
    return np.array(spans, np.int64)


def _showing(
    config: Config,
    artifact: Artifact,
    recordings: Sequence[Recording],
    parts: Sequence[_Part],
    days: float,
) -> Showing:
    pipeline = make_pipeline(config, artifact)
    threshold = pipeline.primary.policy.threshold
    scores: list[Float64] = []
    alerts, found = 0, set[int]()
    for number, (recording, part) in enumerate(zip(recordings, parts, strict=True)):
        for chunk in read_chunks(recording, columns(config), artifact.features.fields):
            batch = to_batch(chunk)
            batch = replace(batch, partition=np.full(len(batch), number, np.int32))
            result = pipeline.process(batch)
            counted = part.quiet[chunk.row] & ~np.isnan(result.score)
            scores.append(result.score[counted])
            for alert in result.alerts:
                if alert.kind not in ANOMALIES or alert.state is not State.OPENED:
                    continue
                incident = int(part.incident[alert.offset])
                if part.last[alert.offset]:
                    alerts += incident == NONE
                    found |= {incident} - {NONE}
    score = np.concatenate(scores) if scores else np.empty(0)
    any_scored, above = len(score) > 0, int((score > threshold).sum())
    return Showing(
        model_version=artifact.version,
        threshold=threshold,
        windows=len(score),
        above=above,
        share=above / len(score) if any_scored else None,
        alerts=alerts,
        alerts_per_day_and_series=alerts / days if days else None,
        mean_score=float(score.mean()) if any_scored else None,
        median_score=float(np.median(score)) if any_scored else None,
        highest_score=float(score.max()) if any_scored else None,
        incidents=len(found),
    )
