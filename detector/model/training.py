"""From uninterrupted runs of features to a model directory: scale, fit, calibrate, export.

The data is split by time in every series: the first part trains, the next stops the training
(best weights kept) and gives the error scale, the last, which training never sees, calibrates
the threshold.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from detector.core.features import FeatureSet
from detector.core.runs import RunCollector, WindowSet
from detector.core.scoring import CHUNK, OnnxScorer, mean_score
from detector.core.threshold import Tail
from detector.core.ticks import Float32, Float64
from detector.errors import DataError
from detector.model import networks
from detector.model.architecture import Architecture
from detector.model.backend import keras
from detector.model.calibration import FEWEST_EXCESSES, fit_tail
from detector.model.deadline import Deadline
from detector.model.export import encoder_graph, scorer_graph
from detector.model.scaling import Scaling, apply_scaling, fit_scaling
from detector.model.weights import NetworkWeights

#: Rows that fit the scaling, windows that judge an epoch: more would change nothing.
_SCALING_ROWS = 1_000_000
_VALIDATION_WINDOWS = 20_000
_FEWEST_CALIBRATION_WINDOWS = 10 * FEWEST_EXCESSES


@dataclass(frozen=True, slots=True)
class Recipe:
    """What to train and how; see config.yaml for the meaning of each value."""

    architecture: Architecture
    squash: float
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float
    windows_per_epoch: int
    validation_fraction: float
    calibration_fraction: float
    calibration_windows: int
    seed: int
    xla: bool
    max_seconds: float | None = None

    @property
    def length(self) -> int:
        return self.architecture.length


@dataclass(frozen=True, slots=True)
class Trained:
    """A finished model: the files and the manifest of its directory, and what to tell.

    held_out_error: mean squared error of the scaled features, as the exported graph gives them
    back, on the windows that validate; several targets with their weights. The loss of a
    conditioned decoder is not that: in training it reads the true ticks.
    """

    files: dict[str, bytes]
    manifest: dict[str, Any]
    tail: Tail
    calibration: Float32
    constant_features: tuple[str, ...]
    held_out_error: float
    fitting_s: float


Progress = Callable[[int, float, float], None]  # epoch (from 1), training loss, validation loss


def train(
    runs: RunCollector, features: FeatureSet, recipe: Recipe, *, progress: Progress
) -> Trained:
    """Train, calibrate, export. Raises DataError if the data does not suffice."""
    fractions = (
        1 - recipe.validation_fraction - recipe.calibration_fraction,
        recipe.validation_fraction,
    )
    fitting, validating, calibrating = runs.split(fractions, recipe.length)
    _require_enough(fitting, validating, calibrating, recipe)

    keras.utils.set_random_seed(recipe.seed)
    used = fitting.rows[_rows_of(fitting, _SCALING_ROWS)]
    scaling, constant = fit_scaling(used, squash=recipe.squash)
    if len(constant) == len(features.names):
        raise DataError(
            f"every feature is constant in the training data ({', '.join(features.names)}): "
            "there is nothing to learn; check the fields and the feature expressions"
        )
    architecture = recipe.architecture
    flat = architecture.length * architecture.features
    if not architecture.recurrent and min(architecture.units) >= flat:
        raise DataError(
            f"model.units: a layer of kind dense must be narrower than the window's {flat} numbers "
            f"({architecture.length} ticks of {architecture.features} features)"
        )
    network = networks.build_network(architecture)
    started_s = time.perf_counter()
    history = _fit(network, fitting, validating, scaling, recipe, progress)
    fitting_s = time.perf_counter() - started_s

    weights = networks.network_weights(network, architecture)
    mean_errors = _mean_errors(architecture, weights, scaling, validating)
    # A feature that is given back (almost) perfectly must not drown the others.
    least = np.maximum(0.01 * np.median(mean_errors, axis=1, keepdims=True), 1e-4)
    error_scale = np.maximum(mean_errors, least)
    shares = np.array([target.weight for target in architecture.targets])
    held_out_error = float(shares @ mean_errors.mean(axis=1))
    calibrating = calibrating.sample(recipe.calibration_windows)
    graph = scorer_graph(architecture, weights, scaling, error_scale)
    scores = mean_score(_errors(graph, scaling, calibrating)).astype(np.float32)
    tail = fit_tail(scores, calibrating.start, length=recipe.length)
    scores.sort()

    files = {
        "scorer.onnx": graph,
        "model.keras": _keras_file(network),
        "calibration.npy": _npy(scores),
    }
    if architecture.recurrent:
        files["encoder.onnx"] = encoder_graph(architecture, weights, scaling)
        files["encoder.keras"] = _keras_file(networks.build_encoder(network, architecture))
    identity = hashlib.sha256(files["scorer.onnx"] + "\0".join(features.expressions).encode())
    manifest = {
        "model_version": identity.hexdigest()[:16],
        "features": [
            {"name": n, "expression": e}
            for n, e in zip(features.names, features.expressions, strict=True)
        ],
        "fields": list(features.fields),
        "window": {"length": recipe.length},
        "model": architecture.to_json() | {"parameters": weights.parameters()},
        "scaling": {
            "center": scaling.center.tolist(),
            "scale": scaling.scale.tolist(),
            "squash": scaling.squash,
            "constant_features": [features.names[i] for i in constant],
        },
        "calibration": {
            "windows": len(scores),
            "error_scale": architecture.by_target(error_scale),
            "tail": tail.to_json(),
            "score_mean": float(scores.mean()),
            "score_max": float(scores[-1]),
        },
        "training": {
            "windows": {
                "fitting": len(fitting),
                "validating": len(validating),
                "calibrating": len(calibrating),
            },
            "seed": recipe.seed,
            "epochs": len(history),
            "held_out_error": held_out_error,
            "history": [{"loss": loss, "validation_loss": held} for loss, held in history],
        },
        "libraries": {name: version(name) for name in ("tensorflow", "keras", "onnx", "numpy")},
    }
    names = tuple(features.names[i] for i in constant)
    return Trained(files, manifest, tail, scores, names, held_out_error, fitting_s)


def _require_enough(
    fitting: WindowSet, validating: WindowSet, calibrating: WindowSet, recipe: Recipe
) -> None:
    found = (
        f"{len(fitting)} windows to train, {len(validating)} to validate, "
        f"{len(calibrating)} to calibrate"
    )
    if len(fitting) < recipe.batch_size or not len(validating):
        shares = (
            1 - recipe.validation_fraction - recipe.calibration_fraction,
            recipe.validation_fraction,
        )
        needed = max(
            (recipe.batch_size + recipe.length) / shares[0],
            (recipe.length + 1) / shares[1],
            (_FEWEST_CALIBRATION_WINDOWS + recipe.length) / recipe.calibration_fraction,
        )
        raise DataError(
            f"too few uninterrupted ticks: {found}; one series needs about {round(needed)} ticks "
            f"without a gap for windows of {recipe.length} (window.length, window.max_gap_s, "
            "training.batch_size)"
        )
    if len(calibrating) < _FEWEST_CALIBRATION_WINDOWS:
        needed = (_FEWEST_CALIBRATION_WINDOWS + recipe.length) / recipe.calibration_fraction
        raise DataError(
            f"too few held-out windows for a threshold: {found}, at least "
            f"{_FEWEST_CALIBRATION_WINDOWS} are needed; give about {round(needed)} ticks or raise "
            "training.calibration_fraction"
        )


def _rows_of(windows: WindowSet, most: int) -> slice | np.ndarray[Any, np.dtype[np.int64]]:
    """Rows that the windows cover (their first ticks will do), at most `most`."""
    return windows.sample(most).start


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """Scaled windows cut when they are needed; a new draw each epoch."""

    def __init__(self, windows: WindowSet, recipe: Recipe) -> None:
        super().__init__()
        self._windows, self._architecture = windows, recipe.architecture
        self._batch_size, self._per_epoch = recipe.batch_size, recipe.windows_per_epoch
        self._random = np.random.default_rng(recipe.seed)
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        total = len(self._windows)
        if total <= self._per_epoch:
            self._order = self._random.permutation(total)
        else:
            # One window from each of per_epoch equal stretches: all times are seen each epoch.
            edges = np.linspace(0, total, self._per_epoch + 1).astype(np.int64)
            self._order = self._random.integers(edges[:-1], edges[1:])
            self._random.shuffle(self._order)

    def __len__(self) -> int:
        return len(self._order) // self._batch_size  # whole batches: XLA compiles one shape

    def __getitem__(self, index: int) -> tuple[Float32, Float32 | dict[str, Float32]]:
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        batch = self._windows.cut(chosen)
        return batch, networks.targets(batch, self._architecture)


class _Report(keras.callbacks.Callback):  # type: ignore[misc]  # keras ships no types
    def __init__(self, progress: Progress, history: list[tuple[float, float]]) -> None:
        super().__init__()
        self._progress, self._history = progress, history

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        logs = logs or {}
        self._history.append((float(logs["loss"]), float(logs["val_loss"])))
        self._progress(epoch + 1, *self._history[-1])


def _fit(
    network: keras.Model,
    fitting: WindowSet,
    validating: WindowSet,
    scaling: Scaling,
    recipe: Recipe,
    progress: Progress,
) -> list[tuple[float, float]]:
    """Fit in place, best weights kept. Returns (loss, validation loss) of every epoch."""
    scaled = np.empty_like(fitting.rows)
    for start in range(0, len(scaled), _SCALING_ROWS):
        part = slice(start, start + _SCALING_ROWS)
        scaled[part] = apply_scaling(fitting.rows[part], scaling)
    fitting = WindowSet(scaled, fitting.start, recipe.length)
    held_out = WindowSet(scaled, validating.start, recipe.length).sample(_VALIDATION_WINDOWS)
    judged = held_out.cut(slice(None))

    optimizer = keras.optimizers.Adam(recipe.learning_rate, clipnorm=1.0)
    networks.compile_network(network, recipe.architecture, optimizer, xla=recipe.xla)
    history: list[tuple[float, float]] = []
    stop = keras.callbacks.EarlyStopping(
        monitor="val_loss", patience=recipe.patience, restore_best_weights=True
    )
    network.fit(
        _Batches(fitting, recipe),
        validation_data=(judged, networks.targets(judged, recipe.architecture)),
        validation_batch_size=min(len(judged), 1024),
        epochs=recipe.epochs,
        shuffle=False,  # the batches are drawn at random already
        callbacks=[stop, Deadline(recipe.max_seconds), _Report(progress, history)],
        verbose=0,
    )
    if not all(np.isfinite(loss) for loss, _ in history):
        raise DataError(
            "the training loss is not finite; lower training.learning_rate or use "
            "model.activation: tanh"
        )
    return history


def _mean_errors(
    architecture: Architecture, weights: NetworkWeights, scaling: Scaling, windows: WindowSet
) -> Float64:
    """Mean squared error of each scaled feature, (targets, features)."""
    ones = np.ones((len(architecture.targets), architecture.features))
    rows = []
    for i in range(len(architecture.targets)):
        # A prediction weight of 0 leaves the first target's error alone, of 1 the second's.
        alone = dataclasses.replace(architecture, prediction_weight=float(i))
        graph = scorer_graph(alone, weights, scaling, ones)
        rows.append(_errors(graph, scaling, windows).mean(axis=0, dtype=np.float64))
    return np.stack(rows)


def _errors(graph: bytes, scaling: Scaling, windows: WindowSet) -> Float32:
    """Errors of the deployed graph itself, not of Keras. (windows, features)"""
    scorer = OnnxScorer(
        graph,
        threads=os.cpu_count() or 1,
        center=scaling.center,
        scale=scaling.scale,
        squash=scaling.squash,
    )
    parts: Sequence[Float32] = [
        scorer.errors(windows.cut(slice(start, start + CHUNK)))
        for start in range(0, len(windows), CHUNK)
    ]
    return np.concatenate(parts)


def _keras_file(network: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.keras"
        network.save(path)
        return path.read_bytes()


def _npy(array: Float32) -> bytes:
    with tempfile.TemporaryFile() as file:
        np.save(file, array, allow_pickle=False)
        file.seek(0)
        return file.read()
