"""What the rest asks of a broker: protocols beside their two implementations.

A Worker reads the ticks topic and commits; a Publisher writes; a Reader follows a topic. The
guarantee of commit: alerts, dead letters, state and positions become visible together or not
at all, and positions never pass what was polled.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from detector.core.codec import RecordBlock

Headers = tuple[tuple[str, bytes], ...]


@dataclass(frozen=True, slots=True)
class Message:
    """Something to write. partition: None lets the key decide."""

    key: bytes | None
    value: bytes | None
    headers: Headers = ()
    partition: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """Something read, with where it stood."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Headers


@dataclass(slots=True)
class Outbox:
    """What one transaction writes, beside the positions.

    state: the latest state of a series by key, in its partition of the input; value None
    deletes it.
    """

    alerts: list[Message] = field(default_factory=list)
    dead_letters: list[Message] = field(default_factory=list)
    state: list[Message] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.alerts) + len(self.dead_letters) + len(self.state)


@dataclass(frozen=True, slots=True)
class Topics:
    """The names a worker needs. state is None where no state is kept."""

    ticks: str
    alerts: str
    dead_letters: str
    state: str | None = None


class Worker(Protocol):
    """One consumer of the ticks topic that commits in transactions."""

    def open(self) -> None:
        """Connect, join, go to the committed offsets. Raises BrokerError."""

    def poll(self, *, max_records: int, timeout_s: float) -> list[RecordBlock]:
        """Records that follow the last poll, in order within each partition; [] if none came
        in time."""

    def commit(self, outbox: Outbox, positions: Mapping[int, int]) -> None:
        """Write all of it and the next offset of each partition, in one transaction.

        Raises TransactionError if the outcome is not known to be good; then only reopen may
        follow."""

    def assignment(self) -> frozenset[int]:
        """The partitions this worker reads now."""

    def ready(self) -> bool:
        """Whether the worker has joined; having no partition is fine."""

    def lag(self) -> dict[int, int]:
        """Records not yet polled, by partition."""

    def reopen(self) -> None:
        """After a TransactionError: close what may be broken, return to the committed offsets."""

    def load_state(self, partitions: Sequence[int]) -> dict[int, dict[bytes, bytes]]:
        """The committed state of partitions, by key."""

    def close(self) -> None:
        """Leave. Uncommitted work is dropped."""


class Publisher(Protocol):
    def publish(self, topic: str, messages: Sequence[Message]) -> None:
        """Queue or write messages, in order."""

    def flush(self) -> None:
        """Return when everything is safe. Raises BrokerError if something was not written."""

    def close(self) -> None: ...


class Reader(Protocol):
    """Follows one topic; sees committed records only."""

    def poll(self, *, timeout_s: float) -> list[Record]:
        """The next records; [] if none came in time."""

    def at_end(self) -> bool:
        """Whether everything that was there has been read."""

    def close(self) -> None: ...


class Broker(Protocol):
    """Gives out the three, and looks after topics."""

    def describe(self) -> str:
        """Where it is, for messages to people."""

    def prepare(self, topics: Topics, *, partitioned: Sequence[str]) -> None:
        """See that the topics exist: create them, or raise BrokerError naming the missing.
        Those in partitioned get the configured number of partitions, others one."""

    def worker(self, topics: Topics) -> Worker: ...

    def publisher(self) -> Publisher: ...

    def reader(self, topic: str, *, from_beginning: bool) -> Reader: ...
