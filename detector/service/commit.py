"""From work done to transactions: what waits for one, when it is due, and what it counts once it
is committed.

One is under way at most, and the loop goes on beside it: what is done meanwhile is the next one's.
If it fails, both are dropped. After a transaction of unknown outcome the work in it is in doubt:
the watermark of the partitions, once they are restored, tells whether it was committed after all.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

from detector.core.alerts import Alert, State
from detector.core.cloudevents import CONTENT_TYPE, encode_alert
from detector.core.dead_letters import dead_letters
from detector.core.mutes import Turned
from detector.core.pipeline import BatchResult
from detector.core.records import Message, RecordBlock
from detector.core.ticks import Float64, Outcome, Reject
from detector.errors import TransactionError
from detector.service.checkpoint import Checkpoint, Checkpoints
from detector.service.logs import event
from detector.service.metrics import Metrics
from detector.service.partitions import Partitions
from detector.service.recovery import Recovered
from detector.service.viewing.recent import Recent
from detector.transport.broker import Outbox, Worker

#: Dead letters waiting for a commit; more than that and the commit comes early.
_MOST_PENDING = 10_000
#: So much longer than a commit interval the loop goes on beside a transaction: all that is done
#: meanwhile is done again should it fail.
_AHEAD_S = 0.5
#: That an alert is over waits no longer, however long the commit interval is.
_LONGEST_END_S = 0.1
#: A loop with nothing more to read waits so long for its transaction, and then looks so often.
_PATIENCE_S, _LOOK_S = 0.05, 0.005


@dataclass(frozen=True, slots=True)
class CommitPolicy:
    """When a transaction is due and what it writes. most_ahead: records that may be processed
    beside one that is under way; then the loop waits for it."""

    interval_s: float
    most_ahead: int
    alert_source: str
    dead_letter_max_bytes: int


@dataclass(slots=True)
class Work:
    """Work done that no transaction has yet. since_s: when it began; None: there is none.
    urgent: whether any of its alerts tells of more than an end."""

    since_s: float | None = None
    urgent: bool = False
    records: int = 0
    outbox: Outbox = field(default_factory=Outbox)
    alerts: list[Alert] = field(default_factory=list)
    kept: list[Message] = field(default_factory=list)
    counts: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    scores: list[Float64] = field(default_factory=list)
    pipeline_s: list[float] = field(default_factory=list)
    gaps: int = 0
    forgotten: int = 0
    above: int = 0
    not_finite: int = 0
    new_normals: int = 0
    turned: list[Turned] = field(default_factory=list)
    replayed: int = 0
    lost: int = 0


@dataclass(frozen=True, slots=True)
class Flight:
    """A transaction: what it holds, and when it began, on the monotonic clock."""

    work: Work
    checkpoint: Checkpoint
    since_s: float


class Commits:
    """Collects work and commits it."""

    def __init__(
        self,
        worker: Worker,
        checkpoints: Checkpoints,
        partitions: Partitions,
        metrics: Metrics,
        recent: Recent,
        policy: CommitPolicy,
        *,
        wall_s: Callable[[], float],
        monotonic_s: Callable[[], float],
    ) -> None:
        self._worker, self._checkpoints, self._partitions = worker, checkpoints, partitions
        self._metrics, self._policy = metrics, policy
        self._recent, self._wall_s, self._monotonic_s = recent, wall_s, monotonic_s
        self._work = Work()
        self._flight: Flight | None = None
        self._doubt: Flight | None = None

    # -- work

    def begin(self) -> None:
        """There is work from now on."""
        if self._work.since_s is None:
            self._work.since_s = self._monotonic_s()

    def add(
        self,
        result: BatchResult,
        refused: Iterable[Reject],
        blocks: dict[int, RecordBlock],
        *,
        pipeline_s: float,
    ) -> None:
        """What a batch came to. refused: by the codec; blocks: where its records are."""
        work = self._work
        work.records += sum(map(len, blocks.values()))
        counts = result.counts()
        if counts[Outcome.SCORED]:
            work.pipeline_s.append(pipeline_s)
            work.scores.append(result.score)
        work.counts.update(counts)
        work.gaps += result.gaps
        work.forgotten += len(result.forgotten)
        work.above += result.above
        work.not_finite += result.not_finite
        work.new_normals += result.new_normals
        work.turned += result.turned
        undecoded = list(refused)
        work.counts[Outcome.REJECTED] += sum(reject.ticks for reject in undecoded)
        rejects = undecoded + result.rejects
        if rejects:
            for reject in rejects:
                if reject.reason != "late":
                    work.reasons[reject.reason] += reject.ticks
            work.outbox.dead_letters += dead_letters(
                rejects, blocks, max_bytes=self._policy.dead_letter_max_bytes
            )
        if result.alerts:
            detected_ns = int(self._wall_s() * 1e9)
            headers = (("content-type", CONTENT_TYPE.encode()),)
            for alert in result.alerts:
                value = encode_alert(
                    alert, source=self._policy.alert_source, detected_ns=detected_ns
                )
                work.outbox.alerts.append(Message(alert.series.encode(), value, headers))
                work.kept += self._partitions[alert.partition].kept.note(alert, value)
            work.alerts += result.alerts
            work.urgent |= any(alert.state is not State.RESOLVED for alert in result.alerts)

    def replayed(self, ticks: int) -> None:
        """Ticks were processed again, silently; counted with the next transaction."""
        self._work.replayed += ticks

    def lost(self, records: int) -> None:
        """Records were deleted before they were read; counted with the next transaction."""
        self._work.lost += records

    # -- when

    def wait_s(self) -> float:
        """How long a poll may wait, at most."""
        interval_s, since_s = self._interval_s(), self._work.since_s
        if self._flight is not None:
            return 0.0 if self._due() else min(interval_s, _LOOK_S)
        if since_s is None:
            return interval_s
        left_s = interval_s + since_s - self._monotonic_s()
        # Overdue: it may not commit yet, and the poll is what that waits for.
        return min(interval_s, left_s) if left_s > 0 else interval_s

    def _interval_s(self) -> float:
        """How long work may wait for its transaction."""
        interval_s = self._policy.interval_s
        return min(interval_s, _LONGEST_END_S) if self._work.alerts else interval_s

    def _due(self) -> bool:
        """Whether a transaction should begin. An alert does not wait for those that may follow, but
        that one is over waits for a commit interval, or a tenth of a second: its transaction
        would be in the way of one that opens. The alerts of all that is done beside a transaction
        share the next."""
        work, now_s = self._work, self._monotonic_s()
        if work.since_s is None:
            return self._checkpoints.overdue(now_s)
        waited = now_s - work.since_s >= self._interval_s()
        return work.urgent or len(work.outbox) > _MOST_PENDING or waited

    def _far_ahead(self) -> bool:
        """Whether so much was done beside the transaction under way that it is waited for."""
        work = self._work
        if work.since_s is None:
            return False
        lasted = self._monotonic_s() - work.since_s >= self._policy.interval_s + _AHEAD_S
        return lasted or work.records >= self._policy.most_ahead

    def waiting(self) -> bool:
        """Whether there is anything that a transaction could write."""
        return self._work.since_s is not None or self._checkpoints.dirty()

    def moving(self) -> frozenset[int]:
        """The partitions that the transaction under way moves."""
        flight = self._flight
        return frozenset() if flight is None else frozenset(flight.checkpoint.positions)

    def under_way_s(self) -> float | None:
        """Since when a transaction is; asked by other threads, too."""
        flight = self._flight
        return None if flight is None else self._monotonic_s() - flight.since_s

    # -- transactions

    def step(self, *, more: bool) -> bool:
        """End the transaction under way if it has ended, then begin the next if it is due. more:
        the last poll brought all that was asked for, so that more waits. Whether one was
        committed. Raises TransactionError."""
        committed = False
        if self._flight is not None:
            committed = self._end(timeout_s=self._patience_s(more=more))
        may = self._flight is None and self._worker.may_commit()
        if may and self._due() and self._begin():
            committed = self._end(timeout_s=self._patience_s(more=more)) or committed
        return committed

    def _patience_s(self, *, more: bool) -> float | None:
        """How long the loop waits for the transaction under way; None: as long as it takes. Where
        nothing waits it leaves the processor to it: what it found meanwhile could be committed no
        sooner, and the client's threads would take turns with the loop at every step."""
        if self._far_ahead():
            return None
        return 0.0 if more else min(self._policy.interval_s, _PATIENCE_S)

    def end(self) -> bool:
        """Wait for the transaction under way, if there is one. Whether it was committed. Raises
        TransactionError."""
        return self._flight is not None and self._end(timeout_s=None)

    def commit(self, flush: Iterable[int] = ()) -> bool:
        """All that is done, in a transaction that has ended on return, after the one under way.
        flush: partitions whose state is written as a whole. Whether anything was committed.
        Raises TransactionError."""
        committed = self.end()
        if self.waiting() and self._begin(flush):
            committed = self._end(timeout_s=None)
        return committed

    def _begin(self, flush: Iterable[int] = ()) -> bool:
        """False: there was nothing to do."""
        work, now_s = self._work, self._monotonic_s()
        with self._metrics.processing.of("commit"):
            checkpoint = self._checkpoints.begin(now_s=now_s, flush=flush, beside=work.kept)
            if not checkpoint.positions:
                work.since_s = None
                return False
            work.outbox.state, work.outbox.watermarks = checkpoint.state, checkpoint.watermarks
            self._work = Work()
            self._worker.begin_commit(work.outbox, checkpoint.positions, checkpoint.needed_from)
        self._flight = Flight(work, checkpoint, now_s)
        return True

    def _end(self, *, timeout_s: float | None) -> bool:
        flight = self._flight
        assert flight is not None
        waiting = self._metrics.processing.of("wait")
        try:
            with nullcontext() if timeout_s == 0 else waiting:
                ago_s = self._worker.end_commit(timeout_s=timeout_s)
        except TransactionError as error:
            self._flight = None
            if error.begun:
                self._settle("unknown")
                self._doubt = flight
            raise
        if ago_s is None:
            return False
        self._flight = None
        checkpoint, metrics = flight.checkpoint, self._metrics
        self._checkpoints.committed(checkpoint)
        lasted_s = max(0.0, self._monotonic_s() - flight.since_s - ago_s)
        metrics.commit.observe(lasted_s)
        self._recent.pace.commit_s.append(lasted_s)
        metrics.transactions.labels("committed").inc()
        metrics.state_records.inc(len(checkpoint.state))
        metrics.state_bytes.inc(checkpoint.state_bytes())
        self._count(flight.work, committed_s=self._wall_s() - ago_s)
        event(
            "committed",
            level=logging.DEBUG,
            positions=checkpoint.positions,
            alerts=len(flight.work.alerts),
            dead_letters=len(flight.work.outbox.dead_letters),
            state_records=len(checkpoint.state),
        )
        return True

    # -- transactions that fail

    def failed(self, error: TransactionError) -> bool:
        """Nothing more can be committed: the work done is dropped. A transaction under way ends
        first, and counts if it is committed. Whether one has failed: then what was in it is in
        doubt, and what was done beside it is not."""
        begun = error.begun
        try:
            self.end()
        except TransactionError as its_own:
            begun = begun or its_own.begun
        self._work = Work()
        self._partitions.drop_work()
        return begun

    def settle(self, found: Recovered) -> None:
        """A partition is restored: what it says of the transaction in doubt."""
        if self._doubt is None or found.partition not in self._doubt.checkpoint.positions:
            return
        if found.by == self._doubt.checkpoint.by:
            self._settle("committed")
        else:  # past it, another worker has been here since and knows more than we do
            past = found.committed > self._doubt.checkpoint.positions[found.partition]
            self._settle("unknown" if past else "aborted")

    def leave(self) -> None:
        """Nothing more is restored here: of what is in doubt nobody will know what it did."""
        self._settle("unknown")

    def _settle(self, outcome: str) -> None:
        """Count a failed transaction, now that it is known (or never will be) what it did."""
        if self._doubt is not None:
            doubt, self._doubt = self._doubt, None
            self._metrics.transactions.labels(outcome).inc()
            if outcome == "committed":
                self._count(doubt.work, committed_s=self._wall_s())
            elif outcome == "unknown" and doubt.work.counts.total():
                event(
                    "nobody here can tell whether a failed transaction was committed: its ticks "
                    "are not counted here",
                    level=logging.WARNING,
                    ticks=doubt.work.counts.total(),
                )

    def _count(self, work: Work, *, committed_s: float) -> None:
        """Metrics of work that has been committed."""
        metrics = self._metrics
        metrics.observe_scores(work.scores)
        for seconds in work.pipeline_s:
            metrics.observe_pipeline(seconds)
        metrics.count_ticks(work.counts, work.reasons)
        metrics.gaps.inc(work.gaps)
        metrics.forgotten.inc(work.forgotten)
        metrics.above.inc(work.above)
        metrics.not_finite.inc(work.not_finite)
        metrics.new_normals.inc(work.new_normals)
        metrics.replayed.inc(work.replayed)
        metrics.lost_records.inc(work.lost)
        metrics.dead_letters.inc(len(work.outbox.dead_letters))
        metrics.count_alerts(work.alerts, committed_s)
        self._recent.pace.count(
            ticks=work.counts.total(), windows=work.counts[Outcome.SCORED], took_s=work.pipeline_s
        )
        self._recent.committed(work.alerts, committed_s)
        for one in work.turned:
            event(
                f"mute {'began' if one.began else 'ended'}",
                mute=one.mute.id,
                series=one.mute.series,
                partition=one.partition,
                offset=one.offset,
                **_known({"reason": one.mute.reason or None, "by": one.mute.by or None}),
            )
        for alert in work.alerts:
            fields: dict[str, object] = {
                "series": alert.series,
                "kind": alert.kind,
                "severity": alert.severity.name.lower(),
                "score": None if alert.score is None else round(alert.score, 3),
                "reason": alert.reason,
                "muted": alert.muted or None,
                "alert_id": alert.alert_id,
            }
            event(f"alert {alert.state.name.lower()}", **_known(fields))


def _known(fields: dict[str, object]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
