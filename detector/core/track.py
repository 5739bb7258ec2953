"""One model over a stream: its features, windows, scorer, threshold and counters.

The primary track of a pipeline decides which values can be used and opens the stream's alerts. A
track beside it sees the ticks that the primary accepts, keeps episodes of its own, and publishes
nothing: it judges as if it ran alone wherever it can use what the primary can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from detector.core.alerts import RECONSTRUCTION, LikelyFault
from detector.core.classifying import FaultClassifier
from detector.core.episodes import AlertPolicy, Change, Lifecycle, open_at
from detector.core.features import FeatureSet
from detector.core.graphs import Engine
from detector.core.habits import Finding, HabitWatch, OpenAlerts
from detector.core.intake import Accepted, first_of_group
from detector.core.own_scales import OwnScales, SlotScales
from detector.core.readings import Reading, feature_rows, read
from detector.core.scores import LARGEST, Acquaintance, Score, Scored
from detector.core.slots import SlotColumns
from detector.core.ticks import Float32, Float64, Int64, Outcome
from detector.core.windows import Scales, Windows, WindowStore


@dataclass(frozen=True, slots=True)
class TrackPolicy:
    """What a track needs to know besides the model. kind: of its alerts; threshold: a window whose
    score is above it is anomalous; drift: evidence of a usual window above which a series has left
    the model's world, None: nobody asks."""

    model_version: str
    length: int
    stride: int
    threshold: float
    alerts: AlertPolicy
    kind: str = RECONSTRUCTION
    drift: float | None = None


@dataclass(frozen=True, slots=True)
class ScoredWindows:
    """The windows of a batch or a part of it. row: (w,) their last ticks, among the n; ascending
    within a series; slot, time_ns: (w,) of the series of each, and of that tick; scored: what their
    scores are made of."""

    row: Int64
    slot: Int64
    time_ns: Int64
    windows: Windows
    scored: Scored


