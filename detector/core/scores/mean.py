"""The mean of the features' normalised errors: about 1 for a normal window. The score of models
that were trained before evidence."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from detector.core.contributions import contributions
from detector.core.graphs import Engine
from detector.core.scorer import Scorer, all_errors
from detector.core.scores.score import Acquaintance, Scored, Why, finite_or_largest
from detector.core.slots import SlotColumns
from detector.core.ticks import Float32, Float64, Int64
from detector.core.windows import Windows


class MeanScore:
    states: Mapping[str, SlotColumns] = MappingProxyType({})

    def __init__(self, scorer: Scorer, *, features: int) -> None:
        self._scorer, self._features = scorer, features

    def of(self, slot: Int64, windows: Windows) -> Scored:
        errors = all_errors(self._scorer, windows, self._features)
        score, nothing = mean_score(errors), np.empty((len(windows), 0))
        cold = np.zeros(len(windows), np.bool_)
        return Scored(score, errors, nothing, nothing, static=score, adaptive=score, cold=cold)

    @property
    def engine(self) -> Engine:
        return self._scorer.engine

    def acquaintance(self, slots: Int64) -> Acquaintance:
        return Acquaintance(0, 0, np.zeros(len(slots)))

    def explain(self, scored: Scored, at: Int64, observed: Float32) -> list[Why]:
        shares = contributions(scored.errors[at])
        expected = self._scorer.reconstruct(observed)
        return [Why(share, {}, said) for share, said in zip(shares, expected, strict=True)]


def mean_score(errors: Float32) -> Float64:
    """(n, features) -> (n,). Each row by itself: a score never depends on its neighbours."""
    return finite_or_largest(errors.mean(axis=1, dtype=np.float64))
