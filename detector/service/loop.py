"""The loop: poll, decode, process, commit. One direction, one thread; a transaction ends beside it.

Results wait in memory until their transaction begins: at once when an alert is waiting, else
when the commit interval has passed (commit.py). While it is under way the next ticks are read and
processed. A partition that comes is restored first
(recovery.py) while the others go on; ticks between its saved state and its committed offset are
processed again, silently. After a transaction of unknown outcome everything uncommitted is
dropped, state included, and the loop goes on from the committed offsets.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from detector.core.codec import Codec
from detector.core.graphs import Engine
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.records import RecordBlock
from detector.core.ticks import TickBatch
from detector.errors import TransactionError
from detector.service.checkpoint import Checkpoints, Restored
from detector.service.commit import Commits
from detector.service.exchange import Exchange
from detector.service.health import Health
from detector.service.kept_events import recall
from detector.service.logs import event, tells
from detector.service.maintenance import Maintenance
from detector.service.metrics import Metrics
from detector.service.partitions import Partitions, Phase
from detector.service.recovery import Recovered, Recovery
from detector.service.viewing.viewing import Viewing
from detector.service.watchdog import Watchdog
from detector.transport.broker import Worker

#: Failed transactions in a row before the process gives up (the supervisor starts it again).
_MOST_FAILURES = 5
#: Before the next attempt: twice as long each time, and never longer.
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 0.1, 5.0
#: A poll never waits longer, however rare the commits: signals and probes are answered.
_LONGEST_WAIT_S = 0.1
#: Ticks processed at once, and about as many in a round: the watchdog hears of it, and what is
#: found goes out, after so many.
_MOST_TICKS = 32_768
#: Where no more waits the loop rests as long as it has worked, and never longer: rounds of a tick
#: each would keep a processor busy, for most of a round costs the same however many ticks it has.
_LONGEST_REST_S = 0.002
#: Records asked for while no more wait: an alert among them waits for the others of its poll.
_SMALL_POLL = 256


@dataclass(frozen=True, slots=True)
class PollPolicy:
    """What one poll may bring, in records, in bytes of their keys and values, and, as far as those
    of the poll before tell, in ticks."""

    max_records: int
    max_bytes: int
    max_ticks: int = _MOST_TICKS


class Loop:
    """Runs a worker's ticks through a pipeline until told to stop."""

    def __init__(
        self,
        *,
        worker: Worker,
        codec: Codec,
        pipeline: Pipeline,
        partitions: Partitions,
        checkpoints: Checkpoints,
        commits: Commits,
        recovery: Recovery,
        maintenance: Maintenance,
        exchange: Exchange,
        health: Health,
        viewing: Viewing,
        metrics: Metrics,
        policy: PollPolicy,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._worker, self._codec, self._pipeline = worker, codec, pipeline
        self._partitions, self._checkpoints, self._commits = partitions, checkpoints, commits
        self._recovery, self.health, self.metrics = recovery, health, metrics
        self.viewing = viewing
        self._maintenance = maintenance
        self.configure_mutes = maintenance.configure
        self.exchange = exchange
        exchange.came = viewing.restored
        self._policy, self._monotonic_s, self._sleep = policy, monotonic_s, sleep
        self._asked = min(policy.max_records, _SMALL_POLL)
        self._opened = self._stopping = False
        self._ticks_a_record = 1.0  # of the last poll
        self._worked_s = 0.0  # in the last round, where no more waited
        self._failures = 0  # of transactions, since one was committed
        self._attempts = 0  # to go on after anything, since then

    @property
    def engine(self) -> Engine:
        """What scores."""
        return self._pipeline.primary.engine

    @property
    def stopping(self) -> bool:
        return self._stopping

    @property
    def opened(self) -> bool:
        """Whether anything is under way that a stop would have to finish."""
        return self._opened

    def stop(self) -> None:
        """Ask the loop to commit what it has and return; safe in a signal handler."""
        self.health.stop_asked()
        self._stopping = True

    def run(self) -> None:
        """Open, loop, drain, close. Raises BrokerError if the broker is lost, FencedError if
        another process took over, StateError if the saved state cannot be used."""
        watchdog = Watchdog(self.health.hung)
        watchdog.start()
        try:
            self._worker.open(self._release)
            self._maintenance.open()
            self._opened = True
            try:
                while not self._stopping:
                    self._guarded(self._round)
                self.health.draining()
                self._guarded(self._end_round)
                self._finish()
            finally:
                self.health.stopped()
                self._recovery.close()
                self._maintenance.close()
                self._worker.close()
        finally:
            watchdog.stop()
        event("stopped")

    # -- transactions that fail

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except TransactionError as error:
            # A membership that is lost is found again: only transactions that fail are counted.
            self._failures += self._commits.failed(error)
            event(
                "transaction failed: back to the committed offsets and the state saved with them",
                level=logging.ERROR,
                error=str(error),
                failures=self._failures,
            )
            if self._failures >= _MOST_FAILURES:
                raise
            self.health.unwatched()
            self._pause(min(_FIRST_PAUSE_S * 2 ** min(self._attempts, 30), _LONGEST_PAUSE_S))
            self._attempts += 1
            self._worker.reopen()

    def _pause(self, seconds: float) -> None:
        """Broker trouble is not mended by asking at once; a stop is heard all the same."""
        while seconds > 0 and not self._stopping:
            self._sleep(min(seconds, _LONGEST_WAIT_S))
            seconds -= _LONGEST_WAIT_S

    # -- a round

    def _round(self) -> None:
        self._rest()
        self.health.round_began()
        if self.exchange.waiting and self._worker.may_commit():
            self._codec = self.exchange.step() or self._codec
            self.exchange.settle()
        self.exchange.follow_shadow()
        asked = self._bounded(self._asked)
        blocks = self._poll(asked)
        began_s, records = self._monotonic_s(), sum(map(len, blocks))
        more = records >= asked
        self._asked = self._next_asked(more=more)
        self._follow_changes()
        self._maintenance.step()
        self._process([b for b in blocks if b.partition in self._partitions])
        for recovered in self._recovery.step() if self._maintenance.known else ():
            self._begin(recovered)
        self._end_replays()
        worked_s = self._monotonic_s() - began_s
        if self._commits.step(more=more):
            self._committed()
        self.health.follow_readiness()
        self.health.set_gauges()
        with self.metrics.processing.of("show"):
            self.viewing.step()
        self._worked_s = worked_s if records and not more else 0.0

    def _rest(self) -> None:
        if self._worked_s > 0 and not self._partitions.restoring:
            self._sleep(min(self._worked_s, _LONGEST_REST_S))

    def _end_round(self) -> None:
        """What the last round has begun is no last transaction: it may fail."""
        if self._commits.end():
            self._committed()

    def _poll(self, max_records: int) -> list[RecordBlock]:
        wait_s = min(self._commits.wait_s(), _LONGEST_WAIT_S)
        if self._partitions.restoring:
            wait_s = 0.0
        with self.metrics.processing.of("poll"):
            return self._worker.poll(
                max_records=max_records,
                max_bytes=self._policy.max_bytes,
                timeout_s=wait_s,
            )

    def _bounded(self, records: int) -> int:
        return max(1, min(records, int(self._policy.max_ticks / self._ticks_a_record)))

    def _next_asked(self, *, more: bool) -> int:
        """More where more waits, up to all that a poll may: large batches cost less a tick."""
        return min(self._policy.max_records, self._asked * 2 if more else _SMALL_POLL)

    def _committed(self) -> None:
        self._failures = self._attempts = 0
        self.health.moved()

    # -- partitions come and go

    def _release(self, partitions: frozenset[int]) -> None:
        """Partitions are about to go: write what is theirs. Called while poll waits."""
        if self._commits.commit(flush=partitions):
            self._committed()

    def _follow_changes(self) -> None:
        lost, gained = self._worker.changes()
        if not lost and not gained:
            return
        self.metrics.rebalances.inc()
        event("partitions changed", lost=sorted(lost), gained=sorted(gained))
        uncommitted = sorted(lost & self._partitions.pending().keys())
        restoring = bool(lost & set(self._partitions.restoring))
        for number in lost:
            gone = self._pipeline.forget(number)
            self._checkpoints.clean(gone)
            self.viewing.lost(number, gone)
            self._partitions.lose(number)
            self.metrics.forget_lag(self._pipeline.topic, number)
        self._partitions.gain(gained)
        if gained or restoring:
            self._recovery.restart()
        if lost & self._commits.moving() and self._commits.end():
            self._committed()  # nobody asks where it stands before that is known
        if uncommitted:
            raise TransactionError(
                f"partitions {uncommitted} left with uncommitted work", begun=False
            )

    def _begin(self, found: Recovered) -> None:
        """A partition's state is there: go on with it."""
        partition = self._partitions[found.partition]
        partition.written = found.committed
        partition.boundaries.append((found.position, found.event_ns))
        restored = self.exchange.restore(partition, found)
        if found.event_ns is not None and found.succession is None:
            self._pipeline.set_event_ns(partition.number, found.event_ns)
        self._maintenance.restore(found)
        if found.saved is not None:
            partition.kept.restored(found.saved.alerts)
            self.viewing.recall(partition.number, recall(found.saved.alerts))
        self.viewing.restored(partition.number)
        replays = found.position < found.committed
        partition.phase = Phase.REPLAYING if replays else Phase.RUNNING
        # Keep where it begins, and which windows have a hole, even if no tick comes.
        if found.saved is None or found.saved.ticks_lost or found.lost:
            partition.pending = found.committed
            self._commits.begin()
        self._worker.start({partition.number: found.position})
        self._account_for(found, restored)

    def _account_for(self, found: Recovered, restored: Restored) -> None:
        metrics = self.metrics
        seconds = self._monotonic_s() - found.since_s
        metrics.restore.set(seconds)
        self._commits.settle(found)
        self._commits.lost(found.lost)
        metrics.count_restored(restored)
        troubled = restored.warming or restored.no_room or found.lost
        event(
            "partition restored",
            level=logging.WARNING if troubled else logging.INFO,
            partition=found.partition,
            committed=found.committed,
            replay=found.committed - found.position,
            series=restored.resumed,
            **({"warming_again": restored.warming} if restored.warming else {}),
            **({"no_room": restored.no_room} if restored.no_room else {}),
            **({"lost_records": found.lost} if found.lost else {}),
            seconds=round(seconds, 3),
        )

    def _end_replays(self) -> None:
        for number in self._partitions.replaying:
            self.exchange.follow(self._partitions[number], self._worker.position(number))
            if self._worker.position(number) >= self._partitions[number].written:
                self._partitions[number].phase = Phase.RUNNING

    # -- ticks

    def _process(self, blocks: list[RecordBlock]) -> None:
        # Before anything of it is touched: what hangs or dies here is named.
        for block in blocks if tells(logging.DEBUG) else ():
            event(
                "processing",
                level=logging.DEBUG,
                partition=block.partition,
                offsets=f"{block.first_offset}..{block.next_offset - 1}",
            )
        new = []
        for block in blocks:
            partition = self._partitions[block.partition]
            old, rest = block.split(partition.written)
            ticks, old = self.exchange.replay(partition, old)
            self._commits.replayed(ticks)
            if len(old):
                self._replay(old)
            if len(rest):
                self.exchange.follow(partition, rest.first_offset)
                if partition.phase is not Phase.RUNNING:
                    # From the first new tick on the restored state is where it was.
                    partition.phase = Phase.RUNNING
                    self._maintenance.sync(partition)
                new.append(rest)
        if blocks:
            self.health.moved()
        if new:
            self._process_new(new)

    def _replay(self, block: RecordBlock) -> None:
        """Ticks whose results are committed, but that the saved state does not hold."""
        batch, _ = self._codec.decode(block)
        result = self._in_parts(batch)
        self._checkpoints.note(result)
        self.viewing.replayed(result)
        self._commits.replayed(len(result.outcome))

    def _process_new(self, blocks: list[RecordBlock]) -> None:
        self._commits.begin()
        with self.metrics.processing.of("decode"):
            decoded = [self._codec.decode(block) for block in blocks]
        fields = len(self._pipeline.primary.features.fields)
        batch = TickBatch.concatenate([b for b, _ in decoded if len(b)], fields=fields)
        self._ticks_a_record = max(1.0, len(batch) / sum(map(len, blocks)))
        started_s = self._monotonic_s()
        with self.metrics.processing.of("process"):
            result = self._in_parts(batch)
        seconds = self._monotonic_s() - started_s
        self._checkpoints.note(result)
        self.viewing.scored(result)
        self.exchange.compare(result, started_s)
        refused = [reject for _, several in decoded for reject in several]
        by_partition = {block.partition: block for block in blocks}
        self._commits.add(result, refused, by_partition, pipeline_s=seconds)
        for block in blocks:
            self._partitions[block.partition].pending = block.next_offset
        if len(batch):
            self.health.saw(int(np.max(batch.time_ns)))

    def _in_parts(self, batch: TickBatch) -> BatchResult:
        """A few records may hold very many ticks: the watchdog hears of every part of them."""
        most, parts = self._policy.max_ticks, []
        for first in range(0, max(1, len(batch)), most):
            self.health.round_began()
            parts.append(self._pipeline.process(batch.part(slice(first, first + most))))
        return parts[0] if len(parts) == 1 else self._pipeline.joined(parts)

    # -- the end

    def _finish(self) -> None:
        try:
            self._drain()
        except TransactionError as error:
            if error.begun:
                raise
            event("stopped without a last transaction", level=logging.WARNING, error=str(error))
        finally:
            self._commits.leave()

    def _drain(self) -> None:
        """The last transaction: everything is written, so that a restart replays nothing."""
        while not self._worker.may_commit():  # the watchdog bounds it
            self._worker.poll(max_records=1, max_bytes=1, timeout_s=_LONGEST_WAIT_S)
        self._follow_changes()
        self._commits.commit(flush=self._partitions.started)
