"""Several architectures on the same data under one budget.

Every variant is trained with the same training options and seeds. On test files its scores are
those of the pipeline, its alerts those that would have been published: nothing is tuned to the
labels.
"""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.artifact import Artifact, load_artifact
from detector.config import Config, with_model
from detector.core.alerts import State
from detector.core.pipeline import KIND
from detector.core.ticks import Bool, Float64, Int64
from detector.errors import DataError, UsageError
from detector.lab.datasets import DataFile, read_chunks, to_batch
from detector.lab.evaluate import OpenedAlert, score_events
from detector.lab.measures import vus_pr
from detector.lab.offline import train_model
from detector.service.wiring import make_pipeline, tick_format

Say = Callable[[str], None]
_RATE_S = 1.0
_BATCH = 256


@dataclass(frozen=True, slots=True)
class Variant:
    """A name for people, and the configuration of it."""

    name: str
    config: Config


@dataclass(frozen=True, slots=True)
class Row:
    """What became of a variant; a list holds a value for each seed, in their order.

    held_out_error: mean squared error of the scaled features as the exported graph gives them
    back, so it can be compared only between variants with the same targets.
    vus_pr: mean over series.
    event_f1: of the alerts opened at the deployed threshold, no point adjustment.
    """

    variant: str
    parameters: int
    training_s: list[float]
    epochs: list[int]
    windows_per_s: list[float]
    held_out_error: list[float]
    vus_pr: list[float | None]
    event_f1: list[float | None]


@dataclass(frozen=True, slots=True)
class Event:
    """An uninterrupted stretch of labelled ticks."""

    series: str
    start_ns: int
    end_ns: int


def parse_variant(config: Config, text: str) -> Variant:
    """`kind` or `kind:option=value:option=value`, e.g. `prediction:horizon=4:units=64,32`; what is
    not named is as in the configuration, or at its default where the kind does not know it. Raises
    ConfigError, UsageError."""
    kind, *options = text.split(":")
    changes: dict[str, Any] = {"kind": kind}
    for option in options:
        name, equals, value = option.partition("=")
        if not equals or not name:
            raise UsageError(f"variant {text!r}: {option!r} is not option=value")
        changes[name] = value
    return Variant(text, with_model(config, changes))


def compare(
    variants: Sequence[Variant],
    training: Sequence[DataFile],
    test: Sequence[DataFile],
    *,
    seeds: Sequence[int],
    say: Say,
) -> list[Row]:
    """Train and measure each variant with each seed. Raises DataError, before any training, where
    a test file has no labels or none of them has an anomaly."""
    anomalies = [_has_anomaly(variants[0].config, file) for file in test]  # reads every file
    if test and not any(anomalies):
        raise DataError(
            f"{', '.join(str(file.path) for file in test)}: no tick is labelled as anomalous "
            f"({variants[0].config.input.label_field} above 0): there is nothing to be found"
        )
    rows = [Row(v.name, 0, [], [], [], [], [], []) for v in variants]
    for seed in seeds:  # variants in turn, so that each sees the same moods of the machine
        for number, variant in enumerate(variants):
            config = dataclasses.replace(
                variant.config, training=dataclasses.replace(variant.config.training, seed=seed)
            )
            with tempfile.TemporaryDirectory(prefix="detector-compare-") as directory:
                path = Path(directory) / "model"
                started_s = time.perf_counter()
                report = train_model(
                    config, training, path, progress=lambda *_: None, read=lambda _: None
                )
                seconds = time.perf_counter() - started_s
                artifact = load_artifact(path)
                found = measure(config, artifact, test)
                rate = windows_per_s(artifact)
            row = dataclasses.replace(rows[number], parameters=report.parameters)
            rows[number] = row
            row.training_s.append(round(seconds, 1))
            row.epochs.append(report.epochs)
            row.windows_per_s.append(round(rate))
            row.held_out_error.append(report.held_out_error)
            row.vus_pr.append(found[0])
            row.event_f1.append(found[1])
            say(
                f"{variant.name}, seed {seed}: {seconds:.0f} s, held-out error "
                f"{report.held_out_error:.4f}, VUS-PR {_shown(found[0])}, "
                f"event F1 {_shown(found[1])}"
            )
    return rows


def _has_anomaly(config: Config, file: DataFile) -> bool:
    """Whether a tick of the file is labelled. Raises DataError where it has no labels at all."""
    label_field, ticks, found = config.input.label_field, 0, False
    for chunk in read_chunks(file, tick_format(config), (), label_field=label_field):
        if chunk.label is None:
            raise DataError(
                f"{file.path}: has no column {label_field!r} (input.label_field): without labels "
                "there is nothing to measure on test files"
            )
        ticks += len(chunk)
        found = found or bool((chunk.label > 0).any())
    if not ticks:
        raise DataError(f"{file.path}: holds no tick to measure on")
    return found


