"""One member of the group that reads ticks and commits.

Who it is in the group (membership.py), how it reads (reading.py) and how its work becomes safe
(committing.py) are put together here.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from kafka import KafkaConsumer, TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import KafkaError, KafkaTimeoutError

from detector.core.records import RecordBlock
from detector.errors import BrokerError, FencedError, TransactionError
from detector.transport.broker import Outbox, Release, Standing, StateReader, Topics
from detector.transport.kafka.beside import Beside
from detector.transport.kafka.client import (
    KafkaSettings,
    broker_error,
    connect,
    position_of,
    refuse,
)
from detector.transport.kafka.committing import Acknowledged, Committer, Transactional, is_refused
from detector.transport.kafka.identity import (
    Process,
    client_id,
    find_twin,
    refusal,
    require_alone,
)
from detector.transport.kafka.membership import Membership, Voice
from detector.transport.kafka.reading import Reading, fetch_options
from detector.transport.kafka.streams import KafkaStateReader

_STANDING_TIMEOUT_MS = 1000
#: A poll lasts at least so long while the group is joined: see membership.py.
_JOINING_S = 0.5
#: What a commit that is under way has to end by itself when the worker leaves.
_LAST_COMMIT_S = 2.0


class _Assignor(CooperativeStickyAssignor):  # type: ignore[misc]  # the library is untyped
    """Asks to join when no commit is under way. With all members' questions the group is a
    generation on, and would refuse the offsets of a transaction that began before. The client asks
    for metadata when it makes its question, on its own thread."""

    def __init__(self, settled: Callable[[], None]) -> None:
        super().__init__()
        self._settled = settled

    def metadata(self, topics: Any) -> Any:
        self._settled()
        return super().metadata(topics)


class KafkaWorker:
    def __init__(self, settings: KafkaSettings, topics: Topics) -> None:
        self._settings, self._topics = settings, topics
        self._release: Release = lambda _: None
        self._membership = Membership(
            topics.ticks,
            lambda partitions: self._release(partitions),
            where=settings.where,
            session_s=settings.session_timeout_ms / 1000,
        )
        committer = Transactional if settings.exactly_once else Acknowledged
        self._committer: Committer = committer(settings, topics, self._membership)
        self._reading = Reading(settings, topics.ticks)
        self._beside = Beside("commit")
        self._begun: tuple[Voice, dict[Any, Any]]  # the commit begun last
        self._consumer: Any = None
        self._looked_again = False
        self._twin: FencedError | None = None

    # -- joining and leaving

    def open(self, release: Release) -> None:
        self._release = release
        settings = self._settings
        if settings.exactly_once:
            require_alone(settings)
        self._committer.open()
        self._beside.open()
        self._consumer = connect(
            settings,
            KafkaConsumer,
            settings.streams()
            | fetch_options(settings)
            | {
                "client_id": client_id(settings.transactional_id, Process.ours()),
                "group_id": settings.group,
                "group_instance_id": settings.group_instance_id,
                "enable_auto_commit": False,
                "isolation_level": "read_committed",
                "auto_offset_reset": "none",  # where to start is said, never guessed
                "session_timeout_ms": settings.session_timeout_ms,
                # A rebalance waits until each member hears of it with its next heartbeat.
                "heartbeat_interval_ms": min(settings.session_timeout_ms // 3, 500),
                "partition_assignment_strategy": [_Assignor(self._beside.wait)],
                # A member that does not poll holds up a rebalance for so long at most.
                "max_poll_interval_ms": max(settings.session_timeout_ms, 60_000),
            },
        )
        self._reading.follow(self._consumer)
        self._membership.follow(self._consumer)
        # Known before joining: a leader that does not know the topic yet hands out nothing.
        if not self._consumer.partitions_for_topic(self._topics.ticks):
            raise BrokerError(f"{settings.where}: has no topic {self._topics.ticks}")

    def reopen(self) -> None:
        self._beside.forget()
        self._committer.close()
        self._committer.open()
        self._membership.begin_anew()

    def close(self) -> None:
        self._release = lambda _: None  # the client tells of leaving as of giving up
        self._beside.close(timeout_s=_LAST_COMMIT_S)
        self._committer.close()
        if self._consumer is not None:
            with contextlib.suppress(KafkaError):  # a broker that is gone cannot be told
                self._consumer.close(timeout_ms=2000)
            self._consumer = None
        self._membership.started.clear()

    # -- partitions

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        return self._membership.changes()

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        tps = {p: self._tp(p) for p in partitions}
        found: dict[int, Standing] = {}
        try:
            first = self._consumer.beginning_offsets(list(tps.values()))
            end = self._consumer.end_offsets(list(tps.values()))
            for p, tp in tps.items():
                committed = self._consumer.committed(tp, timeout_ms=_STANDING_TIMEOUT_MS)
                # A negative offset is how some broker versions say "none".
                settled = None if committed is None or committed < 0 else committed
                found[p] = Standing(settled, first[tp], end[tp])
        except KafkaTimeoutError:
            pass  # a transaction of the last owner is not settled yet
        except KafkaError as error:
            raise self._error("asking for the committed offsets", error) from error
        return found

    def read_state(self, partitions: Sequence[int]) -> StateReader:
        return KafkaStateReader(self._settings, self._topics.state, partitions)

    def start(self, positions: Mapping[int, int]) -> None:
        if self._settings.exactly_once and not self._looked_again:
            self._looked_again = True
            threading.Thread(target=self._look_again, name="lookout", daemon=True).start()
        held = self._membership.held()
        for partition, offset in positions.items():
            tp = self._tp(partition)
            if partition in held:
                try:
                    self._consumer.seek(tp, offset)
                except KafkaError as error:  # the client asks the broker about the offset
                    raise self._error(f"going to {tp} {offset}", error) from error
                self._consumer.resume(tp)
                self._membership.started.add(partition)

    def _look_again(self) -> None:
        """For a twin that has started at the same moment; in a thread, as asking takes a while."""
        with contextlib.suppress(BrokerError):
            twin = find_twin(self._settings)
            if twin is not None:
                self._twin = refusal(self._settings, twin)

    def position(self, partition: int) -> int:
        try:
            offset: int = self._consumer.position(self._tp(partition))
        except KafkaError as error:  # with a new leader the client asks the broker first
            raise self._error("asking for the position", error) from error
        return offset

    # -- the loop

    def poll(self, *, max_records: int, max_bytes: int, timeout_s: float) -> list[RecordBlock]:
        if not self._membership.may_commit():
            self._membership.ask_again()
            timeout_s = max(timeout_s, _JOINING_S)
        blocks = self._reading.poll(
            self._consumer, max_records=max_records, max_bytes=max_bytes, timeout_s=timeout_s
        )
        self._membership.polled()
        if self._twin is not None:
            raise self._twin
        refuse(self._settings)
        return [b for b in blocks if b.partition in self._membership.started]

    def may_commit(self) -> bool:
        return self._membership.may_commit()

    def begin_commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        voice, committer = self._membership.speak(), self._committer
        offsets = {self._tp(p): position_of(offset) for p, offset in positions.items()}
        self._begun = voice, offsets
        self._beside.begin(lambda: committer.commit(outbox, offsets, voice))

    def end_commit(self, *, timeout_s: float | None) -> float | None:
        voice, offsets = self._begun
        try:
            ago_s = self._beside.end(timeout_s)
        except TransactionError as error:
            if is_refused(error):
                self._membership.refused(voice.group.generation_id)
            raise
        if ago_s is not None:
            self._committer.committed(offsets)
        return ago_s

    # -- what people watch

    def ready(self) -> bool:
        return self._membership.ready()

    def lag(self) -> dict[int, int]:
        result = {}
        assigned = self._consumer.assignment()
        for partition in self._membership.started:
            tp = self._tp(partition)
            if tp in assigned:
                end = self._consumer.highwater(tp)
                if end is not None:
                    result[partition] = max(0, end - self.position(partition))
        return result

    def readable(self) -> int:
        tps = [self._tp(p) for p in self._membership.started]
        try:
            ends = self._consumer.end_offsets(tps)
            return sum(max(0, ends[tp] - self._consumer.position(tp)) for tp in tps)
        except KafkaError as error:
            raise self._error("asking for the end of the log", error) from error

    def _tp(self, partition: int) -> Any:
        return TopicPartition(self._topics.ticks, partition)

    def _error(self, doing: str, error: Exception) -> BrokerError:
        return broker_error(self._settings, doing, error)
