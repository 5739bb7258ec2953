"""Data files to a model directory."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detector.build import columns, deployed_threshold, expected_alerts
from detector.config import Config, architecture_of
from detector.core.features import FeatureSet
from detector.core.own_scales import OwnScales
from detector.core.period import window_length
from detector.core.rehearsal import Forecast
from detector.core.runs import RunCollector
from detector.core.tails import SETTLED
from detector.core.thresholds.promise import promise
from detector.core.ticks import Bool, Outcome
from detector.data.chunks import AutoFields, auto_fields, read_chunks, to_batch
from detector.data.sources import Source
from detector.errors import DataError
from detector.model.directory import complete, require_writable, save_artifact
from detector.model.own_scales import fit_own_scales
from detector.offline.recordings import RowReader, Withholding

Progress = Callable[[int, float, float], None]
Read = Callable[[int], None]  # called with the number of ticks just read


@dataclass(frozen=True, slots=True)
class TrainingReport:
    """What training came to, for people and programs."""

    ticks: int
    outcomes: dict[str, int]
    windows: dict[str, int]
    features: tuple[str, ...]
    left_out: tuple[str, ...]  # columns that features: auto took for labels
    texts: tuple[str, ...]  # columns in which it found no number
    named: bool  # whether a column names the series, as far as it looked
    constant_features: tuple[str, ...]
    series_scaled: int  # that are seen in a centre and a scale of their own
    parameters: int
    epochs: int
    epochs_per_s: float
    loss: float
    validation_loss: float
    held_out_error: float  # of the exported graph; see model.training.Trained
    threshold: float
    promise: str  # what the threshold means, and how far it can be believed
    fell_back: str  # why it is not where the budget asks; empty where it is
    settles: str  # what becomes of it in a running detector
    forecast: Forecast | None  # the alerts to expect
    model_version: str
    length: int  # of the window, in ticks
    period: int | None  # that of the data, where the window was chosen from it


@dataclass(frozen=True, slots=True)
class FittedModel:
    """A trained model that is nowhere yet: the whole manifest and the files of its directory."""

    manifest: Mapping[str, Any]
    files: Mapping[str, bytes]
    report: TrainingReport


def train_model(
    config: Config, files: Sequence[Source], out: Path, *, progress: Progress, read: Read
) -> TrainingReport:
    """Read the files, train, and write the model directory `out`."""
    require_writable(out)
    fitted = fit_model(config, files, progress=progress, read=read)
    save_artifact(out, fitted.manifest, fitted.files)
    return fitted.report


def fit_model(
    config: Config,
    files: Sequence[Source],
    *,
    progress: Progress,
    read: Read,
    auto: AutoFields | None = None,
    withheld: Sequence[Bool] = (),
) -> FittedModel:
    """Read the files and train. auto: the fields of `features: auto`, where somebody has looked
    already; withheld: by file, (n,) whether a row is not to be learned from. Raises DataError where
    the rest does not suffice."""
    layout = columns(config)
    found = AutoFields((), (), (), named=True)
    if isinstance(config.features, str):
        found = auto or auto_fields(files[0], layout)
        features = FeatureSet.of_fields(found.fields)
    else:
        features = FeatureSet.parse(config.features)
    reader, runs, withholding = RowReader(features, config), RunCollector(), Withholding()
    counts = np.zeros(len(Outcome), np.int64)
    for number, file in enumerate(files):
        for chunk in read_chunks(file, layout, features.fields):
            # Each file is a recording of its own: its series do not continue another file's.
            names = [f"{number}/{name}" for name in chunk.series]
            arrivals, rows = reader.read(to_batch(replace(chunk, series=names)))
            counts += np.bincount(arrivals.outcome, minlength=len(Outcome))
            if withheld:
                rows = withholding.rest(rows, withheld[number][chunk.row])
            runs.add(rows)
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
    if counts[Outcome.LATE] > ticks / 2:
        raise DataError(
            f"{outcomes['late']} of {ticks} ticks are older than the one before them of the same "
            "series: rows must be in order of time, or the series have one name "
            "(input.series_field)"
        )
    try:
        from detector.model.training import Recipe, train  # TensorFlow: only here
    except ModuleNotFoundError as error:
        raise DataError(f"training needs {error.name}: pip install 'detector[train]'") from None
    training = config.training
    length, period = config.window.length_ticks, None
    if length == "auto":
        length, period = window_length(runs.runs())
    recipe = Recipe(
        architecture=architecture_of(config, features=len(features.names), length=length),
        squash=config.model.squash,
        epochs=training.epochs,
        patience=training.patience,
        batch_size=training.batch_size,
        learning_rate=training.learning_rate,
        windows_per_epoch=training.windows_per_epoch,
        steps_per_epoch=training.steps_per_epoch,
        validation_fraction=training.validation_fraction,
        calibration_fraction=training.calibration_fraction,
        calibration_windows=training.calibration_windows,
        seed=training.seed,
        xla=training.xla,
        max_seconds=training.max_seconds,
    )
    names = [reader.stream.series.name(slot) for slot in runs.slots]
    scales = _put_in_common_scale(runs, names, config.model.scaling)
    if len(files) == 1:  # the number of the file says nothing
        names = [name.removeprefix("0/") for name in names]
    trained = train(runs, features, recipe, names=names, scales=scales, progress=progress)
    # Before anything is written: a threshold that cannot keep its promise is no model.
    deployed = deployed_threshold(config, trained.calibration, length)
    manifest = complete(trained.manifest, trained.files)
    manifest["training"] |= {
        "ticks": ticks,
        "outcomes": outcomes,
        "files": [{"name": Path(f.name).name, "sha256": f.sha256()} for f in files],
    }
    if withheld:
        manifest["training"]["withheld"] = sum(int(rows.sum()) for rows in withheld)
    history = manifest["training"]["history"]
    best = min(history, key=lambda h: float(h["validation_loss"]))
    report = TrainingReport(
        ticks=ticks,
        outcomes=outcomes,
        windows=manifest["training"]["windows"],
        features=features.names,
        left_out=found.labels,
        texts=found.texts,
        named=found.named,
        constant_features=trained.constant_features,
        series_scaled=0 if scales is None else len(scales.names),
        parameters=manifest["model"]["parameters"],
        epochs=len(history),
        epochs_per_s=round(len(history) / trained.fitting_s, 3),
        loss=best["loss"],
        validation_loss=best["validation_loss"],
        held_out_error=trained.held_out_error,
        threshold=deployed.threshold,
        promise=promise(trained.calibration, deployed.threshold),
        fell_back=deployed.words(trained.calibration),
        settles=_settling(config),
        forecast=expected_alerts(config, trained.calibration, length, deployed.threshold),
        model_version=manifest["model_version"],
        length=length,
        period=period,
    )
    return FittedModel(manifest, trained.files, report)


def _put_in_common_scale(
    runs: RunCollector, names: Sequence[str], scaling: str
) -> OwnScales | None:
    """names: number of the file/series, of each slot. None where nothing is to be done."""
    if scaling == "shared":
        return None
    slots: dict[str, list[int]] = {}
    for slot, name in zip(runs.slots, names, strict=True):
        slots.setdefault(name.split("/", 1)[1], []).append(slot)
    scales = fit_own_scales(
        (
            (name, [part for slot in several for part in runs.rows(slot)])
            for name, several in slots.items()
        ),
        if_unlike=scaling == "auto",
    )
    if scales is not None:
        for name, several in slots.items():
            row = scales.row(name)
            for part in (part for slot in several for part in runs.rows(slot)):
                part[:] = scales.seen(part, row)
    return scales


def _settling(config: Config) -> str:
    """What a series makes of its threshold while it runs, in one line."""
    cold = config.threshold.cold_windows
    text = f"it stays there; a new series alerts after {cold} windows (threshold.cold_windows)"
    if not config.threshold.adaptive:
        return f"{text}, judged by this calibration for good (threshold.adaptive: false)"
    return (
        f"{text}, judged by this calibration at first; after {SETTLED:,} its own windows count for "
        "as much (threshold.adaptive)"
    )
