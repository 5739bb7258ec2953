"""What the group says this worker holds, and whether it still speaks for it.

The client's traps and what is done about each (kafka-python 3.0.12):
- a generation below 0 (membership lost) is refused: a broker would accept the commit. So is a
  member id that changed since the work was polled: the partitions may have been elsewhere
  meanwhile, and the client tells of no loss when it rejoins in the middle of a rebalance;
- while the group rebalances the broker may already be a generation ahead of the client, and
  would refuse a commit: it waits (may_commit). A rebalance begins and ends within poll alone;
- a join that ends between two polls is thrown away, and the next poll joins anew, with no heartbeat
  in between: a loop of short polls with work between them is never back before its session ends.
  While it joins a poll has to wait for it. Where it joins because the topic has grown it then even
  forgets that it wanted to: neither joined nor asking, with no heartbeat and no error, for good.
  It is asked to (ask_again);
- with all members' questions to join the group is a generation on: none is asked while a commit is
  under way (worker.py);
- rebalance listeners run on the client's thread while poll waits for them. Partitions are given
  up only after the listener returns, so a commit made there still counts.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from kafka import ConsumerRebalanceListener, TopicPartition
from kafka.structs import MemberState

from detector.errors import DetectorError, TransactionError
from detector.transport.broker import Release


@dataclass(frozen=True, slots=True)
class Voice:
    """In whose name a commit is made. group: the metadata of the member when it began; polled_s:
    when it had polled last, on the monotonic clock."""

    group: Any
    polled_s: float


class Membership(ConsumerRebalanceListener):  # type: ignore[misc]  # the library is untyped
    """Of one consumer in its group. The listener's methods run on the client's thread."""

    def __init__(self, topic: str, release: Release, *, where: str, session_s: float) -> None:
        self._topic, self._release = topic, release
        self._where, self._session_s = where, session_s
        self._consumer: Any = None
        self.started: set[int] = set()
        self._lost: set[int] = set()
        self._gained: set[int] = set()
        self._member = ""
        self._joined = False
        self._refused: int | None = None  # the generation whose commit the group refused
        self._failure: DetectorError | None = None  # of a release
        self._polled_s = time.monotonic()
        self.releasing = False

    def follow(self, consumer: Any) -> None:
        """Join through this consumer."""
        self._consumer = consumer
        consumer.subscribe([self._topic], listener=self)

    def ask_again(self) -> None:
        """See that a join under way is waited for by the next poll, or begun anew."""
        group = self._consumer.group_metadata()
        coordinator = self._consumer._coordinator
        if group.state == MemberState.REBALANCING and not coordinator.need_rejoin():
            coordinator.request_rejoin()

    # -- what is held

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        lost, gained = frozenset(self._lost), frozenset(self._gained)
        self._lost, self._gained = set(), set()
        return lost, gained

    def held(self) -> set[int]:
        return {tp.partition for tp in self._consumer.assignment()}

    def begin_anew(self) -> None:
        """Everything held is lost, and gained again unless the group has refused us."""
        held = self.held()
        self._lost |= held
        self._hold(held)
        if self._refused is None:
            self._gained |= held
        self._failure = None
        self._member = ""

    def _hold(self, partitions: set[int]) -> None:
        """Do not read these until start says where. Runs on the client's thread too."""
        self.started -= partitions
        for partition in partitions:
            tp = TopicPartition(self._topic, partition)
            self._consumer.pause(tp)
            self._consumer.seek(tp, 0)  # a position, so that the client does not look for one

    # -- whether it may speak

    def ready(self) -> bool:
        group = self._consumer.group_metadata()
        if group.generation_id < 0:
            self._joined = False
        elif group.state == MemberState.STABLE:
            self._joined = True  # and stays so while the group shuffles partitions
        return self._joined

    def may_commit(self) -> bool:
        return bool(self._consumer.group_metadata().state == MemberState.STABLE)

    def polled(self) -> None:
        """A poll has returned. Raises what a release came to, or TransactionError."""
        self._polled_s = time.monotonic()
        if self._failure is not None:
            failure, self._failure = self._failure, None
            raise failure
        if self._changed():
            raise self._gone()
        group = self._consumer.group_metadata()
        if group.generation_id >= 0 and group.generation_id != self._refused:
            self._member = group.member_id
            if self._refused is not None:  # back in the group: what is held is held by right
                self._refused = None
                self._gained |= self.held()

    def speak(self) -> Voice:
        """Whose commit it is. Raises TransactionError if the work may not be ours any more."""
        group = self._consumer.group_metadata()
        if group.generation_id < 0 or group.member_id != self._member:
            self._refused = group.generation_id
            raise self._gone()
        return Voice(group, self._polled_s)

    def refused(self, generation: int) -> None:
        """The group did not take a commit of this generation."""
        self._refused = generation

    def must_be_awake(self, voice: Voice) -> None:
        """Nothing fences a worker without transactions: after a sleep longer than its session the
        partitions are another's, whatever the client believes. A poll made since the commit
        began says nothing of that: it may be the first after the sleep. Called by the thread that
        commits."""
        silent_s = time.monotonic() - voice.polled_s
        if silent_s > self._session_s or self._changed():
            raise self._gone()

    def tell_group(self, offsets: Any) -> None:
        """Commit offsets by the way, but not from within a release: the client waits for it."""
        if not self.releasing:
            self._consumer.commit_async(offsets, callback=lambda *_: None)

    def _changed(self) -> bool:
        group = self._consumer.group_metadata()
        return bool(self._member and group.generation_id >= 0 and group.member_id != self._member)

    def _gone(self) -> TransactionError:
        return TransactionError(f"{self._where}: the group membership was lost", begun=False)

    # -- called by the client, on its thread, while poll waits

    def on_partitions_assigned(self, assigned: Any) -> None:
        partitions = {tp.partition for tp in assigned}
        self._gained |= partitions
        self._hold(partitions)

    def on_partitions_revoked(self, revoked: Any) -> None:
        try:
            if self._changed():
                raise self._gone()
            self.releasing = True
            self._release(frozenset(tp.partition for tp in revoked))
        except DetectorError as error:
            self._failure = error
        finally:
            self.releasing = False
        self.on_partitions_lost(revoked)

    def on_partitions_lost(self, lost: Any) -> None:
        partitions = {tp.partition for tp in lost}
        self._lost |= partitions
        self._gained -= partitions
        self.started -= partitions
