"""Training and scoring over data files, with the very intake and pipeline of the daemon."""

from __future__ import annotations

import csv
import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import numpy as np

from detector.artifact import Artifact, require_writable, save_artifact
from detector.config import Config
from detector.core.alerts import State
from detector.core.cloudevents import rfc3339
from detector.core.features import FeatureSet
from detector.core.intake import Intake
from detector.core.runs import RunCollector
from detector.core.slots import SeriesTable
from detector.core.ticks import Outcome
from detector.errors import DataError
from detector.lab.datasets import DataFile, numeric_fields, read_chunks, to_batch
from detector.model.architecture import Architecture
from detector.service.wiring import configured_threshold, make_pipeline, tick_format

Progress = Callable[[int, float, float], None]
Read = Callable[[int], None]  # called with the number of ticks just read


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What training came to, for people and programs."""

    ticks: int
    outcomes: dict[str, int]
    windows: dict[str, int]
    features: tuple[str, ...]
    constant_features: tuple[str, ...]
    parameters: int
    epochs: int
    epochs_per_s: float
    loss: float
    validation_loss: float
    held_out_error: float  # of the exported graph; see model.training.Trained
    threshold: float
    model_version: str


def train_model(
    config: Config, files: Sequence[DataFile], out: Path, *, progress: Progress, read: Read
) -> TrainingReport:
    """Read the files, train, and write the model directory `out`."""
    require_writable(out)
    form, label_field = tick_format(config), config.input.label_field
    if isinstance(config.features, str):
        features = FeatureSet.of_fields(numeric_fields(files[0], form, label_field))
    else:
        features = FeatureSet.parse(config.features)
    intake = Intake(features, max_gap_s=config.window.max_gap_s)
    runs = RunCollector()
    table = SeriesTable(max_series=config.limits.max_series)
    counts = np.zeros(len(Outcome), np.int64)
    for number, file in enumerate(files):
        for chunk in read_chunks(file, form, features.fields, label_field=label_field):
            # Each file is a recording of its own: its series do not continue another file's.
            names = [f"{number}/{name}" for name in chunk.series]
            accepted = intake.accept(to_batch(replace(chunk, series=names), table))
            counts += np.bincount(accepted.outcome, minlength=len(Outcome))
            runs.add(accepted)
            read(len(chunk))
    ticks = int(counts.sum())
    if ticks == 0:
        raise DataError("the training data holds no ticks (files, --since, --until, --limit)")
    outcomes = {"accepted": int(counts[Outcome.SCORED])} | {
        o.name.lower(): int(counts[o]) for o in (Outcome.LATE, Outcome.DUPLICATE, Outcome.REJECTED)
    }
    if counts[Outcome.REJECTED] > ticks / 2:
        raise DataError(
            f"{outcomes['rejected']} of {ticks} ticks cannot be used: a field ("
            f"{', '.join(features.fields)}) is no number, or a feature of it not finite; "
            "clean the data or choose other features"
        )
    try:
        from detector.model.training import Recipe, train  # TensorFlow: only here
    except ModuleNotFoundError as error:
        raise DataError(f"training needs {error.name}: pip install 'detector[train]'") from None
    model, training = config.model, config.training
    recipe = Recipe(
        architecture=Architecture(
            length=config.window.length,
            features=len(features.names),
            kind=model.kind,
            units=model.units,
            activation=model.activation,
            horizon=model.horizon,
            target_order=model.target_order,
            conditioned=model.conditioned,
            prediction_weight=model.prediction_weight,
        ),
        squash=model.squash,
        epochs=training.epochs,
        patience=training.patience,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        windows_per_epoch=training.windows_per_epoch,
        validation_fraction=training.validation_fraction,
        calibration_fraction=training.calibration_fraction,
        calibration_windows=training.calibration_windows,
        seed=training.seed,
        xla=training.xla,
        max_seconds=training.max_seconds,
    )
    trained = train(runs, features, recipe, progress=progress)
    # Before anything is written: a threshold that cannot keep its promise is no model.
    threshold = configured_threshold(config, trained.calibration, trained.tail)
    manifest = trained.manifest
    manifest["training"] |= {
        "ticks": ticks,
        "outcomes": outcomes,
        "files": [{"name": f.path.name, "sha256": _sha256(f.path)} for f in files],
    }
    save_artifact(out, manifest, trained.files)
    history = manifest["training"]["history"]
    best = min(history, key=lambda h: float(h["validation_loss"]))
    return TrainingReport(
        ticks=ticks,
        outcomes=outcomes,
        windows=manifest["training"]["windows"],
        features=features.names,
        constant_features=trained.constant_features,
        parameters=manifest["model"]["parameters"],
        epochs=len(history),
        epochs_per_s=round(len(history) / trained.fitting_s, 3),
        loss=best["loss"],
        validation_loss=best["validation_loss"],
        held_out_error=trained.held_out_error,
        threshold=threshold,
        model_version=manifest["model_version"],
    )


@dataclass(frozen=True, slots=True)
class ScoringReport:
    ticks: int
    outcomes: dict[str, int]
    anomalous: int
    alerts: int
    threshold: float
    faults: dict[str, int]  # opened alerts by the kind they look like; none without a classifier


def score_files(
    config: Config, artifact: Artifact, files: Sequence[DataFile], out: IO[str], *, read: Read
) -> ScoringReport:
    """Write one row a tick: series,timestamp,score,threshold,anomalous; score and anomalous
    are empty where the tick closes no window."""
    form = tick_format(config)
    pipeline = make_pipeline(config, artifact)
    threshold = pipeline.policy.threshold
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["series", "timestamp", "score", "threshold", "anomalous"])
    counts = np.zeros(len(Outcome), np.int64)
    faults: Counter[str] = Counter()
    anomalous = alerts = 0
    for file in files:
        for chunk in read_chunks(
            file, form, artifact.features.fields, label_field=config.input.label_field
        ):
            result = pipeline.process(to_batch(chunk, pipeline.series))
            counts += np.bincount(result.outcome, minlength=len(Outcome))
            opened = [a for a in result.alerts if a.state is State.OPENED]
            alerts += len(opened)
            faults.update(a.fault.kind for a in opened if a.fault)
            exceeded = result.score > threshold
            anomalous += int(exceeded.sum())
            read(len(chunk))
            writer.writerows(
                (
                    name,
                    rfc3339(time_ns),
                    "" if score != score else f"{score:.6g}",
                    f"{threshold:.6g}",
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
    return ScoringReport(int(counts.sum()), outcomes, anomalous, alerts, threshold, dict(faults))


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
