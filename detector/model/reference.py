"""The reference model of the benchmarks: a real graph over random, seeded weights.

Its speed is that of a trained model of the same shape; its scores mean nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.artifact import save_artifact
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


def save_reference_model(
    path: Path, *, fields: Sequence[str], length: int, units: Sequence[int], seed: int = 0
) -> None:
    """Write a model directory whose features are the fields, at unit scale."""
    save_random_model(path, FeatureSet.of_fields(fields), length=length, units=units, seed=seed)


def save_random_model(
    path: Path,
    features: FeatureSet,
    *,
    length: int,
    units: Sequence[int],
    seed: int = 0,
    scale: float = 1.0,
) -> None:
    """The same for any features. The calibration holds the scores 0.001, 0.002 ... 1.000."""
    count = len(features.names)
    scaling = Scaling(np.zeros(count), np.full(count, scale), 4.0)
    network = random_network(count, units, seed=seed)
    calibration = io.BytesIO()
    scores = (np.arange(1, 1001) / 1000).astype(np.float32)
    np.save(calibration, scores, allow_pickle=False)
    manifest = {
        "model_version": f"random-{seed}",
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
            "parameters": network.parameters(),
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
            "tail": Tail(0.98, 0.1, 0.01, 20, 10, 1000).to_json(),
            "score_mean": float(scores.mean()),
            "score_max": 1.0,
        },
        "training": {"ticks": 0, "windows": {}, "seed": seed, "epochs": 0, "history": []},
        "libraries": {},
    }
    save_artifact(
        path,
        manifest,
        {
            "scorer.onnx": scorer_graph(network, scaling, np.ones(count), length=length),
            "encoder.onnx": encoder_graph(network, scaling, length=length),
            "calibration.npy": calibration.getvalue(),
        },
    )
