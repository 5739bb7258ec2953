"""What this machine can, and the model that is measured on it.

Machines are noisy: every figure is a median of several rounds, and the matrix product runs
between them, so that the ratio compares the same moments. One thread throughout.
"""

from __future__ import annotations

import functools
import time
from pathlib import Path
from typing import Any

import numpy as np

from detector.errors import DetectorError
from detector.model.directory import Artifact, load_artifact

Results = dict[str, Any]
FIELDS = ("a", "b", "c", "d")
LENGTH = 32
_UNITS = (32, 16)  # the reference model of docs/benchmarks.md


def matrix_product_gflops(size: int = 1024) -> float:
    """Rate of a square float32 matrix product in NumPy's BLAS, one thread (the command sets it)."""
    a = _square(size)
    started = time.perf_counter()
    for _ in range(4):
        a @ a
    return 4 * 2 * size**3 / (time.perf_counter() - started) / 1e9


def matrix_product_median() -> float:
    """Of three: what a benchmark that measures other things says of its machine."""
    return float(np.median([matrix_product_gflops() for _ in range(3)]))


@functools.cache
def _square(size: int) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.random.default_rng(0).normal(0, 1, (size, size)).astype(np.float32)


def model_to_measure(model: Path | None, directory: Path) -> Artifact:
    """The one named, or the reference model, written into directory."""
    if model is not None:
        return load_artifact(model)
    try:
        from detector.model.reference import save_reference_model  # needs onnx
    except ModuleNotFoundError as error:
        raise DetectorError(
            f"the reference model needs {error.name}: pip install 'detector[train]', "
            "or name a model with --model"
        ) from None
    save_reference_model(directory / "model", fields=FIELDS, length=LENGTH, units=_UNITS)
    return load_artifact(directory / "model")


def flop_per_window(artifact: Artifact) -> int:
    return artifact.architecture.flops_per_window()
