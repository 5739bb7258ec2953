"""Model directories without training: real graphs over random, seeded weights.

They score and explain like trained ones (only worse), and cost milliseconds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from detector.artifact import Artifact, load_artifact
from detector.core.features import FeatureSet
from detector.model.reference import save_random_model

VALUE = {"value": "value"}


def make_artifact(
    path: Path,
    expressions: Mapping[str, str] = VALUE,
    *,
    length: int = 8,
    units: Sequence[int] = (6, 4),
    seed: int = 0,
    scale: float = 1.0,
) -> Artifact:
    """Write a model directory for features of the given scale and load it. The calibration
    holds scores 0.001 ... 1.000, so a quantile threshold is easy to foresee."""
    features = FeatureSet.parse(expressions)
    save_random_model(path, features, length=length, units=units, seed=seed, scale=scale)
    return load_artifact(path)
