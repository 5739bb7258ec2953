"""Windows to scores, through the artifact's ONNX graph.

The graph holds scaling, network and error: feature windows (n, length, features) in,
normalised per-feature errors (n, features) and what was expected of the window's last k ticks
out, whatever the kind of network. The score is the mean of a window's normalised errors: about 1
for a normal window.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from detector.core.engine import open_session
from detector.core.ticks import Float32, Float64, Int64
from detector.core.windows import Windows

#: Windows in one call of the engine: past 64 the rate no longer grows (docs/benchmarks.md),
#: and the buffers of a call stay in cache.
CHUNK = 256


class Scorer(Protocol):
    """The two questions asked of a trained model."""

    def errors(self, windows: Float32) -> Float32:
        """(n, length, features) -> (n, features) normalised errors."""

    def reconstruct(self, windows: Float32) -> Float32:
        """(n, length, features) -> what the model expected of the last k ticks, (n, k, features),
        in the features' own units. k is the model's: all of them, or fewer."""


class OnnxScorer:
    """Runs a serialized scorer graph on threads CPU threads.

    center, scale: (features,) and squash undo the graph's scaling for the few windows that
    are explained; the many that are only scored never pay for it.
    """

    def __init__(
        self, graph: bytes, *, threads: int, center: Float64, scale: Float64, squash: float
    ) -> None:
        self._session = open_session(graph, threads=threads)
        self._center, self._scale, self._squash = center, scale, squash
        shape = self._session.get_inputs()[0].shape
        self.length, self.features = int(shape[1]), int(shape[2])
        # By position: earlier models call it scaled_reconstruction.
        self._expectation = self._session.get_outputs()[1].name

    def errors(self, windows: Float32) -> Float32:
        result: Float32 = self._session.run(["errors"], {"windows": windows})[0]
        return result

    def reconstruct(self, windows: Float32) -> Float32:
        scaled = self._session.run([self._expectation], {"windows": windows})[0]
        # A relu network knows no bounds: clipped, its guess stays a number.
        z = np.clip(scaled.astype(np.float64).transpose(1, 0, 2) / self._squash, -700, 700)
        expected = self._center + self._scale * self._squash * np.sinh(z)
        limit = float(np.finfo(np.float32).max)
        result: Float32 = np.clip(expected, -limit, limit).astype(np.float32)
        return result


def score_windows(scorer: Scorer, windows: Windows, features: int) -> tuple[Float64, Float32]:
    """Scores (w,) and normalised errors (w, features) of all windows, in bounded memory."""
    errors = np.empty((len(windows), features), np.float32)
    for start in range(0, len(windows), CHUNK):
        part = slice(start, start + CHUNK)
        errors[part] = scorer.errors(windows.cut(part))
    return mean_score(errors), errors


def mean_score(errors: Float32) -> Float64:
    """(n, features) -> (n,). Each row by itself, so a score never depends on its neighbours."""
    result: Float64 = errors.mean(axis=1, dtype=np.float64)
    return result


def contributions(errors: Float32, rows: Int64) -> Float64:
    """Share of each feature in the score of the given windows; each row sums to 1."""
    part = errors[rows].astype(np.float64)
    total = part.sum(axis=1, keepdims=True)
    even = np.full_like(part, 1 / part.shape[1])
    shares: Float64 = np.divide(part, total, out=even, where=total > 0)
    return shares
