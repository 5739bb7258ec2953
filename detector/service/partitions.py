"""The partitions this worker holds, and everything the service knows of each.

What the ticks in it say (its clock, its series) is in the stream; who may read it is the
transport's business.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import Enum, auto

from detector.core.records import Message
from detector.core.state import Change
from detector.service.kept_events import KeptEvents
from detector.service.succession import Succession
from detector.transport.broker import Standing


class Phase(Enum):
    """RESTORING: its state is being read, no tick of it is; REPLAYING: ticks whose results are
    written come again, silently; RUNNING: ticks are new."""

    RESTORING = auto()
    REPLAYING = auto()
    RUNNING = auto()


@dataclass(slots=True)
class Partition:
    """written: results of ticks below this offset are committed. pending: where a commit of the
    work done so far would move it; None: no work is done but for that of a commit under way.
    boundaries: (offset, clock) of the commits from the oldest unsaved change on, up to the one that
    is under way.
    windowless: state to write again without its windows, as ticks that follow it are missing.
    forgotten: series whose saved state is to be deleted.
    mutes_changed: other mutes are to be saved.
    kept: events of open alerts that are saved, or will be with the next commit, oldest first.
    standing: where it stood when it was last asked for, while it is restored.
    judged_from: the first tick judged as now, if it was judged otherwise before.
    changes: who judged before, of ticks that a restart may read again, ascending.
    succession: what it goes through until it is judged like the others.
    lag: records not yet read; None: not known yet.
    """

    number: int
    phase: Phase = Phase.RESTORING
    written: int = 0
    pending: int | None = None
    boundaries: deque[tuple[int, int | None]] = field(default_factory=deque)
    windowless: list[Message] = field(default_factory=list)
    forgotten: set[str] = field(default_factory=set)
    mutes_changed: bool = False
    kept: KeptEvents = field(default_factory=KeptEvents)
    standing: Standing | None = None
    judged_from: int | None = None
    changes: list[Change] = field(default_factory=list)
    succession: Succession | None = None
    lag: int | None = None

    @property
    def boundary(self) -> int:
        """The offset of the last commit begun: where a change since then is to be found."""
        return self.boundaries[-1][0]

    @property
    def position(self) -> int:
        """The offset of the next tick that is processed anew."""
        return max(self.written, self.boundary, self.pending or 0)

    def clock_at(self, offset: int) -> int | None:
        """What the partition's clock showed at one of the boundaries."""
        return next(event_ns for at, event_ns in self.boundaries if at == offset)

    def begin_move(self, offset: int, event_ns: int | None) -> None:
        """A commit that moves it to offset is under way: what is done from now on is another's."""
        self.pending = None
        if self.boundaries[-1][0] == offset:
            self.boundaries.pop()
        self.boundaries.append((offset, event_ns))

    def moved(self, offset: int, *, needed_from: int) -> None:
        """The commit has moved it to offset; a restart reads again from needed_from."""
        self.written = offset
        while self.boundaries[0][0] < needed_from:
            self.boundaries.popleft()


class Partitions:
    """By number. Probes look from other threads: what they look at is replaced, never changed."""

    def __init__(self) -> None:
        self._held: dict[int, Partition] = {}

    def __getitem__(self, number: int) -> Partition:
        return self._held[number]

    def __contains__(self, number: int) -> bool:
        return number in self._held

    def __iter__(self) -> Iterator[Partition]:
        """In order of their numbers."""
        held = self._held
        return iter([held[number] for number in sorted(held)])

    def gain(self, numbers: Iterable[int]) -> None:
        """They come without a state yet."""
        self._held = {**self._held, **{number: Partition(number) for number in numbers}}

    def lose(self, number: int) -> Partition | None:
        left = dict(self._held)
        lost = left.pop(number, None)
        self._held = left
        return lost

    def of(self, *phases: Phase) -> list[int]:
        """The numbers of those in one of the phases, ascending."""
        found = [p.number for p in self._held.values() if p.phase in phases]
        return sorted(found) if found else found

    @property
    def restoring(self) -> list[int]:
        return self.of(Phase.RESTORING)

    @property
    def replaying(self) -> list[int]:
        return self.of(Phase.REPLAYING)

    @property
    def started(self) -> list[int]:
        """Those whose ticks are read."""
        return self.of(Phase.REPLAYING, Phase.RUNNING)

    def pending(self) -> dict[int, int]:
        """Where a commit of the work done so far would move each."""
        return {p.number: p.pending for p in self if p.pending is not None}

    def drop_work(self) -> None:
        """The work done so far will not be committed."""
        for partition in self._held.values():
            partition.pending = None
