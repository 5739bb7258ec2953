"""An LSTM classifier of windows that begins with an encoder's weights. TensorFlow is imported
with this module.

windows (n, length, features) -> the encoder's layers -> dense -> softmax: (n, classes). All of it
is fine-tuned on labelled windows. Source: Srivastava et al. 2015, section 4.2: an encoder that has
learnt to describe unlabelled sequences is a better start than random weights where labels are few.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detector.core.scaling import Scaling
from detector.core.ticks import Float32, Int64
from detector.engines import open_graph
from detector.errors import ArtifactError, DataError
from detector.model.backend import keras
from detector.model.deadline import Deadline
from detector.model.export import classifier_graph
from detector.model.family import Architecture
from detector.model.weights import DenseWeights, LstmWeights


@dataclass(frozen=True, slots=True)
class ClassifierRecipe:
    """How long and how fast."""

    epochs: int = 60
    patience: int = 10
    batch_size: int = 32
    learning_rate: float = 0.002
    max_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class TrainedClassifier:
    """The graph, and what it says of the windows held out: accuracy, and F1 averaged over the
    classes."""

    graph: bytes
    epochs: int
    accuracy: float
    macro_f1: float


def load_encoder(path: Path) -> Any:
    """The Keras encoder of a model directory."""
    try:
        return keras.models.load_model(path, compile=False)
    except (ValueError, OSError) as error:
        raise ArtifactError(f"{path}: cannot be read ({error}); train again") from None


class ClassifierTraining:
    """Trains one network from the start again and again: it is built and compiled once, which
    takes longer than to learn from few windows."""

    def __init__(
        self,
        encoder: Any,
        architecture: Architecture,
        scaling: Scaling,
        classes: int,
        recipe: ClassifierRecipe,
    ) -> None:
        self._encoder, self._architecture, self._scaling = encoder, architecture, scaling
        self._classes, self._recipe = classes, recipe
        self._network = _build(architecture, classes)
        self._optimizer = keras.optimizers.Adam(recipe.learning_rate, clipnorm=1.0)
        self._network.compile(self._optimizer, "sparse_categorical_crossentropy")
        self._optimizer.build(self._network.trainable_variables)
        self._untouched = [keras.ops.convert_to_numpy(v).copy() for v in self._optimizer.variables]

    def train(
        self,
        training: tuple[Float32, Int64],
        held_out: tuple[Float32, Int64],
        *,
        seed: int,
        seeded: bool,
    ) -> TrainedClassifier:
        """Windows as features (n, length, features) with the number of their class, (n,). A fifth
        of the training windows stops the training; held_out only measures. seeded: begin with the
        encoder's weights, else with random ones. Raises DataError."""
        self._begin(seed, seeded=seeded)
        windows, labels = self._scaling.apply(training[0]), training[1]
        order = np.random.default_rng(seed).permutation(len(labels))
        stopping = order[: len(order) // 5]
        history = self._fit(windows, labels, order[len(stopping) :], stopping)
        if not np.isfinite(history["loss"]).all():
            raise DataError(
                "the training loss of the classifier is not finite; train the model with "
                "model.activation: tanh"
            )
        graph = self._graph()
        found = _said(graph, held_out[0])
        return TrainedClassifier(
            graph=graph,
            epochs=len(history["loss"]),
            accuracy=float((found == held_out[1]).mean()),
            macro_f1=macro_f1(found, held_out[1], self._classes),
        )

    def _begin(self, seed: int, *, seeded: bool) -> None:
        keras.utils.set_random_seed(seed)
        self._network.set_weights(_build(self._architecture, self._classes).get_weights())
        if seeded:
            for name in _encoder_layers(self._architecture):
                try:
                    weights = self._encoder.get_layer(name).get_weights()
                    self._network.get_layer(name).set_weights(weights)
                except ValueError:
                    raise ArtifactError(
                        "encoder.keras is not of the layers the manifest names; train again"
                    ) from None
        for variable, value in zip(self._optimizer.variables, self._untouched, strict=True):
            variable.assign(value)

    def _fit(
        self, windows: Float32, labels: Int64, fitting: Int64, stopping: Int64
    ) -> dict[str, list[float]]:
        counts = np.bincount(labels[fitting], minlength=self._classes).tolist()
        # Normal windows are many, each kind of fault counts as much.
        weights = {i: len(fitting) / (self._classes * max(n, 1)) for i, n in enumerate(counts)}
        few = len(stopping) < self._classes  # nothing tells when to stop but the loss itself
        stop = keras.callbacks.EarlyStopping(
            monitor="loss" if few else "val_loss",
            patience=self._recipe.patience,
            restore_best_weights=True,
        )
        history: dict[str, list[float]] = self._network.fit(
            windows[fitting],
            labels[fitting],
            validation_data=None if few else (windows[stopping], labels[stopping]),
            class_weight=weights,
            epochs=self._recipe.epochs,
            batch_size=self._recipe.batch_size,
            callbacks=[stop, Deadline(self._recipe.max_seconds)],
            verbose=0,
        ).history
        return history

    def _graph(self) -> bytes:
        architecture = self._architecture
        arrays = [_arrays(self._network, name) for name in _encoder_layers(architecture)]
        layers = [LstmWeights(k, r, b, architecture.activation) for k, r, b in arrays]
        kernel, bias = _arrays(self._network, "classes")
        return classifier_graph(architecture, layers, DenseWeights(kernel, bias), self._scaling)


def _said(graph: bytes, windows: Float32) -> Int64:
    """What the deployed graph itself says, not Keras. (n, length, features) -> (n,)"""
    opened = open_graph(graph, threads=os.cpu_count() or 1)
    parts = [
        opened.run(["probabilities"], {"windows": windows[start : start + opened.batch]})[0].argmax(
            1
        )
        for start in range(0, len(windows), opened.batch)
    ]
    return np.concatenate([np.empty(0, np.int64), *parts])


def macro_f1(found: Int64, truth: Int64, classes: int) -> float:
    """F1 of each class that occurs in the truth, averaged."""
    scores = []
    for one in range(classes):
        right = int(((found == one) & (truth == one)).sum())
        said, there = int((found == one).sum()), int((truth == one).sum())
        if there:
            scores.append(2 * right / (said + there))
    return float(np.mean(scores)) if scores else 0.0


def _build(architecture: Architecture, classes: int) -> Any:
    windows = keras.Input((architecture.length, architecture.features), name="windows")
    hidden = windows
    last = len(architecture.units) - 1
    for i, (name, width) in enumerate(
        zip(_encoder_layers(architecture), architecture.units, strict=True)
    ):
        hidden = keras.layers.LSTM(
            width, activation=architecture.activation, return_sequences=i < last, name=name
        )(hidden)
    output = keras.layers.Dense(classes, "softmax", name="classes")(hidden)
    return keras.Model(windows, output, name="classifier")


def _encoder_layers(architecture: Architecture) -> list[str]:
    return [f"encoder_{i}" for i in range(len(architecture.units))]


def _arrays(network: Any, layer: str) -> list[Any]:
    return [np.asarray(w, np.float32) for w in network.get_layer(layer).get_weights()]
