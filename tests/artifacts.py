"""Model directories without training: real graphs over random, seeded weights.

They score and explain like trained ones (only worse), and cost milliseconds.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from detector.artifact import Artifact, load_artifact, save_artifact
from detector.core.features import FeatureSet
from detector.core.threshold import Tail
from detector.model.export import (
    LstmWeights,
    NetworkWeights,
    Scaling,
    decoder_units,
    encoder_graph,
    scorer_graph,
)

VALUE = {"value": "value"}


def random_network(
    features: int, units: Sequence[int], *, seed: int = 0, activation: str = "tanh"
) -> NetworkWeights:
    """A reconstruction network with weights drawn from a seed."""
    random = np.random.default_rng(seed)

    def draw(*shape: int) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return random.normal(0, 0.3, shape).astype(np.float32)

    def stack(inputs: int, widths: Sequence[int]) -> tuple[LstmWeights, ...]:
        layers = []
        for width in widths:
            kernel, recurrent = draw(inputs, 4 * width), draw(width, 4 * width)
            layers.append(LstmWeights(kernel, recurrent, draw(4 * width), activation))
            inputs = width
        return tuple(layers)

    mirrored = decoder_units(units)
    dense = (draw(mirrored[-1], features), draw(features))
    return NetworkWeights(stack(features, units), stack(units[-1], mirrored), dense)


def make_artifact(
    path: Path,
    expressions: Mapping[str, str] = VALUE,
    *,
    length: int = 8,
    units: Sequence[int] = (6, 4),
    seed: int = 0,
    scale: float = 1.0,
) -> Artifact:
    """Write a model directory for features of unit scale and load it. The calibration holds
    scores 0.001 ... 1.000, so a quantile threshold is easy to foresee."""
    features = FeatureSet.parse(expressions)
    count = len(features.names)
    scaling = Scaling(np.zeros(count), np.full(count, scale), 4.0)
    network = random_network(count, units, seed=seed)
    calibration = (np.arange(1, 1001) / 1000).astype(np.float32)
    file = io.BytesIO()
    np.save(file, calibration, allow_pickle=False)
    manifest = {
        "model_version": f"test-{seed}",
        "features": [
            {"name": n, "expression": e}
            for n, e in zip(features.names, features.expressions, strict=True)
        ],
        "fields": list(features.fields),
        "window": {"length": length},
        "model": {
            "kind": "reconstruction",
            "units": list(units),
            "activation": "tanh",
            "parameters": 0,
        },
        "scaling": {
            "center": scaling.center.tolist(),
            "scale": scaling.scale.tolist(),
            "squash": scaling.squash,
            "constant_features": [],
        },
        "calibration": {
            "windows": 1000,
            "error_scale": [1.0] * count,
            "tail": Tail(0.98, 0.1, 0.01, 20, 1000).to_json(),
            "score_mean": 0.5,
            "score_max": 1.0,
        },
        "training": {"windows": {}, "seed": seed, "epochs": 0, "history": [], "ticks": 0},
        "libraries": {},
    }
    save_artifact(
        path,
        manifest,
        {
            "scorer.onnx": scorer_graph(network, scaling, np.ones(count), length=length),
            "encoder.onnx": encoder_graph(network, scaling, length=length),
            "calibration.npy": file.getvalue(),
        },
    )
    return load_artifact(path)
