"""The reference model of the benchmarks: a real graph over random, seeded weights.

Its speed is that of a trained model of the same shape; its scores mean nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.artifact import save_artifact
from detector.core.features import FeatureSet
from detector.core.threshold import Tail
from detector.model.architecture import Architecture
from detector.model.export import encoder_graph, scorer_graph
from detector.model.scaling import Scaling
from detector.model.weights import random_network


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
    **options: Any,
) -> None:
    """The same for any features and, with the further options of an Architecture, any kind of
    network. The calibration holds the scores 0.001, 0.002 ... 1.000."""
    count = len(features.names)
    architecture = Architecture(length, count, tuple(units), **options)
    error_scale = np.ones((len(architecture.targets), count))
    scaling = Scaling(np.zeros(count), np.full(count, scale), 4.0)
    network = random_network(architecture, seed=seed)
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
        "model": architecture.to_json() | {"parameters": network.parameters()},
        "scaling": {
            "center": scaling.center.tolist(),
            "scale": scaling.scale.tolist(),
            "squash": scaling.squash,
            "constant_features": [],
        },
        "calibration": {
            "windows": 1000,
            "error_scale": architecture.by_target(error_scale),
            "tail": Tail(0.98, 0.1, 0.01, 20, 10, 1000).to_json(),
            "score_mean": float(scores.mean()),
            "score_max": 1.0,
        },
        "training": {"ticks": 0, "windows": {}, "seed": seed, "epochs": 0, "history": []},
        "libraries": {},
    }
    files = {
        "scorer.onnx": scorer_graph(architecture, network, scaling, error_scale),
        "calibration.npy": calibration.getvalue(),
    }
    if architecture.recurrent:
        files["encoder.onnx"] = encoder_graph(architecture, network, scaling)
    save_artifact(path, manifest, files)
