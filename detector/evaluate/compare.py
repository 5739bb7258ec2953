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
from msgspec.structs import replace

from detector.build import columns
from detector.config import Config, with_model
from detector.data.chunks import read_chunks
from detector.data.sources import Source
from detector.errors import DataError, UsageError
from detector.evaluate.labelled import measure
from detector.evaluate.recording import require_labels
from detector.model.directory import Artifact, load_artifact
from detector.offline.train import train_model

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
    training: Sequence[Source],
    test: Sequence[Source],
    *,
    seeds: Sequence[int],
    say: Say,
) -> list[Row]:
    """Train and measure each variant with each seed. Raises DataError, before any training, where
    a tick of a test file has no label, or all of them have the same."""
    _require_both_kinds(variants[0].config, test)
    rows = [Row(v.name, 0, [], [], [], [], [], []) for v in variants]
    for seed in seeds:  # variants in turn, so that each sees the same moods of the machine
        for number, variant in enumerate(variants):
            training_of = replace(variant.config.training, seed=seed)
            config = replace(variant.config, training=training_of)
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


def _require_both_kinds(config: Config, test: Sequence[Source]) -> None:
    """Anomalous ticks and normal ones."""
    kinds: set[bool] = set()
    for file in test:
        require_labels(config, file)
        for chunk in read_chunks(file, columns(config), ()):
            assert chunk.label is not None
            kinds |= set(np.unique(chunk.label > 0).tolist())
    if len(kinds) == 1:
        names = ", ".join(file.name for file in test)
        label = f"({config.input.label_field} above 0)"
        raise DataError(
            f"{names}: every tick is labelled as anomalous {label}: there is nothing normal to "
            "tell them from"
            if True in kinds
            else f"{names}: no tick is labelled as anomalous {label}: there is nothing to be found"
        )


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
