"""A clock that stands still, and a worker that does what a script says: how many records each poll
gives, how far the clock moves, how long a transaction is under way, and where the process dies, a
transaction fails or a partition goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

from detector.core.records import RecordBlock
from detector.errors import TransactionError
from detector.transport.broker import Outbox, Release, Standing, StateReader, Worker
from tests.contracts.transports import commit


class DeathError(BaseException):
    """The process ends here and now."""


class SimulatedClock:
    def __init__(self, now_s: float = 1000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@dataclass(frozen=True, slots=True)
class Trouble:
    """What happens at the n-th poll or commit of a process: it dies there, or its transaction is
    reported as failed (a commit), or its partition is asked back in time (release) or is gone for
    a moment (lose)."""

    where: str  # poll | release | lose | before | after: a commit, that is not done or that is
    number: int
    fatal: bool = True


@dataclass(frozen=True, slots=True)
class Lasting:
    """How often a transaction is looked at in vain before it ends; early: all the same it is done,
    or has failed, as soon as it begins, and nobody knows yet."""

    looks: int = 0
    early: bool = True


@dataclass(slots=True)
class Made:
    """A transaction: what it held, and the polls it began and ended after."""

    alerts: int
    position: int
    began: int
    ended: int | None = None


class DrivenWorker:
    """A worker whose polls follow a script and which dies or fails where it is told."""

    def __init__(
        self,
        inner: Worker,
        *,
        sizes: Iterator[int],
        pauses_s: Iterator[float],
        lasting: Iterator[Lasting],
        clock: SimulatedClock,
        troubles: Sequence[Trouble],
        idle: Callable[[], None],
    ) -> None:
        self.inner = inner
        self._lasting, self._looks = lasting, 0
        self._begun: Callable[[], None] | None = None  # a commit that is not done yet
        self.made: list[Made] = []
        self._release: Release = lambda _: None
        self._gone = False  # the partition, until it is started again
        self._told = frozenset[int]()  # of that
        self._failure: TransactionError | None = None
        self._sizes, self._pauses_s, self._clock = sizes, pauses_s, clock
        self._troubles, self._idle = troubles, idle
        self.polls = self.commits = 0
        self.asked: list[int] = []  # records, by each poll
        self._empty = 0

    def open(self, release: Release) -> None:
        self._release = release
        self.inner.open(release)

    def poll(self, *, max_records: int, max_bytes: int, timeout_s: float) -> list[RecordBlock]:
        self.polls += 1
        self.asked.append(max_records)
        self._meet("poll", self.polls)
        self._clock.now_s += next(self._pauses_s)
        if self._at("release"):
            self._release(frozenset({0}))
            assert not self.under_way, "whoever gets it must find everything"
        if self._at("lose"):
            self._gone, self._told = True, frozenset({0})
        size = min(max_records, next(self._sizes))
        blocks = []
        if not self._gone:
            blocks = self.inner.poll(max_records=size, max_bytes=max_bytes, timeout_s=0)
        self._empty = 0 if blocks else self._empty + 1
        if self._empty > 5:
            self._idle()
        return blocks

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        lost, gained = self.inner.changes()
        told, self._told = self._told, frozenset()
        return lost | told, gained | told

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        return self.inner.standing(partitions)

    def read_state(self, partitions: Sequence[int]) -> StateReader:
        return self.inner.read_state(partitions)

    def start(self, positions: Mapping[int, int]) -> None:
        self._gone = False
        self.inner.start(positions)

    def position(self, partition: int) -> int:
        return self.inner.position(partition)

    def may_commit(self) -> bool:
        return self.inner.may_commit()

    def begin_commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        assert not self.under_way, "one at a time"
        self.commits += 1
        self.made.append(Made(len(outbox.alerts), positions.get(0, 0), self.polls))
        given = deepcopy((outbox, dict(positions), dict(needed_from)))

        def do() -> None:
            assert (outbox, positions, needed_from) == given, "changed while it was under way"
            self._begun = None
            try:
                self._meet("before", self.commits)
                commit(self.inner, outbox, positions, needed_from)
                self._meet("after", self.commits)
            except TransactionError as error:
                self._failure = error

        self._failure, self._begun = None, do
        lasting = next(self._lasting)
        self._looks = lasting.looks
        if lasting.early:
            do()

    def end_commit(self, *, timeout_s: float | None) -> float | None:
        if timeout_s is not None and self._looks > 0:
            self._looks -= 1
            return None
        if self._begun is not None:
            self._begun()
        self.made[-1].ended = self.polls
        if self._failure is not None:
            raise self._failure
        return 0.0

    def ready(self) -> bool:
        return self.inner.ready()

    def lag(self) -> dict[int, int]:
        return self.inner.lag()

    def readable(self) -> int:
        return self.inner.readable()

    @property
    def under_way(self) -> bool:
        return bool(self.made) and self.made[-1].ended is None

    def reopen(self) -> None:
        assert not self.under_way, "what it came to would never be known"
        self.inner.reopen()

    def close(self) -> None:
        self.inner.close()

    def _at(self, where: str) -> bool:
        return any((t.where, t.number) == (where, self.polls) for t in self._troubles)

    def _meet(self, where: str, number: int) -> None:
        for trouble in self._troubles:
            if (trouble.where, trouble.number) == (where, number):
                if trouble.fatal:
                    raise DeathError(f"{where} {number}")
                raise TransactionError(f"{where} {number}")
