"""From uninterrupted runs of features to a model directory: scale, fit, calibrate, export.

The data is split by time in every series: the first part trains the network, the next stops the
training (best weights kept), and the network's errors are calibrated on both that and the last,
which training never sees. Scaling, what errors are divided by, and the views take the whole
history.
"""

from __future__ import annotations

import dataclasses
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
from detector.core.own_scales import OwnScales
from detector.core.runs import History, RunCollector, WindowSet, ticks_needed
from detector.core.scaling import Scaling
from detector.core.scorer import GraphScorer
from detector.core.thresholds.calibration import Calibration
from detector.core.ticks import Float32, Float64
from detector.engines import open_graph
from detector.errors import DataError
from detector.model import networks, own_scales
from detector.model.backend import keras
from detector.model.deadline import Deadline
from detector.model.evidence import Network, calibrate
from detector.model.export import encoder_graph, scorer_graph
from detector.model.family import Architecture, contradiction
from detector.model.scaling import fit_scaling
from detector.model.views.view import spread_of_errors
from detector.model.weights import NetworkWeights

#: Rows that fit the scaling, windows that judge an epoch: more would change nothing.
_SCALING_ROWS = 1_000_000
_VALIDATION_WINDOWS = 20_000
#: A network is fitted to, stopped by and calibrated on no fewer windows than these.
_FEWEST_FITTING, _FEWEST_VALIDATING, _FEWEST_HELD_OUT = 64, 20, 20


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
    steps_per_epoch: int
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
    calibration: Calibration
    constant_features: tuple[str, ...]
    held_out_error: float
    fitting_s: float


Progress = Callable[[int, float, float], None]  # epoch (from 1), training loss, validation loss


def train(
    runs: RunCollector,
    features: FeatureSet,
    recipe: Recipe,
    *,
    names: Sequence[str],
    scales: OwnScales | None,
    progress: Progress,
) -> Trained:
    """Train, calibrate, export. names: of the series of the runs, in the order of their slots;
    scales: in which the runs are, None: in their own. Raises DataError if the data does not
    suffice."""
    wrong = contradiction(recipe.architecture)
    if wrong is not None:
        raise DataError(wrong)
    held_out = recipe.validation_fraction, recipe.calibration_fraction
    shares = (1 - sum(held_out), *held_out)
    pieces = runs.series, runs.gaps
    (fitting, validating, _), past = runs.split(shares[:2], recipe.length)
    held = past.part(np.flatnonzero(past.held_out)).windows
    _require_enough((fitting, held), (1 - sum(held_out), sum(held_out)), recipe.length, pieces)
    if len(validating) < _FEWEST_VALIDATING:
        validating = held  # a short history cannot spare two pieces

    keras.utils.set_random_seed(recipe.seed)
    used = past.windows.rows[_rows_of(past.windows, _SCALING_ROWS)]
    scaling, constant = fit_scaling(used, squash=recipe.squash)
    if len(constant) == len(features.names):
        raise DataError(
            f"every feature is constant in the training data ({', '.join(features.names)}): "
            "there is nothing to learn; check the fields and the feature expressions"
        )
    architecture = recipe.architecture
    network = networks.build_network(architecture)
    started_s = time.perf_counter()
    history = _fit(network, fitting, validating, scaling, recipe, progress)
    fitting_s = time.perf_counter() - started_s

    weights = networks.network_weights(network, architecture)
    error_scale, mean_errors = _error_scale(architecture, weights, scaling, past, validating)
    weights_of = np.array([target.weight for target in architecture.targets])
    held_out_error = float(weights_of @ mean_errors.mean(axis=1))
    finished = Network(architecture, weights, scaling, error_scale)
    evidence = calibrate(finished, past, tuple(names), most=recipe.calibration_windows)

    files = evidence.files() | {"model.keras": _keras_file(network)}
    if scales is not None:
        files[own_scales.FILE] = own_scales.to_bytes(scales)
    if architecture.recurrent:
        files["encoder.onnx"] = encoder_graph(architecture, weights, scaling)
        files["encoder.keras"] = _keras_file(networks.build_encoder(network, architecture))
    manifest = {
        "features": [
            {"name": n, "expression": e}
            for n, e in zip(features.names, features.expressions, strict=True)
        ],
        "fields": list(features.fields),
        "window": {"length": recipe.length},
        "model": architecture.to_json() | {"parameters": weights.parameters()},
        "scaling": scaling.to_json()
        | {
            "constant_features": [features.names[i] for i in constant],
            "series": 0 if scales is None else len(scales.names),
        },
        "calibration": {
            "error_scale": architecture.by_target(error_scale),
        }
        | evidence.section(),
        "training": {
            "windows": {
                "fitting": len(fitting),
                "validating": len(validating),
                "calibrating": len(evidence.scores),
            },
            "seed": recipe.seed,
            "epochs": len(history),
            "held_out_error": held_out_error,
            "history": [{"loss": loss, "validation_loss": held} for loss, held in history],
        },
        "libraries": {name: version(name) for name in ("tensorflow", "keras", "onnx", "numpy")},
    }
    unmoved = tuple(features.names[i] for i in constant)
    calibration = Calibration(evidence.scores, evidence.tail, evidence.rehearsal)
    return Trained(files, manifest, calibration, unmoved, held_out_error, fitting_s)


