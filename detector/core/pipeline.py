"""TickBatch to BatchResult: stream, tracks, alerts, in one direction.

The library, the daemon, offline scoring, evaluation and the demo all run this object: one stream
(what outlives a model), the primary track over it (one model), and any number of tracks beside it
that publish nothing. It can give and take the state of series as columns (snapshot, restore).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain, groupby
from typing import Any

import numpy as np
from numpy.typing import NDArray

from detector.core.alerting import Alerting
from detector.core.alerts import Alert
from detector.core.episodes import Change
from detector.core.habits import OpenAlerts
from detector.core.mutes import Turn, Turned
from detector.core.readings import Reading
from detector.core.refusals import rejects
from detector.core.scores import Acquaintance
from detector.core.series import NO_SLOT
from detector.core.slots import SlotColumns
from detector.core.stream import Arrivals, Screened, Stream
from detector.core.ticks import Float64, Int64, Outcome, Reject, TickBatch
from detector.core.track import ScoredWindows, Track


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a track beside the primary says of n ticks: outcome and score as in BatchResult, and
    the changes of its own episodes, which nobody else sees."""

    outcome: NDArray[np.uint8]
    score: Float64
    changes: list[Change]


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A series that left. slot: the one it had; another series may have it by now."""

    slot: int
    partition: int
    name: str


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What a batch came to. n ticks in order of arrival, without those that were held.

    outcome: (n,) an Outcome each
    score: (n,) of the window each tick closes, NaN where it closes none
    alerts: in order of arrival
    rejects: the ticks that cannot be used, beyond what the codec refused
    gaps: runs that ended because of max_gap_s
    changed: slots of the series whose state is another now, and that are still there
    forgotten: the series that left, in order
    above: windows above the threshold
    not_finite: windows whose error was not finite
    new_normals: incidents that have become the new normal of their series
    windows: those that were scored
    beside: of each track beside the primary
    turned: mutes that began or ended
    """

    outcome: NDArray[np.uint8]
    score: Float64
    alerts: list[Alert]
    rejects: list[Reject]
    gaps: int
    changed: Int64
    forgotten: tuple[Forgotten, ...]
    above: int
    not_finite: int
    new_normals: int
    windows: tuple[ScoredWindows, ...]
    beside: tuple[Verdict, ...]
    turned: tuple[Turned, ...] = ()

    def counts(self) -> dict[Outcome, int]:
        """Ticks by outcome; the values add up to n."""
        number = np.bincount(self.outcome, minlength=len(Outcome))
        return {outcome: int(number[outcome]) for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class PipelineState:
    """The state of some series: where each belongs, and one row a series in every column."""

    series: tuple[tuple[int, str], ...]
    columns: Mapping[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Beside:
    """A track that publishes nothing, and its own open alerts."""

    track: Track
    opened: OpenAlerts


class Pipeline:
    """One instance, one thread. topic: the ticks' own, for the ids of alerts; late_is_rejected:
    whether late ticks are among the rejects too."""

    def __init__(
        self,
        stream: Stream,
        primary: Track,
        *,
        topic: str,
        late_is_rejected: bool = False,
        beside: Sequence[Track] = (),
    ) -> None:
        self.stream, self.primary, self.topic = stream, primary, topic
        self._alerting = Alerting(stream, topic=topic)
        self._late_is_rejected = late_is_rejected
        self.beside = [Beside(track, OpenAlerts()) for track in beside]

    def process(self, batch: TickBatch) -> BatchResult:
        """Run a batch. Ticks of a series must come in the order of their offsets. Ticks that the
        restored state of their series holds already only move the clock of their partition, and
        have no part in the result."""
        tracks = (self.primary, *(b.track for b in self.beside))
        readings = [track.read(batch.values) for track in tracks]
        screened = self.stream.screen(batch, readings[0].usable)
        borders = self.stream.borders(batch, screened)
        turns = self.stream.turns(batch, screened)
        if not borders and not turns:
            return self._advance(batch, screened, readings)
        cuts = {len(batch), *(border + 1 for border in borders), *(turn.row for turn in turns)}
        ends = sorted(cuts - {0})
        parts = []
        for begin, end in zip([0, *ends[:-1]], ends, strict=True):
            rows = slice(begin, end)
            if turns and turns[0].row == begin:
                parts.append(self._turn(batch.part(slice(begin, begin + 1)), turns.pop(0)))
            parts.append(
                self._advance(
                    batch.part(rows), screened.part(rows), [r.part(rows) for r in readings]
                )
            )
            if end - 1 in borders:
                parts.append(self._forget(batch.part(slice(end - 1, end))))
        return self.joined(parts)

    def _advance(
        self, batch: TickBatch, screened: Screened, readings: Sequence[Reading]
    ) -> BatchResult:
        """Run a batch after whose last tick at most somebody has to be forgotten."""
        arrivals = self.stream.accept(batch, screened)
        outcome, accepted = arrivals.outcome.copy(), arrivals.accepted
        judged = self.primary.judge(
            accepted, readings[0], outcome, self.stream.opened, self.stream.series.name
        )
        score = np.full(len(batch), np.nan)
        score[judged.row] = judged.score
        alerts = self._alerting.of_windows(batch, self.primary, judged)
        alerts += [
            (c.row, self._alerting.of_silence(batch, self.primary, c)) for c in arrivals.silences
        ]
        # Ids are made in order of the episode, alerts listed in order of arrival.
        alerts.sort(key=lambda found: (found[0], found[1].kind, found[1].series))
        beside = [
            self._verdict(one, arrivals, reading, batch)
            for one, reading in zip(self.beside, readings[1:], strict=True)
        ]
        refused = rejects(
            batch, arrivals, self.stream.policy, late_is_rejected=self._late_is_rejected
        )
        windows = judged.scored_windows()
        changed = accepted.slot[accepted.first]  # ascending
        if arrivals.silences:
            changed = np.union1d(changed, [s.slot for s in arrivals.silences])
        if arrivals.held is not None:
            kept = ~arrivals.held
            outcome, score = outcome[kept], score[kept]
            beside = [Verdict(v.outcome[kept], v.score[kept], v.changes) for v in beside]
            row = (np.cumsum(kept) - 1)[judged.row]
            windows = replace(windows, row=row)
        return BatchResult(
            outcome=outcome,
            score=score,
            alerts=[alert for _, alert in alerts],
            rejects=refused,
            gaps=accepted.gaps,
            changed=changed,
            forgotten=(),
            above=judged.above,
            not_finite=judged.not_finite,
            new_normals=judged.new_normals,
            windows=(windows,) if len(judged.row) else (),
            beside=tuple(beside),
        )

    def _verdict(
        self, one: Beside, arrivals: Arrivals, reading: Reading, batch: TickBatch
    ) -> Verdict:
        outcome, score = arrivals.outcome.copy(), np.full(len(batch), np.nan)
        judged = one.track.judge(
            arrivals.accepted, reading, outcome, one.opened, self.stream.series.name
        )
        score[judged.row] = judged.score
        return Verdict(outcome, score, judged.changes)

    def joined(self, parts: Sequence[BatchResult]) -> BatchResult:
        """One result of consecutive ones."""
        begins = np.cumsum([0, *(len(p.outcome) for p in parts)]).tolist()
        changed = np.unique(np.concatenate([p.changed for p in parts]))
        still = [self.stream.series.in_use(slot) for slot in changed.tolist()]
        return BatchResult(
            outcome=np.concatenate([p.outcome for p in parts]),
            score=np.concatenate([p.score for p in parts]),
            alerts=[a for p in parts for a in p.alerts],
            rejects=[r for p in parts for r in p.rejects],
            gaps=sum(p.gaps for p in parts),
            changed=changed[np.array(still, np.bool_)],
            forgotten=tuple(one for p in parts for one in p.forgotten),
            above=sum(p.above for p in parts),
            not_finite=sum(p.not_finite for p in parts),
            new_normals=sum(p.new_normals for p in parts),
            windows=tuple(
                replace(w, row=w.row + begin)
                for p, begin in zip(parts, begins, strict=False)
                for w in p.windows
            ),
            beside=tuple(
                Verdict(
                    np.concatenate([v.outcome for v in verdicts]),
                    np.concatenate([v.score for v in verdicts]),
                    list(chain.from_iterable(v.changes for v in verdicts)),
                )
                for verdicts in zip(*(p.beside for p in parts), strict=True)
            ),
            turned=tuple(one for p in parts for one in p.turned),
        )

    # -- mutes that begin and end

    def _turn(self, tick: TickBatch, turn: Turn) -> BatchResult:
        turned, alerts = self._alerting.of_turn(tick, self.primary, turn)
        return self._without_ticks(alerts, turned=tuple(turned))

    def _without_ticks(
        self,
        alerts: list[Alert],
        *,
        forgotten: tuple[Forgotten, ...] = (),
        turned: tuple[Turned, ...] = (),
    ) -> BatchResult:
        """What happens between two ticks."""
        nothing = np.empty(0, np.uint8)
        return BatchResult(
            outcome=nothing,
            score=np.empty(0),
            alerts=alerts,
            rejects=[],
            gaps=0,
            changed=np.empty(0, np.int64),
            forgotten=forgotten,
            above=0,
            not_finite=0,
            new_normals=0,
            windows=(),
            beside=tuple(Verdict(nothing, np.empty(0), []) for _ in self.beside),
            turned=turned,
        )

    # -- series that leave

    def _forget(self, tick: TickBatch) -> BatchResult:
        """Forget the series that are due after this one tick. Their open alerts are resolved."""
        partition = int(tick.partition[0])
        alerts, forgotten, slots = [], [], self.stream.due(partition)
        for slot in slots:
            forgotten.append(Forgotten(slot, partition, self.stream.series.name(slot)))
            alerts += self._alerting.last_of(tick, self.primary, slot)
        self._clear(np.array(slots, np.int64))
        return self._without_ticks(alerts, forgotten=tuple(forgotten))

    def _clear(self, slots: Int64) -> None:
        self.stream.forget(slots)
        self._clear_tracks(slots)

    def _clear_tracks(self, slots: Int64) -> None:
        for track in (self.primary, *(b.track for b in self.beside)):
            for columns in track.states():
                columns.clear(slots)
        for one in self.beside:
            for columns in one.opened.states():
                columns.clear(slots)

    # -- what people watch

    def active_series(self) -> int:
        return len(self.stream.series)

    def warming_series(self) -> int:
        """Series that have no full window yet."""
        return self.active_series() - self.primary.full_windows(self.stream.series.capacity)

    def open_alerts(self) -> int:
        return int(
            sum(self.open_by_kind().values())
            + np.count_nonzero(self.stream.silence.state["silent"])
        )

    def open_by_kind(self) -> dict[str, int]:
        """Alerts open now, on windows and on habits."""
        opened = self.stream.opened
        several = {self.primary.policy.kind: opened.windows, **opened.habits}
        return {
            kind: int(np.count_nonzero(episodes.state["severity"]))
            for kind, episodes in several.items()
        }

    def acquaintance(self) -> Acquaintance:
        """How well the series that are there are known."""
        return self.primary.acquaintance(self.stream.series.used())

    def event_ns(self, partition: int) -> int | None:
        """The clock of a partition, nanoseconds since the epoch."""
        return self.stream.event_ns(partition)

    # -- state

    def spec(self) -> dict[str, tuple[tuple[int, ...], np.dtype[Any]]]:
        """Shape and type of one series' row in every column of its state."""
        return {
            name: (state[column].shape[1:], state[column].dtype)
            for name, (state, column) in self._columns().items()
        }

    def snapshot(self, slots: Int64) -> PipelineState:
        """Copies of the state of the given slots."""
        series = self.stream.series
        of = series.partitions_of(slots).tolist()
        names = tuple(zip(of, map(series.name, slots.tolist()), strict=True))
        columns = {
            name: state.rows(slots, column) for name, (state, column) in self._columns().items()
        }
        return PipelineState(names, columns)

    def restore(self, saved: PipelineState, as_of: Int64) -> Int64:
        """Take over saved series, as if their ticks below the offsets as_of had just been
        processed. Returns their slots, NO_SLOT where limits.max_series leaves no room: those warm
        up again. A column that is not among the saved stays zero."""
        slots = np.concatenate(
            [np.empty(0, np.int64)]
            + [
                self.stream.series.slots(partition, [name for _, name in several])
                for partition, several in groupby(saved.series, key=lambda one: one[0])
            ]
        )
        room = slots != NO_SLOT
        for name, (state, column) in self._columns().items():
            if name in saved.columns:
                state.put(slots[room], {column: saved.columns[name][room]})
        self.stream.restored(slots[room], as_of[room])
        return slots

    def set_event_ns(self, partition: int, event_ns: int) -> None:
        """Set the clock of a partition whose series were restored."""
        self.stream.set_event_ns(partition, event_ns)

    def forget(self, partition: int) -> Int64:
        """Drop the series of a partition that another worker has now. Returns their slots."""
        gone = self.stream.forget_partition(partition)
        self._clear_tracks(gone)
        return gone

    def drop(self, series: Iterable[tuple[int, str]]) -> None:
        """Those of these that are known leave, as if they had never been."""
        found = {self.stream.series.find(partition, name) for partition, name in series}
        self._clear(np.array(sorted(found - {NO_SLOT}), np.int64))

    def forget_all(self) -> None:
        for partition in self.stream.series.partitions():
            self.forget(partition)

    def _columns(self) -> dict[str, tuple[SlotColumns, str]]:
        """By the name each is saved under."""
        return self.stream.columns() | self.primary.columns()
