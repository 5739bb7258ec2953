"""TickBatch to BatchResult: intake, windows, score, threshold, alerts, in one direction.

The daemon, offline scoring, evaluation and the demo all run this object. It owns the state of
all series, and can give and take it as columns (snapshot, restore).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.alerts import (
    Alert,
    AlertLifecycle,
    AlertPolicy,
    Change,
    LikelyFault,
    Severity,
    State,
    event_id,
)
from detector.core.classifying import OnnxClassifier
from detector.core.features import FeatureSet
from detector.core.intake import Intake
from detector.core.scoring import Scorer, contributions, score_windows
from detector.core.silence import SilenceChange, SilenceWatch
from detector.core.slots import SeriesTable, SlotColumns
from detector.core.ticks import Bool, Float32, Float64, Int64, Outcome, Reject, TickBatch
from detector.core.windows import WindowStore

KIND = "reconstruction_error"
SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class PipelinePolicy:
    """What the pipeline needs to know besides the model."""

    topic: str
    length: int
    stride: int
    max_gap_s: float | None
    max_series: int
    threshold: float
    alerts: AlertPolicy
    model_version: str
    max_future_s: float | None = None
    silence_s: float | None = None
    late_is_rejected: bool = False  # whether late ticks are among the rejects too


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch came to. n ticks in order of arrival, without those that were held.

    outcome: (n,) an Outcome each
    score: (n,) of the window each tick closes, NaN where it closes none
    alerts: in order of arrival
    rejects: the ticks that cannot be used, beyond what the codec refused
    gaps: runs that ended because of max_gap_s
    changed: slots of the series that had ticks, or fell silent without one
    """

    outcome: NDArray[np.uint8]
    score: Float64
    alerts: list[Alert]
    rejects: list[Reject]
    gaps: int
    changed: Int64

    def counts(self) -> dict[Outcome, int]:
        """Ticks by outcome; the values add up to n."""
        number = np.bincount(self.outcome, minlength=len(Outcome))
        return {outcome: int(number[outcome]) for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class PipelineState:
    """The state of some series: where each belongs, and one row a series in every column."""

    series: tuple[tuple[int, str], ...]
    columns: Mapping[str, NDArray[Any]]


class Pipeline:
    """Feeds batches through all steps. One instance, one thread."""

    def __init__(
        self,
        policy: PipelinePolicy,
        features: FeatureSet,
        scorer: Scorer,
        classifier: OnnxClassifier | None = None,
    ) -> None:
        self.policy = policy
        self.features = features
        self.series = SeriesTable(max_series=policy.max_series)
        self._scorer = scorer
        self._classifier = classifier
        self._intake = Intake(
            features, max_gap_s=policy.max_gap_s, max_future_s=policy.max_future_s
        )
        self._windows = WindowStore(
            length=policy.length,
            features=len(features.names),
            stride=policy.stride,
            needs_previous=features.needs_previous,
        )
        self._lifecycle = AlertLifecycle(policy.alerts)
        self._opened = SlotColumns({"alert_id": ((16,), np.uint8), "opened_ns": ((), np.int64)})
        self._silence = SilenceWatch(silence_s=policy.silence_s)
        self._silenced = SlotColumns({"alert_id": ((16,), np.uint8), "opened_ns": ((), np.int64)})

    def process(self, batch: TickBatch, held: Bool | None = None) -> BatchResult:
        """Run a batch. Ticks of a series must come in the order of their offsets. held: (n,)
        ticks that the restored state of their series holds already: they only move the event
        time of their partition, and have no part in the result."""
        if held is not None and not held.any():
            held = None
        accepted = self._intake.accept(batch, held)
        outcome = accepted.outcome
        windows = self._windows.push(accepted.slot, accepted.restart, accepted.features)
        outcome[accepted.row] = np.where(windows.warming, Outcome.WARMING, Outcome.STRIDED)
        rows = accepted.row[windows.tick]  # batch row of each window's last tick
        outcome[rows] = Outcome.SCORED

        scores, errors = score_windows(self._scorer, windows, len(self.features.names))
        by_tick = np.full(len(batch), np.nan)
        by_tick[rows] = scores
        changes = self._lifecycle.update(accepted.slot[windows.tick], scores, self.policy.threshold)
        alerts: list[tuple[int, Alert]] = []  # with the row of its tick
        if changes:
            at = np.array([c.window for c in changes])
            observed = windows.cut(at)
            expected = self._scorer.reconstruct(observed)
            shares = contributions(errors, at)
            alerts = [
                (
                    int(rows[at[i]]),
                    self._alert(batch, rows, change, scores, shares[i], observed[i], expected[i]),
                )
                for i, change in enumerate(changes)
            ]
        silences = self._silence.update(batch, accepted, self.series)
        alerts += [(change.row, self._silence_alert(batch, change)) for change in silences]
        # Ids are made in order of the episode, alerts listed in order of arrival.
        alerts.sort(key=lambda found: (found[0], found[1].kind, found[1].series))
        rejects = [
            Reject(
                int(batch.partition[row]),
                int(batch.offset[row]),
                int(batch.index[row]),
                reason,
                self._explain(reason),
            )
            for row, reason in accepted.reason.items()
            if held is None or not held[row]
        ]
        if self.policy.late_is_rejected:
            rejects += [
                Reject(
                    int(batch.partition[row]),
                    int(batch.offset[row]),
                    int(batch.index[row]),
                    "late",
                    "older than the newest tick of its series",
                )
                for row in accepted.late.tolist()
            ]
        own = batch.slot if held is None else batch.slot[~held]
        changed = np.concatenate([own[own >= 0], np.array([s.slot for s in silences], np.int64)])
        if held is not None:
            outcome, by_tick = outcome[~held], by_tick[~held]
        return BatchResult(
            outcome, by_tick, [a for _, a in alerts], rejects, accepted.gaps, np.unique(changed)
        )

    def _alert(
        self,
        batch: TickBatch,
        rows: Int64,
        change: Change,
        scores: Float64,
        shares: Float64,
        observed: Float32,
        expected: Float32,
    ) -> Alert:
        row = int(rows[change.window])
        slot = int(batch.slot[row])
        series = self.series.name(slot)
        where = (int(batch.partition[row]), int(batch.offset[row]), int(batch.index[row]))
        identity = event_id(self.policy.topic, *where, series, KIND)
        self._opened.reserve(slot + 1)
        if change.state is State.OPENED:
            self._opened["alert_id"][slot] = np.frombuffer(identity, np.uint8)
            self._opened["opened_ns"][slot] = batch.time_ns[row]
        return Alert(
            id=identity.hex(),
            alert_id=self._opened["alert_id"][slot].tobytes().hex(),
            kind=KIND,
            state=change.state,
            severity=change.severity,
            series=series,
            score=float(scores[change.window]),
            peak_score=change.peak,
            threshold=self.policy.threshold,
            contributions=dict(zip(self.features.names, shares.tolist(), strict=True)),
            observed=observed,
            expected=expected,
            time_ns=int(batch.time_ns[row]),
            opened_ns=int(self._opened["opened_ns"][slot]),
            topic=self.policy.topic,
            partition=where[0],
            offset=where[1],
            index=where[2],
            received_ms=int(batch.received_ms[row]),
            model_version=self.policy.model_version,
            fault=self._fault(change, observed),
        )

    def _fault(self, change: Change, observed: Float32) -> LikelyFault | None:
        """The window that ends an episode holds its end, not the fault."""
        if self._classifier is None or change.state is State.RESOLVED:
            return None
        return self._classifier.classify(observed)

    def _silence_alert(self, batch: TickBatch, change: SilenceChange) -> Alert:
        series, row = self.series.name(change.slot), change.row
        where = (int(batch.partition[row]), int(batch.offset[row]), int(batch.index[row]))
        identity = event_id(self.policy.topic, *where, series, SILENCE)
        self._silenced.reserve(change.slot + 1)
        if change.opened:
            self._silenced["alert_id"][change.slot] = np.frombuffer(identity, np.uint8)
            self._silenced["opened_ns"][change.slot] = batch.time_ns[row]
        nothing = np.empty((0, len(self.features.names)), np.float32)
        silent_s = change.silent_ns / 1e9
        return Alert(
            id=identity.hex(),
            alert_id=self._silenced["alert_id"][change.slot].tobytes().hex(),
            kind=SILENCE,
            state=State.OPENED if change.opened else State.RESOLVED,
            severity=Severity.WARNING,
            series=series,
            score=silent_s,
            peak_score=silent_s,
            threshold=self.policy.silence_s or 0.0,
            contributions={},
            observed=nothing,
            expected=nothing,
            time_ns=int(batch.time_ns[row]),
            opened_ns=int(self._silenced["opened_ns"][change.slot]),
            topic=self.policy.topic,
            partition=where[0],
            offset=where[1],
            index=where[2],
            received_ms=int(batch.received_ms[row]),
            model_version=self.policy.model_version,
        )

    def _explain(self, reason: str) -> str:
        if reason == "series_limit":
            return f"more than limits.max_series = {self.policy.max_series} series"
        if reason == "far_future":
            return (
                f"more than input.max_future_s = {self.policy.max_future_s:g} past the broker's "
                "timestamp of its record"
            )
        return "a field, or a feature made of it, is not finite"

    # -- what people watch

    def active_series(self) -> int:
        return len(self.series)

    def warming_series(self) -> int:
        """Series that have no full window yet."""
        run = self._windows.state["run"][: self.series.capacity]
        return len(self.series) - int(np.count_nonzero(run >= self.policy.length))

    def open_alerts(self) -> int:
        return int(
            np.count_nonzero(self._lifecycle.state["severity"])
            + np.count_nonzero(self._silence.state["silent"])
        )

    def event_ns(self, partition: int) -> int | None:
        """The newest accepted time of a partition, nanoseconds since the epoch."""
        return self._silence.event_ns(partition)

    # -- state

    def spec(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and type of one series' row in every column of its state."""
        return {
            f"{part}.{name}": (state[name].shape[1:], state[name].dtype)
            for part, state in self._state().items()
            for name in state.names
        }

    def snapshot(self, slots: Int64) -> PipelineState:
        """Copies of the state of the given slots."""
        columns = {
            f"{part}.{name}": rows
            for part, state in self._state().items()
            for name, rows in state.take(slots).items()
        }
        names = tuple((self.series.partition(s), self.series.name(s)) for s in slots.tolist())
        return PipelineState(names, columns)

    def restore(self, saved: PipelineState) -> Int64:
        """Take over saved series, as if their ticks had just been processed. Returns their
        slots, -1 where limits.max_series leaves no room: those warm up again. A column that is
        not among the saved stays zero."""
        slots = np.array(
            [int(self.series.slots(partition, [name])[0]) for partition, name in saved.series],
            np.int64,
        )
        room = slots >= 0
        for part, state in self._state().items():
            rows = {
                name: saved.columns[f"{part}.{name}"][room]
                for name in state.names
                if f"{part}.{name}" in saved.columns
            }
            state.put(slots[room], rows)
        return slots

    def set_event_ns(self, partition: int, event_ns: int) -> None:
        """Set the event time of a partition whose series were restored."""
        self._silence.set_event_ns(partition, event_ns)

    def forget(self, partition: int) -> None:
        """Drop the series of a partition that another worker has now."""
        gone = self.series.release(partition)
        for state in self._state().values():
            state.clear(gone)
        self._silence.forget(partition)

    def forget_all(self) -> None:
        for partition in self.series.partitions():
            self.forget(partition)

    def _state(self) -> dict[str, SlotColumns]:
        return {
            "lifecycle": self._lifecycle.state,
            "opened": self._opened,
            "silence": self._silence.state,
            "silenced": self._silenced,
            "intake": self._intake.newest,
            "windows": self._windows.state,
        }
