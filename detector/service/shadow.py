"""A model in the shadow: it scores the ticks that the one in use accepts, publishes nothing, and is
compared with it.

Rates and agreement are of the windows that both have scored; the rank correlation is Spearman's,
over the newest of them. They are counted as windows are scored, whether or not their transaction is
committed in the end.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from detector.core.alerts import State
from detector.core.exchange import lend_windows
from detector.core.habits import OpenAlerts
from detector.core.pipeline import BatchResult, Beside, Pipeline
from detector.core.ticks import Float64
from detector.core.track import Track
from detector.model.directory import Artifact
from detector.service.model_metrics import ModelMetrics

#: Pairs of scores that are compared.
NEWEST = 4096
#: Between two comparisons.
_EVERY_S = 5.0


def rank_correlation(one: Float64, other: Float64) -> float:
    """Spearman's, with the mean rank of equal scores; NaN where one of them never changes."""
    if len(one) < 2:
        return math.nan
    ranks = []
    for scores in (one, other):
        _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
        last = np.cumsum(counts)
        ranks.append((last - (counts - 1) / 2)[inverse])
    a, b = (rank - rank.mean() for rank in ranks)
    spread = math.sqrt(float(a @ a) * float(b @ b))
    return float(a @ b) / spread if spread else math.nan


@dataclass(frozen=True, slots=True)
class Standing:
    """How both have got on. windows: scored by both; above, opened: of the one in use, and of the
    one in the shadow; agreement: share of the newest windows; NaN: not known."""

    model: str
    windows: int
    above: tuple[int, int]
    opened: tuple[int, int]
    agreement: float
    rank_correlation: float


class Shadow:
    """One instance, one thread but for standing, which any may ask."""

    def __init__(self, artifact: Artifact, track: Track, metrics: ModelMetrics) -> None:
        self.artifact, self.track, self._metrics = artifact, track, metrics
        self._scores = np.zeros((NEWEST, 2))
        self._above = np.zeros((NEWEST, 2), np.bool_)
        self._at = 0  # pairs so far
        self._compared_s = -math.inf
        self.standing = Standing(artifact.version, 0, (0, 0), (0, 0), math.nan, math.nan)

    def attach(self, pipeline: Pipeline) -> None:
        """In the place of any other. It sees what the one in use sees, and goes on from its
        windows where they are the same."""
        pipeline.beside[:] = [Beside(self.track, OpenAlerts())]
        lend_windows(pipeline, pipeline.stream.series.used())
        kind = self.artifact.manifest["model"]["kind"]
        self._metrics.no_shadow()
        self._metrics.shadow.info({"version": self.artifact.version, "kind": kind})

    def note(self, result: BatchResult, primary: Track, now_s: float) -> None:
        """What both said of a batch."""
        verdict = result.beside[0]
        both = ~(np.isnan(result.score) | np.isnan(verdict.score))
        pairs = np.stack([result.score[both], verdict.score[both]], axis=1)
        above = pairs > [primary.policy.threshold, self.track.policy.threshold]
        opened = (
            sum(a.state is State.OPENED and a.kind == primary.policy.kind for a in result.alerts),
            sum(change.state is State.OPENED for change in verdict.changes),
        )
        self._keep(pairs, above)
        self._count(len(pairs), above, opened)
        if now_s - self._compared_s >= _EVERY_S:
            self._compared_s = now_s
            self._compare()

    def _keep(self, pairs: Float64, above: NDArray[np.bool_]) -> None:
        kept = min(len(pairs), NEWEST)
        at = (self._at + np.arange(len(pairs) - kept, len(pairs))) % NEWEST
        self._scores[at] = pairs[len(pairs) - kept :]
        self._above[at] = above[len(pairs) - kept :]
        self._at += len(pairs)

    def _count(
        self,
        windows: int,
        above: NDArray[np.bool_],
        opened: tuple[int, int],
    ) -> None:
        so_far, metrics = self.standing, self._metrics
        counts = np.count_nonzero(above, axis=0).tolist()
        metrics.windows.inc(windows)
        for at, track in enumerate(("primary", "shadow")):
            metrics.above.labels(track).inc(counts[at])
            metrics.opened.labels(track).inc(opened[at])
        self.standing = Standing(
            so_far.model,
            so_far.windows + windows,
            (so_far.above[0] + counts[0], so_far.above[1] + counts[1]),
            (so_far.opened[0] + opened[0], so_far.opened[1] + opened[1]),
            so_far.agreement,
            so_far.rank_correlation,
        )

    def _compare(self) -> None:
        known = min(self._at, NEWEST)
        if not known:
            return
        scores, above = self._scores[:known], self._above[:known]
        agreement = float(np.mean(above[:, 0] == above[:, 1]))
        correlation = rank_correlation(scores[:, 0], scores[:, 1])
        self._metrics.agreement.set(agreement)
        self._metrics.correlation.set(correlation)
        was = self.standing
        self.standing = Standing(
            was.model, was.windows, was.above, was.opened, agreement, correlation
        )
