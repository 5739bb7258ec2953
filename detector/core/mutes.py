"""Mutes: which series' alerts are not to be shown, and when, by the clock of their partition.

A mute is in force in a partition from the offset at which it was taken over to the one at which it
was taken back, while the partition's clock (event time) is inside its time. Both are kept with the
state of the partition, so that whoever reads its ticks again finds the same mutes at the same
ticks. Nothing is kept of a series: what was last said of an open alert follows from the mutes in
force at the tick before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import msgspec
import numpy as np

from detector.core.patterns import Pattern
from detector.core.recurring import Recurring
from detector.core.ticks import Bool, Int64, TickBatch
from detector.errors import StateError

_VERSION = 1
#: What the names of those of the configuration begin with.
CONFIGURED = "config-"
_LAST = int(np.iinfo(np.int64).max)


class Windows(msgspec.Struct, frozen=True, kw_only=True):
    """Times that come again: see recurring.py."""

    cron: str
    lasts_s: int
    time_zone: str


class Mute(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """series: the pattern of their names. since_ns, until_ns: event time, half open; None: always.
    windows: within those only. made_ns: when it was given, by the clock of whoever did."""

    id: str
    series: str
    since_ns: int | None = None
    until_ns: int | None = None
    windows: Windows | None = None
    reason: str = ""
    by: str = ""
    made_ns: int = 0


def named(mute: Mute) -> Mute:
    """The same with a name that follows from what it says."""
    said = msgspec.structs.replace(mute, id="")
    digest = hashlib.blake2b(msgspec.json.encode(said), digest_size=4).hexdigest()
    return msgspec.structs.replace(mute, id=f"{CONFIGURED}{digest}")


@dataclass(frozen=True, slots=True)
class Turn:
    """At a row of a batch other mutes come into force in its partition."""

    row: int
    partition: int
    now: tuple[Mute, ...]


@dataclass(frozen=True, slots=True)
class Turned:
    """A mute that began or ended in a partition, at an offset."""

    mute: Mute
    partition: int
    offset: int
    began: bool


class Applied(msgspec.Struct, frozen=True, kw_only=True):
    """since: the first offset it holds for; until: the first it does not; None: not known yet."""

    mute: Mute
    since: int
    until: int | None = None


class _Record(msgspec.Struct, frozen=True, kw_only=True):
    """read: commands of the log below this offset are taken into account."""

    version: int
    read: int
    applied: tuple[Applied, ...]


@dataclass(slots=True)
class _Table:
    """Of one partition. in_force: at its last tick; seen: the offset after that."""

    read: int = 0
    seen: int = 0
    applied: tuple[Applied, ...] = ()
    in_force: tuple[Mute, ...] = ()


@dataclass(frozen=True, slots=True)
class Schedule:
    """When one mute holds, and for whom. Raises ValueError where it says nothing sensible."""

    pattern: Pattern
    since_ns: int
    until_ns: int
    windows: Recurring | None

    @classmethod
    def of(cls, mute: Mute) -> Schedule:
        since_ns = -_LAST if mute.since_ns is None else mute.since_ns
        until_ns = _LAST if mute.until_ns is None else mute.until_ns
        if not -_LAST <= since_ns < until_ns <= _LAST:
            raise ValueError("it ends before it begins")
        windows = mute.windows
        recurring = None
        if windows is not None:
            recurring = Recurring(windows.cron, windows.lasts_s, windows.time_zone)
        return cls(Pattern(mute.series), since_ns, until_ns, recurring)

    def holds(self, event_ns: Int64) -> Bool:
        """(n,) at each of n readings of a clock."""
        inside: Bool = (event_ns >= self.since_ns) & (event_ns < self.until_ns)
        if self.windows is not None and inside.any():
            inside[inside] = self.windows.inside_of(event_ns[inside])
        return inside


@dataclass(slots=True)
class Mutes:
    """Of every partition that is held."""

    _tables: dict[int, _Table] = field(default_factory=dict)
    _schedules: dict[Mute, Schedule] = field(default_factory=dict)

    # -- what a partition is told

    def apply(
        self,
        partition: int,
        wanted: Mapping[str, Mute],
        *,
        at: int,
        read: int,
        event_ns: int | None,
    ) -> bool:
        """From the offset `at` on these hold, and no others. read: see the record; event_ns: the
        partition's clock: what is over by it is not taken over. Whether that is a change."""
        table = self._tables.get(partition) or _Table()
        holding = {one.mute.id: one.mute for one in table.applied if one.until is None}
        new = {
            identity: mute
            for identity, mute in wanted.items()
            if holding.get(identity) != mute and not _over(mute, event_ns)
        }
        gone = {identity for identity, mute in holding.items() if wanted.get(identity) != mute}
        if not new and not gone:
            return False
        self._tables[partition] = table
        table.applied = (
            *(
                msgspec.structs.replace(one, until=at)
                if one.until is None and one.mute.id in gone
                else one
                for one in table.applied
            ),
            *(Applied(mute=mute, since=at) for mute in new.values()),
        )
        table.read = max(table.read, read)
        return True

    def prune(self, partition: int, *, before: int, event_ns: int | None) -> bool:
        """Drop what no tick from the offset `before` on can meet, at which the clock stands at
        event_ns. Whether there was any."""
        table = self._tables.get(partition)
        if table is None:
            return False
        left = tuple(
            one
            for one in table.applied
            if not (one.until is not None and one.until < before) and not _over(one.mute, event_ns)
        )
        table.applied, had = left, len(table.applied)
        return len(left) < had

    def settle(self, partition: int, position: int) -> bool:
        """Work up to this position is about to be committed. What no tick has met yet is told by
        the next one: it counts from there. Whether that changes what is kept."""
        table = self._tables.get(partition)
        if table is None:
            return False
        before = table.applied
        table.applied = tuple(
            msgspec.structs.replace(
                one,
                since=max(one.since, position) if one.since >= table.seen else one.since,
                until=max(one.until, position)
                if one.until is not None and one.until >= table.seen
                else one.until,
            )
            for one in before
        )
        return table.applied != before

    @property
    def nothing(self) -> bool:
        """Whether no partition knows of any."""
        return not self._tables

    def read(self, partition: int) -> int:
        """How far the commands are taken into account there."""
        table = self._tables.get(partition)
        return 0 if table is None else table.read

    def forget_read(self, partition: int) -> None:
        """The log of commands is another one now."""
        if partition in self._tables:
            self._tables[partition].read = 0

    def applied(self, partition: int) -> tuple[Applied, ...]:
        table = self._tables.get(partition)
        return () if table is None else table.applied

    # -- what a batch finds

    def turns(self, batch: TickBatch, usable: Bool, clocks: Mapping[int, int | None]) -> list[Turn]:
        """Rows before which the mutes in force change, ascending. usable: (n,) ticks that move the
        clock; clocks: its readings before the batch."""
        found: list[Turn] = []
        for partition, table in self._tables.items():
            rows = np.flatnonzero(batch.partition == partition)
            if not len(rows):
                continue
            table.seen = int(batch.offset[rows[-1]]) + 1
            if table.applied or table.in_force:
                found += self._turns_of(partition, table, rows, batch, usable, clocks[partition])
        return sorted(found, key=lambda turn: turn.row)

    def _turns_of(
        self,
        partition: int,
        table: _Table,
        rows: Int64,
        batch: TickBatch,
        usable: Bool,
        before_ns: int | None,
    ) -> list[Turn]:
        start_ns = -_LAST if before_ns is None else before_ns
        moved = np.where(usable[rows], batch.time_ns[rows], -_LAST)
        event_ns = np.maximum(np.maximum.accumulate(moved), start_ns)
        holds = [self._hold(one, batch.offset[rows], event_ns) for one in table.applied]
        in_force = np.array([one.mute in table.in_force for one in table.applied], np.bool_)
        matrix = np.array(holds, np.bool_).reshape(len(table.applied), len(rows))
        previous = np.column_stack([in_force, matrix[:, :-1]])
        turning = (matrix != previous).any(axis=0)
        # One that is kept no longer has ended.
        turning[0] |= len(table.in_force) > int(in_force.sum())
        return [
            Turn(
                int(rows[at]),
                partition,
                tuple(one.mute for one, on in zip(table.applied, matrix[:, at], strict=True) if on),
            )
            for at in np.flatnonzero(turning).tolist()
        ]

    def _hold(self, one: Applied, offset: Int64, event_ns: Int64) -> Bool:
        until = _LAST if one.until is None else one.until
        inside: Bool = (offset >= one.since) & (offset < until) & (event_ns > -_LAST)
        if inside.any():
            inside &= self._schedule(one.mute).holds(event_ns)
        return inside

    def turn(self, turn: Turn, offset: int) -> list[Turned]:
        """From here on these are in force. Returns what began and ended."""
        table = self._tables[turn.partition]
        before, table.in_force = table.in_force, turn.now
        ended = [Turned(m, turn.partition, offset, False) for m in before if m not in turn.now]
        began = [Turned(m, turn.partition, offset, True) for m in turn.now if m not in before]
        return ended + began

    def in_force(self, partition: int) -> tuple[Mute, ...]:
        """At the partition's last tick."""
        table = self._tables.get(partition)
        return () if table is None else table.in_force

    def muted(self, partition: int, series: str) -> bool:
        """Whether an alert of the series is muted at the partition's last tick."""
        return self.covers(self.in_force(partition), series)

    def covers(self, mutes: Iterable[Mute], series: str) -> bool:
        return any(self._schedule(mute).pattern.matches(series) for mute in mutes)

    def count(self) -> int:
        """Mutes in force in at least one partition."""
        return len({mute.id for table in self._tables.values() for mute in table.in_force})

    def _schedule(self, mute: Mute) -> Schedule:
        found = self._schedules.get(mute)
        if found is None:
            if len(self._schedules) > 10_000:
                self._schedules.clear()
            found = self._schedules[mute] = Schedule.of(mute)
        return found

    # -- what is kept

    def encode(self, partition: int) -> bytes:
        table = self._tables.get(partition) or _Table()
        return msgspec.json.encode(
            _Record(version=_VERSION, read=table.read, applied=table.applied)
        )

    def kept(self, partition: int) -> bool:
        """Whether the partition has anything to keep."""
        return partition in self._tables

    def restore(
        self, partition: int, value: bytes, where: str, *, position: int, event_ns: int | None
    ) -> None:
        """What was kept, as it was at the tick before position, when the clock stood at event_ns.
        Raises StateError."""
        record = _decode(value, where)
        table = _Table(read=record.read, seen=position, applied=record.applied)
        if event_ns is not None:
            at, clock = np.array([position - 1]), np.array([event_ns])
            table.in_force = tuple(
                one.mute for one in table.applied if self._hold(one, at, clock)[0]
            )
        self._tables[partition] = table

    def take(self, partition: int, others: Mutes) -> None:
        """All that others know of a partition, which had it until now."""
        table = others._tables.get(partition)
        if table is not None:
            self._tables[partition] = table

    def drop(self, partition: int) -> None:
        """Another worker has it now."""
        self._tables.pop(partition, None)


def _over(mute: Mute, event_ns: int | None) -> bool:
    return event_ns is not None and mute.until_ns is not None and mute.until_ns <= event_ns


def _decode(value: bytes, where: str) -> _Record:
    try:
        version = msgspec.json.decode(value)["version"]
        if isinstance(version, int) and version > _VERSION:
            raise StateError(
                f"{where}: the mutes were written by a newer program (version {version}, this one "
                f"reads {_VERSION}); run the newer program, or start over: detector state reset"
            )
        record = msgspec.json.decode(value, type=_Record)
        for one in record.applied:
            Schedule.of(one.mute)
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise StateError(
            f"{where}: the mutes are damaged ({str(error)[:100]}); start over: detector state reset"
        ) from None
    return record