def _require_enough(
    found: Sequence[WindowSet], shares: Sequence[float], length: int, pieces: tuple[int, int]
) -> None:
    """found, shares: of the windows that train and of those held out; pieces: how many series there
    are and how many gaps in them."""
    wanted = (_FEWEST_FITTING, _FEWEST_HELD_OUT)
    if all(len(windows) >= least for windows, least in zip(found, wanted, strict=True)):
        return
    series, gaps = pieces
    needed = ticks_needed(wanted, shares, length, series=series, gaps=gaps)
    whole = "one series needs" if series == 1 else f"{series} series need"
    interrupted = f", gaps interrupt them {gaps} times" if gaps else ""
    raise DataError(
        f"too few uninterrupted ticks: {len(found[0])} windows to train and {len(found[1])} held "
        f"out, at least {wanted[0]} and {wanted[1]} are needed; {whole} about {needed} ticks in "
        f"all without a gap for windows of {length}{interrupted} (window.length_ticks, "
        "window.max_gap_s, training.calibration_fraction)"
    )


def _rows_of(windows: WindowSet, most: int) -> slice | np.ndarray[Any, np.dtype[np.int64]]:
    """Rows that the windows cover (their first ticks will do), at most `most`."""
    return windows.sample(most).start


class _Batches(keras.utils.PyDataset):  # type: ignore[misc]  # keras ships no types
    """Scaled windows cut when they are needed; a new draw each epoch."""

    def __init__(self, windows: WindowSet, recipe: Recipe) -> None:
        super().__init__()
        self._windows, self._architecture = windows, recipe.architecture
        # A short history is gone through in smaller batches, and several times an epoch.
        self._batch_size = min(recipe.batch_size, max(16, len(windows) // 16))
        least = recipe.steps_per_epoch * self._batch_size
        self._per_epoch = max(min(len(windows), recipe.windows_per_epoch), least)
        self._random = np.random.default_rng(recipe.seed)
        self.on_epoch_end()

    def on_epoch_end(self) -> None:
        total = len(self._windows)
        if total <= self._per_epoch:
            rounds = -(-self._per_epoch // total)
            shuffled = [self._random.permutation(total) for _ in range(rounds)]
            self._order = np.concatenate(shuffled)[: self._per_epoch]
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
        scaled[part] = scaling.apply(fitting.rows[part])
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


def _error_scale(
    architecture: Architecture,
    weights: NetworkWeights,
    scaling: Scaling,
    past: History,
    validating: WindowSet,
) -> tuple[Float64, Float64]:
    """What the errors of the scaled features are divided by, from the whole history, and their mean
    on the windows that validate; both (targets, features)."""
    ones = np.ones((len(architecture.targets), architecture.features))
    whole = past.windows.sample(_VALIDATION_WINDOWS)
    scales, means = [], []
    for i in range(len(architecture.targets)):
        # A prediction weight of 0 leaves the first target's error alone, of 1 the second's.
        alone = dataclasses.replace(architecture, prediction_weight=float(i))
        graph = scorer_graph(alone, weights, scaling, ones)
        scales.append(spread_of_errors(_errors(graph, scaling, whole)))
        found = _errors(graph, scaling, validating.sample(_VALIDATION_WINDOWS))
        means.append(found.mean(axis=0, dtype=np.float64))
    return np.stack(scales), np.stack(means)


def _errors(graph: bytes, scaling: Scaling, windows: WindowSet) -> Float32:
    """Errors of the deployed graph itself, not of Keras. (windows, features)"""
    scorer = GraphScorer(open_graph(graph, threads=os.cpu_count() or 1), scaling)
    parts: Sequence[Float32] = [
        scorer.errors(windows.cut(slice(start, start + scorer.batch)))
        for start in range(0, len(windows), scorer.batch)
    ]
    return np.concatenate(parts)


def _keras_file(network: keras.Model) -> bytes:
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "model.keras"
        network.save(path)
        return path.read_bytes()
