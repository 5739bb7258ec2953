"""Mutes from the configuration and the commands topic into the partitions, each at a position of
its own, which is kept with the partition's state (core/mutes.py)."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from detector.core.commands import decode_mute
from detector.core.moments import rfc3339
from detector.core.mutes import CONFIGURED, Mute
from detector.core.pipeline import Pipeline
from detector.core.records import Record
from detector.service.commands import Commands
from detector.service.commit import Commits
from detector.service.logs import event
from detector.service.metrics import Metrics
from detector.service.partitions import Partition, Partitions, Phase
from detector.service.recovery import Recovered

#: So long the commands are waited for before any tick is processed; then the loop goes on without.
_PATIENCE_S = 10.0
#: How long this worker may have read less of the commands than the last owner of a partition,
#: before the topic is taken for another one.
_SETTLE_S = 30.0
_PRUNE_EVERY_S = 10.0
#: A clock that is farther off is said.
_FAR_OFF_MS = 5 * 60 * 1000
_DAY_NS = 86_400 * 10**9


class Maintenance:
    """configured: mutes of config.yaml; where: the name of the state topic, for messages."""

    def __init__(
        self,
        commands: Commands,
        configured: Sequence[Mute],
        pipeline: Pipeline,
        partitions: Partitions,
        commits: Commits,
        metrics: Metrics,
        *,
        where: str,
        monotonic_s: Callable[[], float],
    ) -> None:
        self._commands, self._pipeline = commands, pipeline
        self._partitions, self._commits, self._metrics = partitions, commits, metrics
        self._where, self._monotonic_s = where, monotonic_s
        self._wanted = {mute.id: mute for mute in configured}
        self._offered: Sequence[Mute] = configured
        self._taken = configured
        self._read = 0
        self._version = 1  # of what is wanted
        self._synced: dict[int, tuple[Partition, int]] = {}
        self._behind_s: dict[int, float] = {}
        self._told: set[str] = set()
        self._opened_s = self._pruned_s = monotonic_s()
        self.known = False  # whether partitions may begin

    def open(self) -> None:
        self._opened_s = self._monotonic_s()
        self._commands.open()

    def close(self) -> None:
        self._commands.close()

    def configure(self, mutes: Sequence[Mute]) -> None:
        """From any thread: from the next round on these are those of the configuration."""
        self._offered = mutes

    def step(self) -> None:
        """Hear what is new, and tell the partitions. Never waits."""
        if self._offered is not self._taken:
            self._taken = self._offered
            given = {n: m for n, m in self._wanted.items() if not n.startswith(CONFIGURED)}
            self._wanted = {mute.id: mute for mute in self._taken} | given
            self._version += 1
        records, self._read = self._commands.news()
        for record in records:
            self._hear(record)
        if not self.known:
            self.known = self._commands.caught_up
            if not self.known and self._monotonic_s() - self._opened_s > _PATIENCE_S:
                self.known = True
                event(
                    "the commands topic has not been read yet: going on with the mutes known",
                    level=logging.WARNING,
                )
        prune = self._monotonic_s() - self._pruned_s > _PRUNE_EVERY_S
        for partition in self._partitions:
            if partition.phase is Phase.RUNNING:
                if prune:
                    self._prune(partition)
                self.sync(partition)
        if prune:
            self._pruned_s = self._monotonic_s()

    def restore(self, found: Recovered) -> None:
        """What the last owner of the partition left."""
        if found.saved is not None and found.saved.mutes is not None:
            self._pipeline.stream.mutes.restore(
                found.partition,
                found.saved.mutes,
                f"{self._where}/{found.partition}",
                position=found.position,
                event_ns=found.event_ns,
            )

    def sync(self, partition: Partition) -> None:
        """A partition whose next tick is new: what is wanted holds from that one on."""
        told, version = self._synced.get(partition.number, (None, 0))
        if told is partition and version == self._version:
            return
        mutes, number = self._pipeline.stream.mutes, partition.number
        wanted, read = self._wanted, self._read
        if not self._commands.caught_up:
            if not self.known:
                return
            # Commands cannot be read: those of the configuration hold, and what was known goes on.
            held = [one.mute for one in mutes.applied(number) if one.until is None]
            wanted = {m.id: m for m in held if not m.id.startswith(CONFIGURED)} | self._wanted
            read = mutes.read(number)
        elif self._is_behind(number):
            return
        else:
            self._synced[number] = partition, self._version
        changed = mutes.apply(
            number,
            wanted,
            at=partition.position,
            read=read,
            event_ns=self._pipeline.event_ns(number),
        )
        self._look(partition.number)
        if changed:
            self._keep(partition)

    def _keep(self, partition: Partition) -> None:
        partition.mutes_changed = True
        if partition.pending is None:
            partition.pending = partition.position
        self._commits.begin()

    def _is_behind(self, number: int) -> bool:
        """Whether the last owner of a partition had read on: then it knew better."""
        mutes, now_s = self._pipeline.stream.mutes, self._monotonic_s()
        if mutes.read(number) <= self._read:
            self._behind_s.pop(number, None)
            return False
        if now_s - self._behind_s.setdefault(number, now_s) < _SETTLE_S:
            return True
        event(
            "the commands topic is shorter than it was: was it deleted? Its mutes hold from now on",
            level=logging.WARNING,
            partition=number,
            read=self._read,
            before=mutes.read(number),
        )
        mutes.forget_read(number)
        self._behind_s.pop(number, None)
        return False

    def _prune(self, partition: Partition) -> None:
        offset, event_ns = partition.boundaries[0]
        if self._pipeline.stream.mutes.prune(partition.number, before=offset, event_ns=event_ns):
            self._keep(partition)

    def _hear(self, record: Record) -> None:
        try:
            identity, mute = decode_mute(record.key, record.value)
        except ValueError as error:
            self._metrics.commands_refused.inc()
            event(
                "a record of the commands topic cannot be used: left out",
                level=logging.WARNING,
                offset=record.offset,
                error=str(error)[:200],
            )
            return
        if mute is None:
            if self._wanted.pop(identity, None) is None:
                return
            event("mute taken back", mute=identity)
        else:
            self._wanted[identity] = mute
            if not self.known:  # of old: whoever gave it was told
                self._told.add(identity)
            off_ms = record.timestamp_ms - mute.made_ns // 10**6
            if mute.made_ns and record.timestamp_ms >= 0 and abs(off_ms) > _FAR_OFF_MS:
                event(
                    "mute by a clock that is far off",
                    level=logging.WARNING,
                    mute=identity,
                    seconds=round(off_ms / 1000),
                )
        self._version += 1

    def _look(self, number: int) -> None:
        """Say of which mutes the times are far from those of the ticks, once."""
        event_ns = self._pipeline.event_ns(number)
        if event_ns is None:
            return
        for mute in self._wanted.values():
            past = mute.until_ns is not None and mute.until_ns <= event_ns
            ahead = mute.since_ns is not None and mute.since_ns > event_ns + _DAY_NS
            if (past or ahead) and mute.id not in self._told:
                self._told.add(mute.id)
                event(
                    f"mute is {'over already' if past else 'far ahead'} by the time of the ticks",
                    mute=mute.id,
                    event_time=rfc3339(event_ns),
                )
