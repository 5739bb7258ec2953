"""Which kind of fault: labelled stretches of time to a classifier in a model directory.

A window is of a kind if one of its newest ticks lies in a stretch of that kind: alerts.of_last + 1
of them, since an alert opens up to so many ticks after a fault. It is `normal` if it touches no
stretch at all; windows that only trail a fault are left out. The last stretches of every kind, in
time, are held out and measure.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.artifact import Artifact, load_artifact, require_fit, save_artifact
from detector.config import Config
from detector.core.ticks import Int64
from detector.errors import ArtifactError, DataError
from detector.lab.datasets import DataFile
from detector.lab.labels import LabelledWindows, label_windows, read_labels
from detector.model.architecture import Architecture
from detector.model.scaling import Scaling

#: Labelled windows the comparison with random weights is made at.
SIZES = (10, 100, 1000)
SEEDS = (7, 8, 9)
_HELD_OUT = 0.3
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """What came of it. training, held_out: windows; comparison: rows of the manifest."""

    classes: tuple[str, ...]
    training: int
    held_out: int
    accuracy: float
    macro_f1: float
    comparison: list[dict[str, Any]]
    model_version: str


def train_fault_classifier(
    config: Config,
    model: Path,
    files: Sequence[DataFile],
    labels: Path,
    *,
    read: Callable[[int], None],
    say: Say,
) -> ClassifierReport:
    """Teach the model directory `model` the kinds of the labels; it is rewritten as a whole, under
    a new version. Raises ArtifactError if it has no encoder, DataError if the labels do not suit
    the data."""
    artifact = load_artifact(model)
    require_fit(artifact, config.features, config.window.length)
    _require_encoder(artifact)
    found = label_windows(
        artifact,
        config,
        files,
        read_labels(labels),
        recent=config.alerts.of_last,
        seed=config.training.seed,
        read=read,
    )
    training, held_out = split_in_time(found)
    try:
        from detector.model.classifier import (  # TensorFlow: only here
            ClassifierRecipe,
            ClassifierTraining,
            TrainedClassifier,
            load_encoder,
        )
    except ModuleNotFoundError as error:
        raise DataError(f"training needs {error.name}: pip install 'detector[train]'") from None
    scaling = artifact.manifest["scaling"]
    network = ClassifierTraining(
        load_encoder(model / "encoder.keras"),
        Architecture.from_manifest(artifact.manifest),
        Scaling(np.array(scaling["center"]), np.array(scaling["scale"]), scaling["squash"]),
        len(found.classes),
        ClassifierRecipe(max_seconds=config.training.max_seconds),
    )
    measured = found.windows[held_out], found.kind[held_out]

    def train(rows: Int64, *, seed: int, seeded: bool) -> TrainedClassifier:
        learnt = found.windows[rows], found.kind[rows]
        return network.train(learnt, measured, seed=seed, seeded=seeded)

    comparison = compare_with_random(found, training, train, say=say)
    final = train(training, seed=config.training.seed, seeded=True)
    section: dict[str, Any] = {
        "classes": list(found.classes),
        "windows": {"training": len(training), "held_out": len(held_out)},
        "epochs": final.epochs,
        "accuracy": round(final.accuracy, 4),
        "macro_f1": round(final.macro_f1, 4),
        "labels": {"name": labels.name, "sha256": hashlib.sha256(labels.read_bytes()).hexdigest()},
        "comparison": comparison,
    }
    version = save_classifier(artifact, final.graph, section)
    return ClassifierReport(
        found.classes,
        len(training),
        len(held_out),
        section["accuracy"],
        section["macro_f1"],
        comparison,
        version,
    )


def save_classifier(artifact: Artifact, graph: bytes, section: dict[str, Any]) -> str:
    """Rewrite the model directory with a classifier. Its version, which alerts name, follows from
    all graphs that make an alert, so it is another one now. Returns it."""
    files = {name: (artifact.path / name).read_bytes() for name in artifact.manifest["files"]}
    files["classifier.onnx"] = graph
    expressions = "\0".join(artifact.features.expressions).encode()
    version = hashlib.sha256(artifact.scorer + expressions + graph).hexdigest()[:16]
    manifest = {k: v for k, v in artifact.manifest.items() if k not in ("files", "schema_version")}
    save_artifact(
        artifact.path, manifest | {"model_version": version, "classifier": section}, files
    )
    return version


def _require_encoder(artifact: Artifact) -> None:
    kind = artifact.manifest["model"]["kind"]
    if kind == "dense":
        raise ArtifactError(f"{artifact.path}: a model of kind {kind} has no encoder to begin with")
    if "encoder.keras" not in artifact.manifest["files"]:
        raise ArtifactError(f"{artifact.path}: holds no encoder.keras; train again")


def split_in_time(found: LabelledWindows) -> tuple[Int64, Int64]:
    """Rows to train with and rows held out: of every kind the last stretches, of the normal
    windows the last ones. No tick of a fault or of a normal window is in both."""
    training, held_out = [], []
    normal = np.flatnonzero(found.kind == 0)
    border_ns = np.quantile(found.last_ns[normal], 1 - _HELD_OUT)
    training.append(normal[found.last_ns[normal] < border_ns])
    held_out.append(normal[found.first_ns[normal] >= border_ns])
    for one in range(1, len(found.classes)):
        rows = np.flatnonzero(found.kind == one)
        stretches, first = np.unique(found.stretch[rows], return_index=True)
        stretches = stretches[np.argsort(found.last_ns[rows[first]], kind="stable")]
        border = len(stretches) - max(1, round(len(stretches) * _HELD_OUT))
        learnt = np.isin(found.stretch[rows], stretches[:border])
        training.append(rows[learnt])
        held_out.append(rows[~learnt])
    if not len(training[0]) or not len(held_out[0]):
        raise DataError("too few normal windows to learn from and to measure with: give more data")
    return np.concatenate(training), np.concatenate(held_out)


def draw(found: LabelledWindows, rows: Int64, count: int, *, seed: int) -> Int64:
    """count rows, the classes in turn, so that few windows hold all of them."""
    random = np.random.default_rng(seed)
    of_class = [
        random.permutation(rows[found.kind[rows] == one]) for one in range(len(found.classes))
    ]
    longest = max(len(part) for part in of_class)
    turns = [part[turn] for turn in range(longest) for part in of_class if turn < len(part)]
    return np.array(turns[:count], np.int64)


def compare_with_random(
    found: LabelledWindows,
    training: Int64,
    train: Callable[..., Any],
    *,
    say: Say,
) -> list[dict[str, Any]]:
    """Accuracy and macro F1 of both beginnings at each size, a value for each seed. train(rows,
    seed, seeded) gives a trained classifier."""
    results = []
    for size in (s for s in SIZES if s <= len(training)):
        for seeded in (True, False):
            runs = [
                train(draw(found, training, size, seed=seed), seed=seed, seeded=seeded)
                for seed in SEEDS
            ]
            results.append(
                {
                    "windows": size,
                    "start": "encoder" if seeded else "random",
                    "accuracy": [round(r.accuracy, 4) for r in runs],
                    "macro_f1": [round(r.macro_f1, 4) for r in runs],
                }
            )
            f1 = [r.macro_f1 for r in runs]
            say(
                f"{size} labelled windows, from {results[-1]['start']} weights: macro F1 "
                f"{np.mean(f1):.3f} ({min(f1):.3f} to {max(f1):.3f})"
            )
    return results


def classifier_table(comparison: Sequence[dict[str, Any]]) -> str:
    """A Markdown table: the mean over the seeds, and every one of them."""
    heads = ("labelled windows", "starts from", "accuracy", "macro F1")
    table = [heads, ("---",) * len(heads)]
    table += [
        (str(row["windows"]), row["start"], _seeds(row["accuracy"]), _seeds(row["macro_f1"]))
        for row in comparison
    ]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in table)


def _seeds(values: Sequence[float]) -> str:
    return f"{np.mean(values):.3f} ({', '.join(f'{v:.3f}' for v in values)})"
