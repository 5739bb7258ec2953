"""Data with labels through the very pipeline of the daemon, and how well it found what they say."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.build import columns, make_pipeline
from detector.config import Config
from detector.core.alerts import ANOMALIES, State
from detector.core.pipeline import BatchResult
from detector.core.ticks import Bool, Float64, Int64, Outcome
from detector.data.chunks import read_chunks, to_batch
from detector.data.sources import Source
from detector.evaluate.events import OpenedAlert, score_events
from detector.evaluate.measures import labelled_stretches, vus_pr
from detector.model.directory import Artifact

#: What may become of a tick that is of no use.
REFUSED = (Outcome.LATE, Outcome.DUPLICATE, Outcome.REJECTED)


@dataclass(frozen=True, slots=True)
class Event:
    """A labelled stretch of a series' ticks, up to the last tick whose window holds one of them:
    an alert in this time is right."""

    series: str
    start_ns: int
    end_ns: int


def measure(
    config: Config, artifact: Artifact, test: Sequence[Source]
) -> tuple[float | None, float | None]:
    """VUS-PR, mean over the series that have anomalies, and event F1 over all; None without
    labels."""
    areas: list[float] = []
    faults: list[Event] = []
    alerts: list[OpenedAlert] = []
    for number, file in enumerate(test):
        series, opened = score_labelled(config, artifact, file)
        alerts += [dataclasses.replace(a, series=f"{number}/{a.series}") for a in opened]
        for name, one in series.items():
            area = vus_pr(one.score, one.labels, width=artifact.length)
            if area is not None:
                areas.append(area)
            faults += label_events(f"{number}/{name}", one.time_ns, one.labels, artifact.length)
    if not faults:
        return None, None
    score = score_events(faults, alerts, aftermath_ns=0)
    return (float(np.mean(areas)) if areas else None), score.f1


@dataclass(frozen=True, slots=True)
class LabelledScores:
    """n ticks of a series in order of arrival: time_ns, score, labels (n,), outcome (n,) an Outcome
    each; static, adaptive: (n,) what the score is without and with the tail of the series; views:
    (n, views) the evidence of each part of the score, no columns where it is one piece. No score
    (NaN) where a tick closes no window."""

    time_ns: Int64
    score: Float64
    labels: Bool
    static: Float64
    adaptive: Float64
    views: Float64
    outcome: NDArray[np.uint8]

    @classmethod
    def joined(cls, parts: Sequence[LabelledScores]) -> LabelledScores:
        """Consecutive ones as one."""
        return cls(
            np.concatenate([p.time_ns for p in parts]),
            np.concatenate([p.score for p in parts]),
            np.concatenate([p.labels for p in parts]),
            np.concatenate([p.static for p in parts]),
            np.concatenate([p.adaptive for p in parts]),
            np.concatenate([p.views for p in parts]),
            np.concatenate([p.outcome for p in parts]),
        )

    def unused(self) -> str:
        """How many ticks were of no use, and why; empty where all were of use."""
        counts = {one: int((self.outcome == one).sum()) for one in REFUSED}
        if not any(counts.values()):
            return ""
        said = ", ".join(f"{count} {one.name.lower()}" for one, count in counts.items() if count)
        labelled = int((np.isin(self.outcome, REFUSED) & self.labels).sum())
        more = f", {labelled} of them labelled as anomalous" if labelled else ""
        return f"{sum(counts.values())} of {len(self.outcome)} ticks are not used: {said}{more}"


def score_labelled(
    config: Config, artifact: Artifact, file: Source
) -> tuple[dict[str, LabelledScores], list[OpenedAlert]]:
    """Scores of every tick of a file with its labels, by series, and the alerts that opened."""
    pipeline = make_pipeline(config, artifact)
    layout = columns(config)
    parts_of: dict[str, list[LabelledScores]] = {}
    opened: list[OpenedAlert] = []
    count = len(artifact.calibrated().views) if artifact.score == "evidence" else 0
    for chunk in read_chunks(file, layout, artifact.features.fields):
        assert chunk.label is not None  # compare has looked
        result = pipeline.process(to_batch(chunk))
        opened += opened_alerts(result)
        static, adaptive = both_scores(result)
        views = view_scores(result, count)
        names = np.array(chunk.series)
        for name in np.unique(names).tolist():
            own = names == name
            part = LabelledScores(
                chunk.time_ns[own], result.score[own], chunk.label[own] > 0, static[own],
                adaptive[own], views[own], result.outcome[own],
            )  # fmt: skip
            parts_of.setdefault(name, []).append(part)
    return {name: LabelledScores.joined(parts) for name, parts in parts_of.items()}, opened


def opened_alerts(result: BatchResult) -> list[OpenedAlert]:
    """Those of windows: a series that fell silent is no anomaly of its ticks."""
    return [
        OpenedAlert(a.series, a.time_ns)
        for a in result.alerts
        if a.state is State.OPENED and a.kind in ANOMALIES
    ]


def both_scores(result: BatchResult) -> tuple[Float64, Float64]:
    """(n,) the static and the adaptive score of each tick, NaN where it closes no window."""
    static, adaptive = np.full((2, len(result.score)), np.nan)
    for part in result.windows:
        static[part.row], adaptive[part.row] = part.scored.static, part.scored.adaptive
    return static, adaptive


def view_scores(result: BatchResult, views: int) -> Float64:
    """(n, views) the evidence of each view at every tick, of the window it closes, NaN where it
    closes none."""
    found = np.full((len(result.score), views), np.nan)
    for part in result.windows:
        found[part.row] = part.scored.evidence
    return found


def label_events(series: str, time_ns: Int64, labels: Bool, length: int) -> list[Event]:
    """Of each uninterrupted stretch of labelled ticks. time_ns, labels: (n,) of one series in
    order; length: of a window, in ticks."""
    return [
        Event(series, int(time_ns[start]), int(time_ns[start : end + length - 1].max()))
        for start, end in zip(*labelled_stretches(labels), strict=True)
    ]
