"""The reference model of the benchmarks: a real graph over random, seeded weights.

Its speed is that of a trained model of the same shape; its scores mean nothing.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.core.features import FeatureSet
from detector.core.runs import History, WindowSet
from detector.core.scaling import Scaling
from detector.core.thresholds.calibration import Tail
from detector.model.directory import save_artifact
from detector.model.evidence import Network, calibrate
from detector.model.export import encoder_graph, scorer_graph
from detector.model.family import Architecture
from detector.model.weights import random_network

#: Normal ticks that evidence is calibrated on.
_TICKS = 2000


def save_reference_model(
    path: Path, *, fields: Sequence[str], length: int, units: Sequence[int], seed: int = 0
) -> None:
    """Write a model directory whose features are the fields, at unit scale, and whose score is
    evidence among normally distributed ticks."""
    features = FeatureSet.of_fields(fields)
    save_random_model(path, features, length=length, units=units, seed=seed, evidence=True)


def save_random_model(
    path: Path,
    features: FeatureSet,
    *,
    length: int,
    units: Sequence[int],
    seed: int = 0,
    scale: float = 1.0,
    evidence: bool = False,
    **options: Any,
) -> None:
    """The same for any features and, with the further options of an Architecture, any kind of
    network. Without evidence the score is the mean error, and the calibration holds the scores
    0.001, 0.002 ... 1.000."""
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
        "scaling": scaling.to_json() | {"constant_features": []},
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
    if evidence:
        _add_evidence(manifest, files, Network(architecture, network, scaling, error_scale), seed)
    save_artifact(path, manifest, files)


def _add_evidence(
    manifest: dict[str, Any], files: dict[str, bytes], network: Network, seed: int
) -> None:
    """Views fitted to, and calibrated on, ticks that are normally distributed."""
    length, count = network.architecture.length, network.architecture.features
    ticks = _TICKS + length
    drawn = np.random.default_rng(seed).normal(0, 1, (ticks, count)) * network.scaling.scale
    at = np.arange(ticks - length + 1)
    windows = WindowSet(drawn.astype(np.float32), at, length)
    past = History(windows, np.zeros(len(at), np.int64), at / ticks, at >= 0.7 * ticks, at * 10**9)
    found = calibrate(network, past, ("series",), most=_TICKS)
    files |= found.files()
    manifest["calibration"] |= found.section()
