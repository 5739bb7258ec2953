"""Window PCA: what of a window the principal components of normal windows do not give back
(Shyu et al. 2003), each feature's error over its mean error on normal windows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from detector.core.scaling import Scaling
from detector.core.ticks import Float32, Float64
from detector.evaluate.baselines.windows import (
    by_windows,
    require_ticks,
    sampled_windows,
    scaling_of,
)

_LENGTH, _MOST, _COMPONENTS = 32, 2000, 16
#: A feature that is given back almost exactly counts as if its error were so much of the median's.
_FLOOR = 0.1


@dataclass(frozen=True, slots=True)
class Principal:
    """components: (c, length * features); usual: (features,) mean error on normal windows."""

    scaling: Scaling
    mean: Float32
    components: Float32
    usual: Float64

    def score(self, rows: Float32) -> Float64:
        return by_windows(self.scaling.apply(rows), _LENGTH, self._of_windows)

    def _of_windows(self, windows: Float32) -> Float64:
        errors = feature_errors(windows, self.mean, self.components, len(self.usual))
        return np.asarray((errors / self.usual).mean(axis=1), np.float64)


def fit_principal(rows: Float32) -> Principal:
    require_ticks(rows, 2 * _LENGTH)
    scaling = scaling_of(rows)
    windows = sampled_windows(scaling.apply(rows), _LENGTH, _MOST)
    mean = windows.mean(axis=0)
    components = principal(windows - mean)
    errors = feature_errors(windows, mean, components, rows.shape[1]).mean(axis=0)
    usual = np.maximum(errors, _FLOOR * float(np.median(errors)))
    return Principal(scaling, mean, components, np.where(usual > 0, usual, 1.0))


def principal(centred: Float32) -> Float32:
    """The first components of rows about their mean: (c, numbers)."""
    few = len(centred) < centred.shape[1]
    square = centred @ centred.T if few else centred.T @ centred
    _, vectors = np.linalg.eigh(square.astype(np.float64))
    kept = vectors[:, ::-1][:, :_COMPONENTS].astype(np.float32)
    directions = centred.T @ kept if few else kept  # (numbers, c)
    sizes = np.linalg.norm(directions, axis=0)
    found = directions / np.where(sizes > 1e-6, sizes, np.inf)  # one of no size is none
    return np.asarray(found.T, np.float32)


def feature_errors(windows: Float32, mean: Float32, components: Float32, features: int) -> Float64:
    """(w, length * features) -> (w, features): mean squares of what is not given back."""
    centred = windows - mean
    rest = centred - (centred @ components.T) @ components
    squares = np.square(rest.reshape(len(rest), _LENGTH, features), dtype=np.float64)
    return np.asarray(squares.mean(axis=1), np.float64)
