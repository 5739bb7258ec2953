"""The loop: poll, decode, process, commit. One direction, one thread.

Results wait in memory until their transaction commits: at once when an alert is waiting, else
when commit_interval_s has passed. Metrics count what has been committed. After a transaction
of unknown outcome everything uncommitted is dropped, state included, and the loop goes on from
the committed offsets.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from detector.core.alerts import Alert
from detector.core.cloudevents import CONTENT_TYPE, encode_alert, rfc3339
from detector.core.codec import Codec, RecordBlock
from detector.core.pipeline import Pipeline
from detector.core.ticks import Float64, Outcome, Reject, TickBatch
from detector.errors import TransactionError
from detector.service.logs import event
from detector.service.metrics import Metrics
from detector.transport.broker import Message, Outbox, Worker

#: Dead letters waiting for a commit; more than that and the commit comes early.
_MOST_PENDING = 10_000
#: Failed transactions in a row before the process gives up (the supervisor starts it again).
_MOST_FAILURES = 5
#: Without a completed round for this long the loop hangs.
_HANG_S = 60.0
_GAUGES_EVERY_S = 0.5
#: Keys of dead letters are cut off above: key and value together must fit a record.
_LONGEST_KEY_BYTES = 1000
#: A poll never waits longer, however rare the commits: signals and probes are answered.
_LONGEST_WAIT_S = 0.1


@dataclass(frozen=True, slots=True)
class LoopPolicy:
    """How the loop commits and what it writes."""

    commit_interval_s: float
    max_poll_records: int
    alert_source: str
    dead_letter_max_bytes: int


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


class Daemon:
    """Runs a worker's ticks through a pipeline until told to stop."""

    def __init__(
        self,
        *,
        worker: Worker,
        codec: Codec,
        pipeline: Pipeline,
        metrics: Metrics,
        policy: LoopPolicy,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker, self._codec, self._pipeline = worker, codec, pipeline
        self._metrics, self._policy = metrics, policy
        self._wall_s, self._monotonic_s = wall_s, monotonic_s
        self._pending = _Pending()
        self._assigned: frozenset[int] = frozenset()
        self._stopping = False
        self._progress_s = monotonic_s()
        self._gauges_s = -1e9
        self._joined = False
        self._failures = 0
        self._newest_ns: int | None = None
        self._lagging: set[int] = set()

    def stop(self) -> None:
        """Ask the loop to commit what it has and return; safe in a signal handler."""
        self._stopping = True

    def run(self) -> None:
        """Open, loop, drain, close. Raises BrokerError if the broker is lost."""
        self._metrics.threshold.set(self._pipeline.policy.threshold)
        self._worker.open()
        try:
            while not self._stopping:
                self._guarded(self._round)
            self._guarded(self._commit)
        finally:
            self._metrics.ready.set(0)
            self._joined = False
            self._worker.close()
        event("stopped")

    def live(self) -> str | None:
        silent_s = self._monotonic_s() - self._progress_s
        return None if silent_s < _HANG_S else f"no round completed for {silent_s:.0f} s"

    def ready(self) -> str | None:
        return None if self._joined else "not joined yet"

    def facts(self, broker: str) -> list[tuple[str, str]]:
        """What the page for people shows."""
        pipeline = self._pipeline
        newest = "none yet" if self._newest_ns is None else rfc3339(self._newest_ns)
        return [
            ("broker", broker),
            ("topic", pipeline.policy.topic),
            ("partitions", ", ".join(map(str, sorted(self._assigned))) or "none"),
            ("model", pipeline.policy.model_version),
            ("threshold", f"{pipeline.policy.threshold:.4f}"),
            ("series", f"{pipeline.active_series()}, {pipeline.warming_series()} warming"),
            ("open alerts", str(pipeline.open_alerts())),
            ("newest tick", newest),
        ]

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except TransactionError as error:
            self._failures += 1
            self._metrics.transactions.labels("aborted").inc()
            event(
                "transaction failed: back to the committed offsets, windows warm up again",
                level=logging.ERROR,
                error=str(error),
                failures=self._failures,
            )
            if self._failures >= _MOST_FAILURES:
                raise
            self._pending = _Pending()
            self._pipeline.forget_all()
            self._assigned = frozenset()
            self._joined = False
            self._worker.reopen()

    def _round(self) -> None:
        blocks = self._poll()
        self._follow_assignment()
        if blocks:
            self._process(blocks)
        pending = self._pending
        if pending.since_s is not None and (
            pending.alerts
            or len(pending.outbox) > _MOST_PENDING
            or self._monotonic_s() - pending.since_s >= self._policy.commit_interval_s
        ):
            self._commit()
        self._progress_s = self._monotonic_s()
        if self._progress_s - self._gauges_s >= _GAUGES_EVERY_S:
            self._gauges_s = self._progress_s
            self._set_gauges()

    def _poll(self) -> list[RecordBlock]:
        wait_s = min(self._policy.commit_interval_s, _LONGEST_WAIT_S)
        if self._pending.since_s is not None:
            due_s = self._policy.commit_interval_s + self._pending.since_s - self._monotonic_s()
            wait_s = min(wait_s, due_s)
        with self._metrics.processing.labels("poll").time():
            return self._worker.poll(
                max_records=self._policy.max_poll_records, timeout_s=max(0.0, wait_s)
            )

    def _follow_assignment(self) -> None:
        assigned = self._worker.assignment()
        if not self._joined and self._worker.ready():
            self._joined = True
            self._metrics.ready.set(1)
            event("ready", partitions=sorted(assigned))
        if assigned == self._assigned:
            return
        lost = self._assigned - assigned
        self._metrics.rebalances.inc()
        event("partitions assigned", partitions=sorted(assigned), lost=sorted(lost))
        self._assigned = assigned
        if any(p in self._pending.positions for p in lost):
            raise TransactionError(f"partitions {sorted(lost)} left with uncommitted work")
        for partition in lost:
            self._pipeline.forget(partition)

    def _process(self, blocks: list[RecordBlock]) -> None:
        pending = self._pending
        if pending.since_s is None:
            pending.since_s = self._monotonic_s()
        with self._metrics.processing.labels("decode").time():
            decoded = [self._codec.decode(block) for block in blocks]
        fields = len(self._pipeline.features.fields)
        batch = TickBatch.concatenate([b for b, _ in decoded if len(b)], fields=fields)
        started_s = self._monotonic_s()
        with self._metrics.processing.labels("process").time():
            result = self._pipeline.process(batch)
        counts = result.counts()
        if counts[Outcome.SCORED]:
            self._metrics.scoring.observe(self._monotonic_s() - started_s)
            pending.scores.append(result.score)
        pending.counts.update(counts)
        rejects = [r for _, refused in decoded for r in refused]
        pending.counts[Outcome.REJECTED] += len(rejects)
        rejects += result.rejects
        if rejects:
            self._bury(rejects, blocks)
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

    def _bury(self, rejects: list[Reject], blocks: list[RecordBlock]) -> None:
        """One dead letter for each record with a reject: the raw record, why, and from where.

        A record may be an array with very many bad ticks: they share a letter, whose reason is
        that of the first; every tick is counted by its own reason."""
        by_partition = {block.partition: block for block in blocks}
        by_record: dict[tuple[int, int], list[Reject]] = {}
        for reject in rejects:
            by_record.setdefault((reject.partition, reject.offset), []).append(reject)
            self._pending.reasons[reject.reason] += 1
        for (partition, offset), several in by_record.items():
            block = by_partition[partition]
            row = offset - block.offsets[0]
            if row >= len(block) or block.offsets[row] != offset:  # a log with holes
                row = list(block.offsets).index(offset)
            value = block.values[row]
            limit = self._policy.dead_letter_max_bytes
            first = several[0]
            headers = {
                "reason": first.reason,
                "detail": first.detail,
                "topic": block.topic,
                "partition": str(partition),
                "offset": str(offset),
                "index": str(first.index),
                "rejected_ticks": str(len(several)),
            }
            if value is not None and len(value) > limit:
                headers["truncated_from_bytes"] = str(len(value))
                value = value[:limit]
            key = block.keys[row]
            if key is not None and len(key) > _LONGEST_KEY_BYTES:
                headers["key_truncated_from_bytes"] = str(len(key))
                key = key[:_LONGEST_KEY_BYTES]
            self._pending.outbox.dead_letters.append(
                Message(
                    key,
                    value,
                    tuple((k, v.encode(errors="replace")) for k, v in headers.items()),
                )
            )

    def _commit(self) -> None:
        pending = self._pending
        if pending.since_s is None:
            return
        with self._metrics.processing.labels("commit").time(), self._metrics.commit.time():
            self._worker.commit(pending.outbox, pending.positions)
        self._failures = 0
        self._pending = _Pending()
        self._metrics.transactions.labels("committed").inc()
        for scores in pending.scores:
            self._metrics.observe_scores(scores)
        self._metrics.count_ticks(pending.counts, pending.reasons)
        self._metrics.dead_letters.inc(len(pending.outbox.dead_letters))
        self._metrics.count_alerts(pending.alerts, self._wall_s())
        for alert in pending.alerts:
            event(
                f"alert {alert.state.name.lower()}",
                series=alert.series,
                severity=alert.severity.name.lower(),
                score=round(alert.score, 3),
                alert_id=alert.alert_id,
            )

    def _set_gauges(self) -> None:
        metrics, pipeline = self._metrics, self._pipeline
        lag = self._worker.lag()
        for partition in self._lagging - lag.keys():  # another worker reports it now
            metrics.lag.remove(pipeline.policy.topic, str(partition))
        self._lagging = set(lag)
        for partition, records in lag.items():
            metrics.lag.labels(pipeline.policy.topic, str(partition)).set(records)
        if self._newest_ns is not None:
            metrics.last_tick.set(self._newest_ns * 1e-9)
        metrics.active_series.set(pipeline.active_series())
        metrics.warming_series.set(pipeline.warming_series())
        metrics.open_alerts.set(pipeline.open_alerts())
        metrics.progress.set(self._wall_s())
