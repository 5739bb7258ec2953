"""The loop: poll, decode, process, commit. One direction, one thread.

Results wait in memory until their transaction commits: at once when an alert is waiting, else
when commit_interval_s has passed. Metrics count what has been committed. A partition that comes
is restored first (recovery.py) while the others go on; ticks between its saved state and its
committed offset are processed again, silently. After a transaction of unknown outcome everything
uncommitted is dropped, state included, and the loop goes on from the committed offsets.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from detector.core.alerts import Alert
from detector.core.cloudevents import CONTENT_TYPE, encode_alert, rfc3339
from detector.core.codec import Codec, RecordBlock
from detector.core.pipeline import Pipeline
from detector.core.ticks import Float64, Outcome, TickBatch
from detector.errors import TransactionError
from detector.service.checkpoint import Checkpoints, Restored
from detector.service.dead_letters import dead_letters
from detector.service.logs import event
from detector.service.metrics import Metrics
from detector.service.recovery import Recovered, Recovery
from detector.service.watchdog import Watchdog
from detector.transport.broker import Message, Outbox, Worker

#: Dead letters waiting for a commit; more than that and the commit comes early.
_MOST_PENDING = 10_000
#: Failed transactions in a row before the process gives up (the supervisor starts it again).
_MOST_FAILURES = 5
#: Records wait and none was read for this long: the loop turns but does not move.
_STALL_S = 60.0
_GAUGES_EVERY_S = 0.5
#: A poll never waits longer, however rare the commits: signals and probes are answered.
_LONGEST_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class LoopPolicy:
    """How the loop commits and what it writes. hang_timeout_s, stop_timeout_s: a round, or the
    end after stop(), that takes longer ends the process."""

    commit_interval_s: float
    max_poll_records: int
    alert_source: str
    dead_letter_max_bytes: int
    hang_timeout_s: float = 60.0
    stop_timeout_s: float = 20.0


@dataclass(slots=True)
class _Pending:
    """Work done and not yet committed."""

    since_s: float | None = None
    outbox: Outbox = field(default_factory=Outbox)
    alerts: list[Alert] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)
    counts: Counter[Outcome] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    scores: list[Float64] = field(default_factory=list)
    gaps: int = 0
    by: str = ""  # what its transaction calls itself, once that has begun


class Daemon:
    """Runs a worker's ticks through a pipeline until told to stop."""

    def __init__(
        self,
        *,
        worker: Worker,
        codec: Codec,
        pipeline: Pipeline,
        checkpoints: Checkpoints,
        recovery: Recovery,
        metrics: Metrics,
        policy: LoopPolicy,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker, self._codec, self._pipeline = worker, codec, pipeline
        self._checkpoints, self._recovery = checkpoints, recovery
        self._metrics, self._policy = metrics, policy
        self._wall_s, self._monotonic_s = wall_s, monotonic_s
        self._pending = _Pending()
        self._doubt: _Pending | None = None  # its transaction failed; was it committed after all?
        self._active: set[int] = set()
        self._written: dict[int, int] = {}  # results of ticks below this offset are committed
        self._replaying: set[int] = set()
        self._stopping = False
        self._stop_asked_s: float | None = None
        self._watched = False
        self._progress_s = self._moved_s = monotonic_s()
        self._gauges_s = -1e9
        self._ready = False
        self._failures = 0
        self._newest_ns: int | None = None
        self._lag: dict[int, int] = {}
        self._stuck = 0  # records that could be read, when none was for long
        self._asked_s = -1e9

    @property
    def stopping(self) -> bool:
        return self._stopping

    def stop(self) -> None:
        """Ask the loop to commit what it has and return; safe in a signal handler."""
        if self._stop_asked_s is None:
            self._stop_asked_s = self._monotonic_s()
        self._stopping = True

    def run(self) -> None:
        """Open, loop, drain, close. Raises BrokerError if the broker is lost, FencedError if
        another process took over, StateError if the saved state cannot be used."""
        self._metrics.threshold.set(self._pipeline.policy.threshold)
        watchdog = Watchdog(self.hung)
        watchdog.start()
        try:
            self._worker.open(self._release)
            try:
                while not self._stopping:
                    self._guarded(self._round)
                self._finish()
            finally:
                self._watched = False
                self._metrics.ready.set(0)
                self._ready = False
                self._recovery.close()
                self._worker.close()
        finally:
            watchdog.stop()
        event("stopped")

    def hung(self) -> str | None:
        """What the watchdog asks: a round that does not end, or a stop that does not."""
        now_s = self._monotonic_s()
        asked_s = self._stop_asked_s
        if asked_s is not None and now_s - asked_s > self._policy.stop_timeout_s:
            return f"told to stop {now_s - asked_s:.0f} s ago"
        silent_s = now_s - self._progress_s
        if self._watched and silent_s > self._policy.hang_timeout_s:
            return f"no round completed for {silent_s:.0f} s"
        return None

    def live(self) -> str | None:
        now_s = self._monotonic_s()
        silent_s = now_s - self._progress_s
        if silent_s > self._policy.hang_timeout_s:
            return f"no round completed for {silent_s:.0f} s"
        still_s = now_s - self._moved_s
        if self._stuck and still_s > _STALL_S and not self._recovery.waiting:
            return f"{self._stuck} records wait and none was read for {still_s:.0f} s"
        return None

    def ready(self) -> str | None:
        return None if self._ready else "not joined, or state not restored yet"

    def facts(self, broker: str) -> list[tuple[str, str]]:
        """What the page for people shows."""
        pipeline = self._pipeline
        newest = "none yet" if self._newest_ns is None else rfc3339(self._newest_ns)
        restoring = sorted(self._recovery.waiting | self._replaying)
        return [
            ("broker", broker),
            ("topic", pipeline.policy.topic),
            ("partitions", ", ".join(map(str, sorted(self._active))) or "none"),
            ("restoring", ", ".join(map(str, restoring)) or "none"),
            ("records waiting", str(sum(self._lag.values()))),
            ("model", pipeline.policy.model_version),
            ("threshold", f"{pipeline.policy.threshold:.4f}"),
            ("series", f"{pipeline.active_series()}, {pipeline.warming_series()} warming"),
            ("open alerts", str(pipeline.open_alerts())),
            ("newest tick", newest),
        ]

    # -- transactions that fail

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except TransactionError as error:
            # A membership that is lost is found again: only transactions that fail are counted.
            self._failures += error.begun
            event(
                "transaction failed: back to the committed offsets and the state saved with them",
                level=logging.ERROR,
                error=str(error),
                failures=self._failures,
            )
            if self._failures >= _MOST_FAILURES:
                raise
            self._settle_doubt("unknown")
            if error.begun:
                self._doubt = self._pending
            self._pending = _Pending()
            self._watched = False
            self._worker.reopen()

    def _settle_doubt(self, outcome: str) -> None:
        """Count a failed transaction, now that it is known (or never will be) what it did."""
        if self._doubt is not None:
            pending, self._doubt = self._doubt, None
            self._metrics.transactions.labels(outcome).inc()
            if outcome == "committed":
                self._count(pending)

    # -- the loop

    def _round(self) -> None:
        self._progress_s = self._monotonic_s()
        self._watched = True
        blocks = self._poll()
        self._follow_changes()
        self._process([b for b in blocks if b.partition in self._active])
        for recovered in self._recovery.step():
            self._begin(recovered)
        self._end_replays()
        self._commit_if_due()
        self._follow_readiness()
        now_s = self._monotonic_s()
        if now_s - self._gauges_s >= _GAUGES_EVERY_S:
            self._gauges_s = now_s
            self._set_gauges()

    def _poll(self) -> list[RecordBlock]:
        wait_s = min(self._policy.commit_interval_s, _LONGEST_WAIT_S)
        if self._pending.since_s is not None:
            due_s = self._policy.commit_interval_s + self._pending.since_s - self._monotonic_s()
            if due_s > 0:  # else it may not commit yet, and the poll is what that waits for
                wait_s = min(wait_s, due_s)
        if self._recovery.waiting:
            wait_s = 0.0
        with self._metrics.processing.labels("poll").time():
            return self._worker.poll(
                max_records=self._policy.max_poll_records, timeout_s=max(0.0, wait_s)
            )

    # -- partitions come and go

    def _release(self, partitions: frozenset[int]) -> None:
        """Partitions are about to go: write what is theirs. Called while poll waits."""
        if self._pending.since_s is not None or self._checkpoints.dirty():
            self._commit(flush=partitions)

    def _follow_changes(self) -> None:
        lost, gained = self._worker.changes()
        if not lost and not gained:
            return
        self._metrics.rebalances.inc()
        event("partitions changed", lost=sorted(lost), gained=sorted(gained))
        uncommitted = lost & self._pending.positions.keys()
        for partition in lost:
            self._pipeline.forget(partition)
            self._checkpoints.forget(partition)
            self._written.pop(partition, None)
        self._active -= lost
        self._replaying -= lost
        self._recovery.lose(lost)
        if gained:
            self._recovery.gain(gained)
        if uncommitted:
            raise TransactionError(
                f"partitions {sorted(uncommitted)} left with uncommitted work", begun=False
            )

    def _begin(self, found: Recovered) -> None:
        """A partition's state is there: go on with it."""
        partition, restored = found.partition, Restored(0, 0, 0)
        self._checkpoints.begin(
            partition,
            position=found.position,
            committed=found.committed,
            event_ns=found.event_ns,
        )
        if found.saved is not None:
            restored = self._checkpoints.restore(partition, found.saved)
        if found.event_ns is not None:
            self._pipeline.set_event_ns(partition, found.event_ns)
        self._active.add(partition)
        self._written[partition] = found.committed
        if found.position < found.committed:
            self._replaying.add(partition)
        # Keep where it begins, and which windows have a hole, even if no tick comes.
        if found.saved is None or found.saved.ticks_lost or found.lost:
            self._pending.positions.setdefault(partition, found.committed)
            if self._pending.since_s is None:
                self._pending.since_s = self._monotonic_s()
        self._worker.start({partition: found.position})
        self._account_for_recovery(found, restored)

    def _account_for_recovery(self, found: Recovered, restored: Restored) -> None:
        metrics, partition = self._metrics, found.partition
        seconds = self._monotonic_s() - found.since_s
        metrics.restore.set(seconds)
        if self._doubt is not None and partition in self._doubt.positions:
            if found.by == self._doubt.by:
                outcome = "committed"
            else:  # past it, another worker has been here since and knows more than we do
                past = found.committed > self._doubt.positions[partition]
                outcome = "unknown" if past else "aborted"
            self._settle_doubt(outcome)
        metrics.restored.labels("resumed").inc(restored.resumed)
        metrics.restored.labels("warming").inc(restored.warming)
        metrics.restored.labels("no_room").inc(restored.no_room)
        metrics.lost_records.inc(found.lost)
        troubled = restored.warming or restored.no_room or found.lost
        event(
            "partition restored",
            level=logging.WARNING if troubled else logging.INFO,
            partition=partition,
            committed=found.committed,
            replay=found.committed - found.position,
            series=restored.resumed,
            **({"warming_again": restored.warming} if restored.warming else {}),
            **({"no_room": restored.no_room} if restored.no_room else {}),
            **({"lost_records": found.lost} if found.lost else {}),
            seconds=round(seconds, 3),
        )

    def _end_replays(self) -> None:
        for partition in sorted(self._replaying):
            if self._worker.position(partition) >= self._written[partition]:
                self._replaying.discard(partition)

    def _follow_readiness(self) -> None:
        ready = self._worker.ready() and not self._recovery.waiting and not self._replaying
        if ready != self._ready:
            self._ready = ready
            self._metrics.ready.set(ready)
            event("ready" if ready else "not ready", partitions=sorted(self._active))

    # -- ticks

    def _process(self, blocks: list[RecordBlock]) -> None:
        new = []
        for block in blocks:
            old, rest = block.split(self._written[block.partition])
            if len(old):
                self._replay(old)
            if len(rest):
                # From the first new tick on the restored state is where it was.
                self._replaying.discard(block.partition)
                new.append(rest)
        if blocks:
            self._moved_s = self._monotonic_s()
        if new:
            self._process_new(new)

    def _replay(self, block: RecordBlock) -> None:
        """Ticks whose results are committed, but that the saved state does not hold."""
        batch, _ = self._codec.decode(block)
        held = self._checkpoints.held(batch)
        self._checkpoints.touch(self._pipeline.process(batch, held).changed)
        self._metrics.replayed.inc(int(np.count_nonzero(~held)))

    def _process_new(self, blocks: list[RecordBlock]) -> None:
        pending = self._pending
        if pending.since_s is None:
            pending.since_s = self._monotonic_s()
        with self._metrics.processing.labels("decode").time():
            decoded = [self._codec.decode(block) for block in blocks]
        fields = len(self._pipeline.features.fields)
        batch = TickBatch.concatenate([b for b, _ in decoded if len(b)], fields=fields)
        held = self._checkpoints.held(batch)
        started_s = self._monotonic_s()
        with self._metrics.processing.labels("process").time():
            result = self._pipeline.process(batch, held)
        self._checkpoints.touch(result.changed)
        counts = result.counts()
        if counts[Outcome.SCORED]:
            self._metrics.scoring.observe(self._monotonic_s() - started_s)
            pending.scores.append(result.score)
        pending.counts.update(counts)
        pending.gaps += result.gaps
        refused = [r for _, several in decoded for r in several]
        pending.counts[Outcome.REJECTED] += len(refused)
        rejects = refused + result.rejects
        if rejects:
            pending.reasons.update(r.reason for r in rejects if r.reason != "late")
            pending.outbox.dead_letters += dead_letters(
                rejects,
                {block.partition: block for block in blocks},
                max_bytes=self._policy.dead_letter_max_bytes,
            )
        if result.alerts:
            detected_ns = int(self._wall_s() * 1e9)
            for alert in result.alerts:
                value = encode_alert(
                    alert, source=self._policy.alert_source, detected_ns=detected_ns
                )
                headers = (("content-type", CONTENT_TYPE.encode()),)
                pending.outbox.alerts.append(Message(alert.series.encode(), value, headers))
            pending.alerts += result.alerts
        for block in blocks:
            pending.positions[block.partition] = block.offsets[-1] + 1
        if len(batch):
            newest = int(batch.time_ns.max())
            if self._newest_ns is None or newest > self._newest_ns:
                self._newest_ns = newest

    # -- transactions

    def _commit_if_due(self) -> None:
        pending, now_s = self._pending, self._monotonic_s()
        if not self._worker.may_commit():
            return
        if pending.since_s is None:
            if self._checkpoints.overdue(now_s):
                self._commit()
        elif (
            pending.alerts
            or len(pending.outbox) > _MOST_PENDING
            or now_s - pending.since_s >= self._policy.commit_interval_s
        ):
            self._commit()

    def _finish(self) -> None:
        try:
            self._drain()
        except TransactionError as error:
            if error.begun:
                raise
            event("stopped without a last transaction", level=logging.WARNING, error=str(error))

    def _drain(self) -> None:
        """The last transaction: everything is written, so that a restart replays nothing."""
        while not self._worker.may_commit():  # the watchdog bounds it
            self._worker.poll(max_records=1, timeout_s=_LONGEST_WAIT_S)
        self._follow_changes()
        if self._pending.since_s is not None or self._checkpoints.dirty():
            self._commit(flush=frozenset(self._active))

    def _commit(self, flush: frozenset[int] = frozenset()) -> None:
        pending = self._pending
        checkpoint = self._checkpoints.prepare(
            pending.positions,
            now_s=self._monotonic_s(),
            flush=flush,
            exclude=self._replaying,
        )
        if not checkpoint.positions:
            self._pending = _Pending()
            return
        pending.outbox.state = checkpoint.state
        pending.outbox.watermarks = checkpoint.watermarks
        pending.positions, pending.by = checkpoint.positions, checkpoint.by
        with self._metrics.processing.labels("commit").time(), self._metrics.commit.time():
            self._worker.commit(pending.outbox, checkpoint.positions, checkpoint.needed_from)
        self._checkpoints.done(checkpoint)
        self._written |= checkpoint.positions
        self._failures = 0
        self._pending = _Pending()
        self._moved_s = self._monotonic_s()
        self._metrics.transactions.labels("committed").inc()
        self._metrics.state_records.inc(len(checkpoint.state))
        self._metrics.state_bytes.inc(checkpoint.state_bytes())
        self._count(pending)

    def _count(self, pending: _Pending) -> None:
        """Metrics of work that has been committed."""
        for scores in pending.scores:
            self._metrics.observe_scores(scores)
        self._metrics.count_ticks(pending.counts, pending.reasons)
        self._metrics.gaps.inc(pending.gaps)
        self._metrics.dead_letters.inc(len(pending.outbox.dead_letters))
        self._metrics.count_alerts(pending.alerts, self._wall_s())
        for alert in pending.alerts:
            event(
                f"alert {alert.state.name.lower()}",
                series=alert.series,
                kind=alert.kind,
                severity=alert.severity.name.lower(),
                score=round(alert.score, 3),
                alert_id=alert.alert_id,
            )

    def _set_gauges(self) -> None:
        metrics, pipeline = self._metrics, self._pipeline
        lag = self._worker.lag()
        for partition in self._lag.keys() - lag.keys():  # another worker reports it now
            metrics.lag.remove(pipeline.policy.topic, str(partition))
        self._lag = lag
        if not sum(lag.values()) or self._monotonic_s() - self._moved_s < _STALL_S / 2:
            self._stuck = 0
        elif self._monotonic_s() - self._asked_s > _STALL_S / 12:
            self._asked_s = self._monotonic_s()
            self._stuck = self._worker.readable()
        for partition, records in lag.items():
            metrics.lag.labels(pipeline.policy.topic, str(partition)).set(records)
        if self._newest_ns is not None:
            metrics.last_tick.set(self._newest_ns * 1e-9)
        metrics.active_series.set(pipeline.active_series())
        metrics.warming_series.set(pipeline.warming_series())
        metrics.open_alerts.set(pipeline.open_alerts())
        metrics.progress.set(self._wall_s())
