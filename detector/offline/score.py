"""Data files scored by the very pipeline of the daemon: a row for each tick."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from detector.build import columns, make_pipeline
from detector.config import Config
from detector.core.alerts import ANOMALIES, State
from detector.core.moments import rfc3339
from detector.core.ticks import Outcome
from detector.data.chunks import read_chunks, to_batch
from detector.data.sources import Source
from detector.model.directory import Artifact

Read = Callable[[int], None]  # called with the number of ticks just read


@dataclass(frozen=True, slots=True)
class ScoringReport:
    ticks: int
    outcomes: dict[str, int]
    anomalous: int
    alerts: int
    threshold: float
    faults: dict[str, int]  # opened alerts by the kind they look like; none without a classifier
    others: dict[str, int]  # opened alerts that are not about a window, by kind


def score_files(
    config: Config, artifact: Artifact, files: Sequence[Source], out: IO[str], *, read: Read
) -> ScoringReport:
    """Write one row a tick: series,timestamp,score,threshold,anomalous; score and anomalous
    are empty where the tick closes no window."""
    pipeline = make_pipeline(config, artifact)
    threshold = pipeline.primary.policy.threshold
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["series", "timestamp", "score", "threshold", "anomalous"])
    counts = np.zeros(len(Outcome), np.int64)
    faults, others = Counter[str](), Counter[str]()
    anomalous = alerts = 0
    for file in files:
        for chunk in read_chunks(file, columns(config), artifact.features.fields):
            result = pipeline.process(to_batch(chunk))
            counts += np.bincount(result.outcome, minlength=len(Outcome))
            opened = [a for a in result.alerts if a.state is State.OPENED]
            strange = [a for a in opened if a.kind in ANOMALIES]
            alerts += len(strange)
            faults.update(a.fault.kind for a in strange if a.fault)
            others.update(a.kind for a in opened if a.kind not in ANOMALIES)
            exceeded = result.score > threshold
            anomalous += int(exceeded.sum())
            read(len(chunk))
            writer.writerows(
                (
                    name,
                    rfc3339(time_ns),
                    "" if score != score else repr(score),
                    repr(threshold),
                    "" if score != score else int(above),
                )
                for name, time_ns, score, above in zip(
                    chunk.series,
                    chunk.time_ns.tolist(),
                    result.score.tolist(),
                    exceeded.tolist(),
                    strict=True,
                )
            )
    outcomes = {o.name.lower(): int(counts[o]) for o in Outcome}
    return ScoringReport(
        ticks=int(counts.sum()),
        outcomes=outcomes,
        anomalous=anomalous,
        alerts=alerts,
        threshold=threshold,
        faults=dict(faults),
        others=dict(others),
    )
