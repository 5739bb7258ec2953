"""Model directories without training: real graphs over random, seeded weights.

They score and explain like trained ones (only worse), and cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from detector.core.features import FeatureSet
from detector.core.scaling import Scaling
from detector.model.directory import Artifact, load_artifact
from detector.model.export import classifier_graph
from detector.model.family import Architecture
from detector.model.reference import save_random_model
from detector.model.weights import DenseWeights, random_network
from detector.offline.classify import save_classifier

VALUE = {"value": "value"}


def make_artifact(
    path: Path,
    expressions: Mapping[str, str] = VALUE,
    *,
    length: int = 8,
    units: Sequence[int] = (6, 4),
    seed: int = 0,
    scale: float = 1.0,
    **options: Any,
) -> Artifact:
    """Write a model directory for features of the given scale and load it; options are those of
    an Architecture. The calibration holds scores 0.001 ... 1.000, so a quantile threshold is easy
    to foresee. With evidence=True it is evidence among normally distributed ticks instead."""
    features = FeatureSet.parse(expressions)
    save_random_model(path, features, length=length, units=units, seed=seed, scale=scale, **options)
    return load_artifact(path)


def with_classifier(artifact: Artifact, classes: Sequence[str], *, seed: int = 0) -> Artifact:
    """Rewrite a model directory of make_artifact with a classifier of random weights."""
    architecture = Architecture.from_manifest(artifact.manifest)
    kernel = np.random.default_rng(seed).normal(size=(architecture.units[-1], len(classes)))
    kernel -= kernel.mean(axis=1, keepdims=True)
    graph = classifier_graph(
        architecture,
        random_network(architecture, seed=seed, spread=0.5).encoder,
        DenseWeights(5 * kernel.astype(np.float32), np.zeros(len(classes), np.float32)),
        Scaling.from_json(artifact.manifest["scaling"]),
    )
    save_classifier(artifact, graph, {"classes": list(classes)})
    return load_artifact(artifact.path)
