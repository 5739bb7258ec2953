"""Recorded ticks without those that were alerted on to a model directory, and how the new model
compares with an old one. Knows no broker."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.config import Config
from detector.core.incidents import NONE, Incident, incident_of_ticks
from detector.core.ticks import Bool, Int64
from detector.data.chunks import AutoFields
from detector.data.recorded import Recording
from detector.errors import DataError
from detector.model.directory import Artifact, artifact_of, require_writable, save_artifact
from detector.offline.succession import Succession, compare_models
from detector.offline.train import Progress, Read, TrainingReport, fit_model

#: A series of which more is left out is named: what is left may be no normal life of it.
_MOST_LEFT_OUT = 0.5


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not learned from. ticks: how many; incidents: those they lie in; whole: how many
    ticks there were; mostly: series that lost more than half."""

    ticks: int
    incidents: int
    whole: int
    mostly: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class TopicTraining:
    """What training on a topic came to; comparison: None where no old model was named."""

    training: TrainingReport
    left_out: LeftOut
    comparison: Succession | None


def train_from_recordings(
    config: Config,
    recordings: Sequence[Recording],
    incidents: Sequence[Incident],
    out: Path,
    *,
    old: Artifact | None,
    auto: AutoFields | None,
    progress: Progress,
    read: Read,
) -> TopicTraining:
    """Train on the ticks outside of incidents and write the model directory `out`. old: compared
    with it. Raises DataError where too few ticks are left."""
    require_writable(out)
    struck = [incident_of_ticks(incidents, r.names, r.number, r.time_ns) for r in recordings]
    withheld = [rows != NONE for rows in struck]
    left_out = _left_out(recordings, struck, withheld)
    if left_out.ticks == left_out.whole:
        raise DataError(
            f"all {left_out.whole} ticks lie in alerts ({left_out.incidents}): nothing is left to "
            "learn from; an alert that is still open reaches to the end (--until ends before it, "
            "--data learns from files, whatever was alerted)"
        )
    fitted = fit_model(
        config, recordings, progress=progress, read=read, auto=auto, withheld=withheld
    )
    save_artifact(out, fitted.manifest, fitted.files)
    comparison = None
    if old is not None:
        new = artifact_of(out, fitted.manifest, fitted.files)
        comparison = compare_models(config, old, new, recordings, struck)
    return TopicTraining(fitted.report, left_out, comparison)


def _left_out(
    recordings: Sequence[Recording], struck: Sequence[Int64], withheld: Sequence[Bool]
) -> LeftOut:
    there: dict[str, int] = {}
    gone: dict[str, int] = {}
    for recording, rows in zip(recordings, withheld, strict=True):
        size = len(recording.names)
        for counts, of in ((there, recording.number), (gone, recording.number[rows])):
            number = np.bincount(of, minlength=size).tolist()
            for name, count in zip(recording.names, number, strict=True):
                counts[name] = counts.get(name, 0) + count
    found = np.unique(np.concatenate([*struck, [NONE]]))
    mostly = [name for name, count in there.items() if gone[name] > _MOST_LEFT_OUT * count]
    return LeftOut(
        ticks=sum(gone.values()),
        incidents=len(found) - 1,
        whole=sum(there.values()),
        mostly=tuple(sorted(mostly)),
    )
