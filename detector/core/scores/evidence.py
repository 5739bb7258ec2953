"""Evidence: -log10 of the share of normal windows that look as strange.

Every view gives a window a number; its survival turns that into evidence. What counts is by how
many spreads log(1 + evidence) stands above the slow level of its series; the root of the sum of
squares over the views is its distance from normal, and the survival of that on held-out normal
windows, taken through the same levels, is the score: 4 means one normal window in ten thousand. All
of it looks at normal data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detector.core.blocks import BLOCK, first_of_groups, in_order
from detector.core.contributions import contributions
from detector.core.graphs import Engine
from detector.core.levels import Levels
from detector.core.scorer import ViewScorer, look_at_all
from detector.core.scores.score import LARGEST, Acquaintance, Habits, Scored, Why
from detector.core.slots import SlotColumns
from detector.core.survival import Survival, Survivals
from detector.core.tails import PRIOR, Tails
from detector.core.ticks import Bool, Float32, Float64, Int64
from detector.core.windows import Windows


@dataclass(frozen=True, slots=True)
class Calibrated:
    """What normal data taught. views: names, in the graph's order; survivals: of each view's
    numbers; levels, spreads: (views,) the mean of log(1 + evidence) of normal windows, and how far
    they are from it in the mean; total: of the distances."""

    views: tuple[str, ...]
    survivals: tuple[Survival, ...]
    levels: Float64
    spreads: Float64
    total: Survival

    def evidence(self, numbers: Float32) -> Float64:
        """(w, views) -> the evidence of each by itself."""
        return evidence_of(Survivals(self.survivals), numbers)

    def to_json(self) -> dict[str, Any]:
        return {
            "views": [
                {"name": name, "level": level, "spread": spread, **survival.to_json()}
                for name, level, spread, survival in zip(
                    self.views,
                    self.levels.tolist(),
                    self.spreads.tolist(),
                    self.survivals,
                    strict=True,
                )
            ],
            "total": self.total.to_json(),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibrated:
        """Raises KeyError, TypeError, ValueError."""
        views: Sequence[Mapping[str, Any]] = data["views"]
        if any("spread" not in view for view in views):
            raise ValueError("an earlier program wrote it, without spreads")
        levels = np.array([float(view["level"]) for view in views])
        spreads = np.array([float(view["spread"]) for view in views])
        if not (len(views) and np.isfinite([*levels, *spreads]).all() and (spreads >= 0).all()):
            raise ValueError("levels")
        return cls(
            tuple(str(view["name"]) for view in views),
            tuple(Survival.from_json(view) for view in views),
            levels,
            spreads,
            Survival.from_json(data["total"]),
        )


class EvidenceScore:
    """adaptive: whether the score is adjusted to the tail of each series, which is followed in any
    case; cold_windows: of a series that was never seen, so many cannot alert."""

    def __init__(
        self,
        scorer: ViewScorer,
        calibrated: Calibrated,
        *,
        features: int,
        levels: Levels,
        tails: Tails,
        adaptive: bool,
        cold_windows: int,
    ) -> None:
        self._cold_windows = cold_windows
        self._scorer, self._calibrated, self._features = scorer, calibrated, features
        self._levels, self._tails, self._adaptive = levels, tails, adaptive
        self._views, self._total = Survivals(calibrated.survivals), Survivals((calibrated.total,))

    @property
    def states(self) -> Mapping[str, SlotColumns]:
        return {"levels": self._levels.state, "tails": self._tails.state}

    def of(self, slot: Int64, windows: Windows) -> Scored:
        calibrated = self._calibrated
        found = look_at_all(
            self._scorer, windows, features=self._features, views=len(calibrated.views)
        )
        evidence = evidence_of(self._views, found.views)
        cold = self._cold(slot)
        weight, displaced = self._levels.excess(slot, np.log1p(evidence))
        rare = self._rare(np.concatenate([weight, displaced.value]))
        static, drift = rare[: len(slot)], rare[len(slot) :]
        adaptive, lasting = self._tails.adjust(slot, static)
        finite = np.isfinite(found.views)
        if not finite.all():
            endless = ~finite.all(axis=1)
            static[endless] = adaptive[endless] = LARGEST
        score = adaptive if self._adaptive else static
        habits = Habits(displaced.row, drift, lasting.value)
        return Scored(score, found.errors, evidence, weight, static, adaptive, cold, habits)

    @property
    def engine(self) -> Engine:
        return self._scorer.engine

    def acquaintance(self, slots: Int64) -> Acquaintance:
        seen = self._tails.seen(slots)
        drift = self._rare(self._levels.displaced(slots))
        cold = int(np.count_nonzero(seen < self._cold_windows))
        return Acquaintance(cold, int(np.count_nonzero(seen < PRIOR * BLOCK)) - cold, drift)

    def _rare(self, weight: Float64) -> Float64:
        """(w, views) -> (w,), the evidence of their distances."""
        rare: Float64 = self._total.evidence(distance(weight)[None])[0]
        return rare

    def _cold(self, slot: Int64) -> Bool:
        """(w,) whether the series of each window is not known yet."""
        before = self._tails.seen(slot)
        if not len(slot) or int(before.min()) >= self._cold_windows:
            return np.zeros(len(slot), np.bool_)
        begins = first_of_groups(slot)
        sizes = np.diff(np.append(begins, len(slot)))
        rank = np.arange(len(slot)) - np.repeat(begins, sizes)
        cold: Bool = before + rank < self._cold_windows
        return cold

    def explain(self, scored: Scored, at: Int64, observed: Float32) -> list[Why]:
        """A feature's share is that in each view, weighted by the view's part in the score. What
        was expected is what the network said; where a memory has the largest part, what it
        remembers."""
        names = self._calibrated.views
        weight = scored.weight[at]
        parts = np.stack([contributions(self._scorer.shares(observed, name)) for name in names])
        mixed = np.zeros(parts.shape[1:])
        for view, part in enumerate(parts):  # in order: a sum that no neighbour changes
            mixed += weight[:, view, None] * part
        shares = contributions(np.where(weight.any(axis=1, keepdims=True), mixed, parts.sum(0)))
        said = self._scorer.reconstruct(observed)
        reasons = []
        for i, leading in enumerate(weight.argmax(axis=1).tolist()):
            remembered = self._scorer.nearest(observed[i : i + 1], names[leading])
            # One tick alone tells less than what the network expected of all.
            if remembered is not None and remembered.shape[1] > 1:
                expected = remembered[0]
            else:
                expected = said[i]
            views = dict(zip(names, scored.evidence[at[i]].tolist(), strict=True))
            reasons.append(Why(shares[i], views, expected))
        return reasons


def evidence_of(views: Survivals, numbers: Float32) -> Float64:
    """(w, views) -> the evidence of each by itself."""
    return np.ascontiguousarray(views.evidence(numbers.T.astype(np.float64, order="C")).T)


def distance(weight: Float64) -> Float64:
    """(w, views) -> (w,), the root of the sum of squares, one view after the other: no neighbour
    changes it."""
    result: Float64 = np.sqrt(in_order(np.square(weight.T, order="C")))
    return result