def windows_per_s(artifact: Artifact) -> float:
    """On one thread, in batches."""
    scorer = artifact.open_scorer(threads=1)
    shape = (_BATCH, artifact.length, len(artifact.features.names))
    windows = np.random.default_rng(0).normal(0, 1, shape).astype(np.float32)
    scorer.errors(windows)
    rounds, started_s = 0, time.perf_counter()
    while time.perf_counter() - started_s < _RATE_S:
        scorer.errors(windows)
        rounds += 1
    return rounds * _BATCH / (time.perf_counter() - started_s)


def measure(
    config: Config, artifact: Artifact, test: Sequence[DataFile]
) -> tuple[float | None, float | None]:
    """VUS-PR, mean over the series that have anomalies, and event F1 over all; None without
    labels."""
    areas: list[float] = []
    faults: list[Event] = []
    alerts: list[OpenedAlert] = []
    aftermath_ns = 0
    for number, file in enumerate(test):
        series, opened = score_labelled(config, artifact, file)
        alerts += [dataclasses.replace(a, series=f"{number}/{a.series}") for a in opened]
        for name, (time_ns, scores, labels) in series.items():
            area = vus_pr(scores, labels, width=artifact.length)
            if area is not None:
                areas.append(area)
            faults += label_events(f"{number}/{name}", time_ns, labels)
            if len(time_ns) > 1:
                step_ns = int(np.median(np.diff(time_ns)))
                aftermath_ns = max(aftermath_ns, step_ns * artifact.length)
    if not faults:
        return None, None
    score = score_events(faults, alerts, aftermath_ns=aftermath_ns)
    return (float(np.mean(areas)) if areas else None), score.f1


Labelled = dict[str, tuple[Int64, Float64, Bool]]  # series -> times, scores, labels


def score_labelled(
    config: Config, artifact: Artifact, file: DataFile
) -> tuple[Labelled, list[OpenedAlert]]:
    """Scores of every tick of a file (NaN while warming) with its labels, by series, and the
    alerts that opened."""
    pipeline = make_pipeline(config, artifact)
    columns: dict[str, list[tuple[Int64, Float64, Bool]]] = {}
    opened: list[OpenedAlert] = []
    for chunk in read_chunks(
        file, tick_format(config), artifact.features.fields, label_field=config.input.label_field
    ):
        assert chunk.label is not None  # compare has looked
        result = pipeline.process(to_batch(chunk, pipeline.series))
        opened += [
            OpenedAlert(a.series, a.time_ns)
            for a in result.alerts
            if a.state is State.OPENED and a.kind == KIND
        ]
        names = np.array(chunk.series)
        for name in np.unique(names).tolist():
            own = names == name
            part = (chunk.time_ns[own], result.score[own], chunk.label[own] > 0)
            columns.setdefault(name, []).append(part)
    joined = {
        name: (
            np.concatenate([t for t, _, _ in parts]),
            np.concatenate([s for _, s, _ in parts]),
            np.concatenate([label for _, _, label in parts]),
        )
        for name, parts in columns.items()
    }
    return joined, opened


def label_events(series: str, time_ns: Int64, labels: Bool) -> list[Event]:
    """Each uninterrupted stretch of labelled ticks."""
    edges = np.flatnonzero(np.diff(np.concatenate([[0], labels.astype(np.int8), [0]])))
    return [
        Event(series, int(time_ns[start]), int(time_ns[end - 1]))
        for start, end in zip(edges[::2], edges[1::2], strict=True)
    ]


def comparison_table(rows: Sequence[Row]) -> str:
    """A Markdown table: means over the seeds, and from the lowest to the highest where they
    differ."""
    heads = (
        "variant", "parameters", "training s", "windows/s", "held-out error", "VUS-PR", "event F1",
    )  # fmt: skip
    table = [heads, ("---",) * len(heads)]
    table += [
        (
            row.variant,
            str(row.parameters),
            _spread(row.training_s, "{:.0f}"),
            _spread(row.windows_per_s, "{:.0f}"),
            _spread(row.held_out_error, "{:.4f}"),
            _spread(row.vus_pr, "{:.3f}"),
            _spread(row.event_f1, "{:.2f}"),
        )
        for row in rows
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def _spread(values: Sequence[float | None], form: str) -> str:
    known = [v for v in values if v is not None]
    if not known:
        return "-"
    mean, low, high = (form.format(f) for f in (np.mean(known), min(known), max(known)))
    return mean if low == high else f"{mean} ({low} to {high})"


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
