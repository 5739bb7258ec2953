"""Which kind of fault: labelled stretches of time to a classifier in a model directory.

A window is of a kind if one of its newest ticks lies in a stretch of that kind: alerts.of_last + 1
of them, since an alert opens up to so many ticks after a fault. It is `normal` if it touches no
stretch at all; windows that only trail a fault are left out. The last stretches of every kind, in
time, are held out and measure; no tick is in both parts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.config import Config
from detector.core.moments import rfc3339
from detector.core.scaling import Scaling
from detector.core.ticks import Bool, Int64
from detector.data.labels import parse_labels
from detector.data.sources import Source
from detector.errors import ArtifactError, DataError
from detector.model.directory import Artifact, load_artifact, require_fit, save_artifact
from detector.offline.labelled import LabelledWindows, label_windows

#: Labelled windows the comparison with random weights is made at.
SIZES = (10, 100, 1000)
SEEDS = (7, 8, 9)
_HELD_OUT = 0.3
#: Of a manifest, when a file is added to its model.
_MADE_ANEW = ("files", "schema_version", "model_version")
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class ClassifierReport:
    """What came of it. training, held_out: windows; comparison: rows of the manifest, None where
    it was not made."""

    classes: tuple[str, ...]
    labels: int
    labels_without_windows: int
    training: int
    held_out: int
    accuracy: float
    macro_f1: float
    comparison: list[dict[str, Any]] | None
    model_version: str


def train_fault_classifier(
    config: Config,
    model: Path,
    files: Sequence[Source],
    labels: Path,
    *,
    comparison: bool,
    read: Callable[[int], None],
    say: Say,
) -> ClassifierReport:
    """Teach the model directory `model` the kinds of the labels; it is rewritten as a whole, under
    a new version. comparison: train from random weights too, at SIZES. Raises ArtifactError if the
    model has no encoder, DataError if the labels do not suit the data."""
    artifact = load_artifact(model)
    require_fit(artifact, config.features, config.window.length_ticks)
    _require_encoder(artifact)
    try:
        content = labels.read_bytes()
    except OSError as error:
        raise DataError(f"{labels}: {error.strerror}") from None
    given = parse_labels(labels, content)
    found = label_windows(
        artifact,
        config,
        files,
        given,
        recent=config.alerts.of_last,
        seed=config.training.seed,
        read=read,
    )
    training, held_out = split_in_time(found)
    if found.unmatched:
        first = given[found.unmatched[0]]
        say(
            f"{len(found.unmatched)} of {len(given)} labels have no full window of "
            f"{artifact.length} ticks, the first of them {first.kind} of {first.series} at "
            f"{rfc3339(first.start_ns)}"
        )
    try:
        from detector.model.classifier import (  # TensorFlow: only here
            ClassifierRecipe,
            ClassifierTraining,
            TrainedClassifier,
            load_encoder,
        )
    except ModuleNotFoundError as error:
        raise DataError(f"training needs {error.name}: pip install 'detector[train]'") from None
    network = ClassifierTraining(
        load_encoder(model / "encoder.keras"),
        artifact.architecture,
        Scaling.from_json(artifact.manifest["scaling"]),
        len(found.classes),
        ClassifierRecipe(max_seconds=config.training.max_seconds),
    )
    measured = found.windows[held_out], found.kind[held_out]

    def train(rows: Int64, *, seed: int, seeded: bool) -> TrainedClassifier:
        learnt = found.windows[rows], found.kind[rows]
        return network.train(learnt, measured, seed=seed, seeded=seeded)

    rows = compare_with_random(found, training, train, say=say) if comparison else None
    final = train(training, seed=config.training.seed, seeded=True)
    section: dict[str, Any] = {
        "classes": list(found.classes),
        "windows": {"training": len(training), "held_out": len(held_out)},
        "epochs": final.epochs,
        "accuracy": round(final.accuracy, 4),
        "macro_f1": round(final.macro_f1, 4),
        "labels": {"name": labels.name, "sha256": hashlib.sha256(content).hexdigest()},
        "comparison": rows,
    }
    version = save_classifier(artifact, final.graph, section)
    return ClassifierReport(
        found.classes,
        len(given),
        len(found.unmatched),
        len(training),
        len(held_out),
        section["accuracy"],
        section["macro_f1"],
        rows,
        version,
    )


def save_classifier(artifact: Artifact, graph: bytes, section: dict[str, Any]) -> str:
    """Rewrite the model directory with a classifier. Its version, which alerts name, follows from
    all graphs that make an alert, so it is another one now. Returns it."""
    kept = {k: v for k, v in artifact.manifest.items() if k not in _MADE_ANEW}
    files = {**artifact.files, "classifier.onnx": graph}
    return save_artifact(artifact.path, kept | {"classifier": section}, files)


def _require_encoder(artifact: Artifact) -> None:
    kind = artifact.manifest["model"]["kind"]
    if kind == "dense":
        raise ArtifactError(f"{artifact.path}: a model of kind {kind} has no encoder to begin with")
    if "encoder.keras" not in artifact.manifest["files"]:
        raise ArtifactError(f"{artifact.path}: holds no encoder.keras; train again")


def split_in_time(found: LabelledWindows) -> tuple[Int64, Int64]:
    """Rows to train with and rows held out: of every kind the last stretches, of the normal
    windows the last ones. What would share a tick with the other part is in neither. Raises
    DataError where that leaves a class without windows."""
    normal = np.flatnonzero(found.kind == 0)
    border_ns = np.quantile(found.last_ns[normal], 1 - _HELD_OUT)
    learnt = [normal[found.last_ns[normal] < border_ns]]
    measured = [normal[found.first_ns[normal] >= border_ns]]
    faults = []
    for one in range(1, len(found.classes)):
        rows = np.flatnonzero(found.kind == one)
        late = np.isin(found.stretch[rows], _last_stretches(found, rows))
        learnt.append(rows[~late])
        faults.append(rows[late])
    training = np.concatenate(learnt)
    training = training[~_sharing(found, training, np.concatenate(faults))]
    held_out = np.concatenate(measured)
    held_out = held_out[~_sharing(found, held_out, training)]
    held_out = np.concatenate([held_out, *faults])
    for rows, purpose in ((training, "learn from"), (held_out, "measure with")):
        there = np.bincount(found.kind[rows], minlength=len(found.classes))
        if not there.all():
            raise DataError(
                f"no window of kind {found.classes[int(there.argmin())]} is left to {purpose} that "
                "shares no tick with the other part: give more data, or stretches farther apart"
            )
    return training, held_out


def _last_stretches(found: LabelledWindows, rows: Int64) -> Int64:
    """The stretches of a kind that are held out: of its incidents the last ones. Stretches at the
    same time, on several series, are one incident, unless all of them would be."""
    stretches, of = np.unique(found.stretch[rows], return_inverse=True)
    begin = np.full(len(stretches), np.iinfo(np.int64).max)
    np.minimum.at(begin, of, found.last_ns[rows])
    end = np.full(len(stretches), np.iinfo(np.int64).min)
    np.maximum.at(end, of, found.last_ns[rows])
    order = np.argsort(begin, kind="stable")
    begin, ended = begin[order], np.maximum.accumulate(end[order])
    incident = np.concatenate([[0], np.cumsum(begin[1:] > ended[:-1])])
    if incident[-1] == 0:
        incident = np.arange(len(order))
    count = int(incident[-1]) + 1
    return stretches[order[incident >= count - max(1, round(count * _HELD_OUT))]]


def _sharing(found: LabelledWindows, rows: Int64, others: Int64) -> Bool:
    """Whether a window of rows has a tick in common with one of others."""
    shared = np.zeros(len(rows), np.bool_)
    for series in np.unique(found.series[others]):
        own = np.flatnonzero(found.series[rows] == series)
        theirs = others[found.series[others] == series]
        theirs = theirs[np.argsort(found.first_ns[theirs], kind="stable")]
        latest = np.maximum.accumulate(found.last_ns[theirs])
        begun = np.searchsorted(found.first_ns[theirs], found.last_ns[rows[own]], side="right")
        before = latest[np.maximum(begun - 1, 0)]
        shared[own] = (begun > 0) & (before >= found.first_ns[rows[own]])
    return shared


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
