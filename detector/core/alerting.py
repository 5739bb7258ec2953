"""What happened to a series as alerts: identity, episode and explanation put together."""

from __future__ import annotations

import numpy as np

from detector.core.alerts import (
    ANOMALIES,
    FORGOTTEN,
    MUTED,
    SILENCE,
    UNMUTED,
    Alert,
    Severity,
    State,
    event_id,
)
from detector.core.episodes import Change, Episodes
from detector.core.habits import Finding
from detector.core.mutes import Turn, Turned
from detector.core.silence import SilenceChange
from detector.core.stream import Stream
from detector.core.ticks import Float32, TickBatch
from detector.core.track import Explanation, Judgement, Track


class Alerting:
    """Makes the alerts of a stream, in the name of a track. Episodes are named here: the opening's
    id is the name."""

    def __init__(self, stream: Stream, *, topic: str) -> None:
        self._stream, self._topic = stream, topic

    def of_windows(
        self, batch: TickBatch, track: Track, judged: Judgement
    ) -> list[tuple[int, Alert]]:
        """One for each change, with the row of its tick."""
        return [
            self._of_change(batch, track, judged, finding, change, why)
            for finding in judged.findings
            if finding.changes
            for change, why in zip(
                finding.changes, track.explain(judged, finding.changes), strict=True
            )
        ]

    def _of_change(
        self,
        batch: TickBatch,
        track: Track,
        judged: Judgement,
        finding: Finding,
        change: Change,
        why: Explanation,
    ) -> tuple[int, Alert]:
        row = int(judged.row[change.window])
        slot = self._stream.series.find(int(batch.partition[row]), batch.series[row])
        alert = self._alert(
            track,
            batch,
            row,
            slot,
            finding.kind,
            self._episodes(finding.kind),
            state=change.state,
            severity=change.severity,
            score=change.score,
            peak=change.peak,
            threshold=finding.threshold,
            why=why,
        )
        return row, alert

    def _episodes(self, kind: str) -> Episodes:
        return self._stream.opened.habits.get(kind, self._stream.opened.windows)

    def of_silence(
        self,
        batch: TickBatch,
        track: Track,
        change: SilenceChange,
        state: State | None = None,
        reason: str | None = None,
    ) -> Alert:
        """state: None: what the change says."""
        silent_s = change.silent_ns / 1e9
        if state is None:
            state = State.OPENED if change.opened else State.RESOLVED
        return self._alert(
            track,
            batch,
            change.row,
            change.slot,
            SILENCE,
            self._stream.silenced,
            state=state,
            severity=Severity.WARNING,
            score=silent_s,
            peak=silent_s,
            threshold=self._stream.policy.silence_s or 0.0,
            reason=reason,
        )

    def last_of(self, tick: TickBatch, track: Track, slot: int) -> list[Alert]:
        """What resolves the open alerts of a series that is forgotten after this one tick."""
        return self._of_open(tick, track, slot, State.RESOLVED, FORGOTTEN)

    def of_turn(
        self, tick: TickBatch, track: Track, turn: Turn
    ) -> tuple[list[Turned], list[Alert]]:
        """Other mutes come into force before this one tick: what began and ended, and what tells
        it of the open alerts of the series that are concerned."""
        stream = self._stream
        mutes, series = stream.mutes, stream.series
        before = mutes.in_force(turn.partition)
        turned = mutes.turn(turn, int(tick.offset[0]))
        alerts = []
        inside = series.of_partition(turn.partition)
        for slot in sorted(inside[stream.has_open(inside)].tolist(), key=series.name):
            name = series.name(slot)
            muted = mutes.covers(turn.now, name)
            if muted != mutes.covers(before, name):
                reason = MUTED if muted else UNMUTED
                alerts += self._of_open(tick, track, slot, State.UPDATED, reason)
        return turned, alerts

    def _of_open(
        self, tick: TickBatch, track: Track, slot: int, state: State, reason: str
    ) -> list[Alert]:
        """The same of each open alert of a series."""
        stream, alerts = self._stream, []
        thresholds = {track.policy.kind: track.policy.threshold, **track.habits.thresholds}
        for kind, threshold in thresholds.items():
            episodes = self._episodes(kind)
            episodes.state.reserve(slot + 1)
            severity = int(episodes.state["severity"][slot])
            if severity:
                alerts.append(
                    self._alert(
                        track,
                        tick,
                        0,
                        slot,
                        kind,
                        episodes,
                        state=state,
                        severity=Severity(severity),
                        score=None,
                        peak=float(episodes.state["peak"][slot]),
                        threshold=threshold,
                        reason=reason,
                    )
                )
        stream.silence.state.reserve(slot + 1)
        if stream.silence.state["silent"][slot]:
            now_ns = stream.event_ns(int(tick.partition[0]))
            assert now_ns is not None
            silent_ns = now_ns - int(stream.silence.state["heard_ns"][slot])
            change = SilenceChange(slot, 0, False, silent_ns)
            alerts.append(self.of_silence(tick, track, change, state, reason))
        return alerts

    def _alert(
        self,
        track: Track,
        batch: TickBatch,
        row: int,
        slot: int,
        kind: str,
        episodes: Episodes,
        *,
        state: State,
        severity: Severity,
        score: float | None,
        peak: float,
        threshold: float,
        why: Explanation | None = None,
        reason: str | None = None,
    ) -> Alert:
        """The alert that the tick at row of the batch brings about, for the series in slot."""
        series = self._stream.series.name(slot)
        where = (int(batch.partition[row]), int(batch.offset[row]), int(batch.index[row]))
        # The tick that moves the clock may open a silence and end it by forgetting its series.
        what = kind if reason is None else f"{kind}/{reason}"
        identity = event_id(self._topic, *where, series, what)
        if state is State.OPENED:
            episodes.open(slot, identity, int(batch.time_ns[row]))
        nothing: Float32 = np.empty((0, len(track.features.names)), np.float32)
        why = why or Explanation({}, nothing, nothing, nothing, {})
        # The window that ends an episode holds its end, not the fault.
        looks_like_one = len(why.observed) > 0 and state is not State.RESOLVED
        looks_like_one &= kind in ANOMALIES
        return Alert(
            id=identity.hex(),
            alert_id=episodes.alert_id(slot),
            kind=kind,
            state=state,
            severity=severity,
            series=series,
            score=score,
            peak_score=peak,
            threshold=threshold,
            contributions=why.contributions,
            observed=why.observed,
            expected=why.expected,
            time_ns=int(batch.time_ns[row]),
            opened_ns=episodes.opened_ns(slot),
            topic=self._topic,
            partition=where[0],
            offset=where[1],
            index=where[2],
            received_ms=int(batch.received_ms[row]),
            model_version=track.policy.model_version,
            fault=track.likely_fault(why.seen) if looks_like_one else None,
            reason=reason,
            views=why.views,
            muted=self._stream.mutes.muted(where[0], series),
        )