@dataclass(frozen=True, slots=True)
class Judgement:
    """What a track says of the accepted ticks of a batch: w windows, grouped by slot.

    row: (w,) where the last tick of each window stands in the batch
    slot, time_ns: (w,) of the series of each, and of its last tick
    scored: the w scores, and what they are made of
    findings: changes of alerts by kind, that on windows first; their window is a position among
        the w
    above: windows above the threshold
    not_finite: windows whose error was not finite
    new_normals: incidents that have lasted so long that their series is judged by them
    """

    row: Int64
    slot: Int64
    time_ns: Int64
    windows: Windows
    scored: Scored
    findings: list[Finding]
    above: int
    not_finite: int
    new_normals: int

    @property
    def score(self) -> Float64:
        return self.scored.score

    @property
    def changes(self) -> list[Change]:
        """Of the alerts on windows."""
        return self.findings[0].changes

    def scored_windows(self) -> ScoredWindows:
        return ScoredWindows(self.row, self.slot, self.time_ns, self.windows, self.scored)


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why a window is strange: shares of the features, what was observed and what was expected, the
    window as the model sees it, and the evidence of each view."""

    contributions: dict[str, float]
    observed: Float32
    expected: Float32
    seen: Float32
    views: Mapping[str, float]


class Track:
    """One instance, one thread."""

    def __init__(
        self,
        policy: TrackPolicy,
        features: FeatureSet,
        score: Score,
        classifier: FaultClassifier | None = None,
        scales: OwnScales | None = None,
    ) -> None:
        self.policy = policy
        self.features = features
        self._score, self._classifier = score, classifier
        self._scales = None if scales is None else SlotScales(scales)
        self.windows = WindowStore(
            length=policy.length,
            features=len(features.names),
            stride=policy.stride,
            needs_previous=features.needs_previous,
        )
        self.lifecycle = Lifecycle(policy.alerts)
        self.habits = HabitWatch(policy.drift)

    @property
    def engine(self) -> Engine:
        """What scores its windows."""
        return self._score.engine

    @property
    def score_states(self) -> Mapping[str, SlotColumns]:
        """What its score remembers of every series, by what it is about."""
        return self._score.states

    def read(self, values: Float64) -> Reading:
        """Raw values (n, fields) as this model sees them."""
        return read(self.features, values)

    def judge(
        self,
        accepted: Accepted,
        reading: Reading,
        outcome: NDArray[np.uint8],
        opened: OpenAlerts,
        name: Callable[[int], str],
    ) -> Judgement:
        """Score the windows that the accepted ticks of a batch close. outcome: (n,) of the batch,
        where what became of each is noted; name: of the series that has a slot."""
        rows = feature_rows(self.features, accepted, reading)
        if len(rows.row) < len(accepted):
            outcome[accepted.row] = Outcome.REJECTED  # those that follow are not
        scales = self._scales_of(rows.slot, name)
        windows = self.windows.push(rows.slot, rows.restart, rows.features, scales)
        outcome[rows.row] = np.where(windows.warming, Outcome.WARMING, Outcome.STRIDED)
        last = rows.row[windows.tick]
        outcome[last] = Outcome.SCORED
        slot = rows.slot[windows.tick]
        scored = self._score.of(slot, windows)
        time_ns, threshold = rows.time_ns[windows.tick], self.policy.threshold
        habits, was_open = scored.habits, np.empty(0, np.bool_)
        if habits is not None and len(habits.row):
            opened.windows.state.reserve(int(slot.max(initial=-1)) + 1)
            was_open = opened.windows.state["severity"][slot[habits.row]] > 0
        changes = self.lifecycle.update(
            slot, scored.score, time_ns, threshold, opened.windows, muted=scored.cold
        )
        findings, new_normals = [Finding(self.policy.kind, threshold, changes)], 0
        if habits is None:
            findings += self.habits.take_back(slot, time_ns, opened)
        elif len(habits.row):
            # Who was not told of an incident need not hear that it is learned from.
            new_normals = int(np.count_nonzero(habits.lasting == 1))
            told = open_at(habits.row, slot, was_open, changes)
            habits = replace(habits, lasting=np.where(told, habits.lasting, 0.0))
            findings += self.habits.update(slot, time_ns, habits, opened)
        above = int(np.count_nonzero(scored.score > threshold))
        endless = int(np.count_nonzero(scored.score >= LARGEST))
        return Judgement(
            last, slot, time_ns, windows, scored, findings, above, endless, new_normals
        )

    def _scales_of(self, slot: Int64, name: Callable[[int], str]) -> Scales | None:
        """slot: (m,) grouped"""
        if self._scales is None or not len(slot):
            return None
        first = first_of_group(slot)
        rows = self._scales.rows(slot[first], name)
        return Scales(self._scales.scales, rows[np.cumsum(first) - 1])

    def explain(self, judgement: Judgement, changes: Sequence[Change]) -> list[Explanation]:
        """Of the window of each change."""
        at = np.array([change.window for change in changes], np.int64)
        return self.explain_at(judgement.windows, judgement.scored, at)

    def explain_at(self, windows: Windows, scored: Scored, at: Int64) -> list[Explanation]:
        """Of windows that this track has scored, by their positions among them."""
        if not len(at):
            return []
        observed, seen = windows.observed(at), windows.cut(at)
        reasons = self._score.explain(scored, at, seen)
        names = self.features.names
        return [
            Explanation(
                dict(zip(names, why.shares.tolist(), strict=True)),
                observed[i],
                windows.own(int(at[i]), why.expected),
                seen[i],
                why.views,
            )
            for i, why in enumerate(reasons)
        ]

    def likely_fault(self, window: Float32) -> LikelyFault | None:
        """(length, features) as the model sees it; None where it was taught no kinds of faults."""
        return None if self._classifier is None else self._classifier.classify(window)

    # -- what is kept

    def _of_habits(self) -> Mapping[str, SlotColumns]:
        """A score that remembers nothing knows no habits."""
        return self.habits.states if self._score.states else {}

    def states(self) -> tuple[SlotColumns, ...]:
        return (
            *(() if self._scales is None else (self._scales.state,)),
            self.windows.state,
            self.lifecycle.state,
            *self._of_habits().values(),
            *self._score.states.values(),
        )

    def acquaintance(self, slots: Int64) -> Acquaintance:
        """How well these series are known."""
        return self._score.acquaintance(slots)

    def newest(self, slot: int) -> tuple[int, Float32]:
        """Of one series: ticks since its run began, and the newest of them as features (k,
        features), k <= length - 1; a copy."""
        state = self.windows.state
        state.reserve(slot + 1)
        ticks = int(state["run"][slot])
        kept = min(max(ticks, 0), self.policy.length - 1)
        history: Float32 = state["history"][slot]
        return ticks, history[len(history) - kept :].copy()

    def full_windows(self, slots: int) -> int:
        """How many of the first so many slots have one."""
        run = self.windows.state["run"][:slots]
        return int(np.count_nonzero(run >= self.policy.length))

    def columns(self) -> dict[str, tuple[SlotColumns, str]]:
        """Each column of the state of a series, by the name it is saved under."""
        kept = {f"score.{about}": state for about, state in self._score.states.items()}
        kept |= {f"habits.{kind}": state for kind, state in self._of_habits().items()}
        kept["lifecycle"] = self.lifecycle.state
        found = {
            f"{of}.{name}": (state, name) for of, state in kept.items() for name in state.names
        }
        return found | {
            "windows.history": (self.windows.state, "history"),
            "windows.run": (self.windows.state, "run"),
        }
