"""What the rest asks of a broker: protocols beside their two implementations.

A Worker reads the ticks topic and commits; a Publisher writes; a Reader follows a topic. The
guarantee of a commit: alerts, dead letters, state and positions become visible together or not
at all, and positions never pass what was polled. It is begun, and ends later: meanwhile the worker
goes on polling, and partitions may come and go.

A partition comes to a worker in three steps: changes() names it, read_state() and standing()
tell what earlier workers left of it, start() begins to read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from detector.core.records import Message, Record, RecordBlock


@dataclass(slots=True)
class Outbox:
    """What one transaction writes, beside the positions.

    state: the latest state by key, in its partition of the input; value None deletes it.
    watermarks: state too; written after everything else.
    """

    alerts: list[Message] = field(default_factory=list)
    dead_letters: list[Message] = field(default_factory=list)
    state: list[Message] = field(default_factory=list)
    watermarks: list[Message] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.alerts) + len(self.dead_letters) + len(self.state) + len(self.watermarks)


@dataclass(frozen=True, slots=True)
class Topics:
    """The names a worker needs. commands: what all workers are told; compacted, one partition."""

    ticks: str
    alerts: str
    dead_letters: str
    state: str
    commands: str = "commands"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a partition stands. committed: None before the first commit; first, end: offsets of
    the oldest record there is, and after the newest."""

    committed: int | None
    first: int
    end: int


Release = Callable[[frozenset[int]], None]


class StateReader(Protocol):
    """Reads the committed state of some partitions, a bit at a time."""

    def read(self, *, timeout_s: float) -> bool:
        """Read on. True once all that was there has been read; a later call looks again."""

    def tables(self) -> Mapping[int, Mapping[bytes, bytes]]:
        """What was read so far: the latest value by key, for each partition."""

    def close(self) -> None: ...


class Worker(Protocol):
    """One consumer of the ticks topic that commits in transactions."""

    def open(self, release: Release) -> None:
        """Connect and join. release is called, maybe from another thread while poll runs, with
        partitions that are about to go to another worker, while a commit for them still counts;
        it may end the commit that is under way, and begin and end another. Raises BrokerError;
        AccessError, as all that follows may, where we are refused."""

    def poll(self, *, max_records: int, max_bytes: int, timeout_s: float) -> list[RecordBlock]:
        """Records of started partitions that follow the last poll, in order within each; [] if
        none came in time. max_bytes: of their keys and values, about; one record may be larger.
        Raises TransactionError if release failed."""

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        """The partitions lost and gained since last asked. One may be in both: it was lost,
        then gained again. A gained partition is not read before start."""

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        """Of those partitions whose committed offset is settled; ask again for the others."""

    def read_state(self, partitions: Sequence[int]) -> StateReader: ...

    def start(self, positions: Mapping[int, int]) -> None:
        """Read gained partitions from these offsets on."""

    def position(self, partition: int) -> int:
        """The offset the next poll continues at, in a started partition."""

    def may_commit(self) -> bool:
        """Whether a commit may begin: not while the workers share out the partitions anew. Poll
        again first."""

    def begin_commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        """Begin to write all of it and the next offset of each partition, in one transaction,
        beside whatever is done next; one at a time: end_commit has told the end of the last.
        Nothing of what is given may be changed any more.
        needed_from: by partition, the first tick that a restart would read again.

        Raises TransactionError if none may begin: then only reopen may follow."""

    def end_commit(self, *, timeout_s: float | None) -> float | None:
        """How many seconds ago the transaction begun last was committed; None: it is still under
        way, after timeout_s (None: wait as long as it takes). Once for each that was begun.

        Raises TransactionError if the outcome is not known to be good: then only reopen may
        follow. Raises FencedError if another process has taken over this worker's identity."""

    def ready(self) -> bool:
        """Whether the worker has joined; having no partition is fine."""

    def lag(self) -> dict[int, int]:
        """Records not yet polled, by started partition."""

    def readable(self) -> int:
        """Records that wait and could be polled now: those of a producer's open transaction wait
        without. Asks the broker."""

    def reopen(self) -> None:
        """After a TransactionError: replace what may be broken. All partitions held are lost
        and gained again. A commit that is under way ends first; what it came to is not told."""

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

    def ends(self) -> dict[int, int]:
        """The offset after the newest committed record of each partition. Asks the broker."""

    def positions(self) -> dict[int, int]:
        """The next offset to be read, in each partition."""

    def close(self) -> None: ...


class Follower(Protocol):
    """Reads one topic under a name of its own: the broker keeps how far it has come and a small
    table for it, and a later follower of the name goes on there. Sees committed records only. Every
    method may raise BrokerError, and FencedError when another follower has taken over the name;
    then only close may follow."""

    @property
    def fresh(self) -> bool:
        """Whether nobody has committed under this name before."""

    @property
    def lost(self) -> int:
        """Records that were deleted before this name has read them, as seen at the opening."""

    def table(self) -> Mapping[bytes, bytes]:
        """What was kept, by key, when it was opened."""

    def poll(self, *, timeout_s: float) -> list[Record]:
        """The next records; [] if none came in time."""

    def positions(self) -> dict[int, int]:
        """The offset the next poll continues at, in each partition."""

    def ends(self) -> dict[int, int]:
        """The offset after the newest committed record of each partition. Asks the broker."""

    def commit(self, kept: Sequence[Message], positions: Mapping[int, int]) -> None:
        """Write what changed in the table (value None: deleted) and the next offset of some
        partitions, all or nothing."""

    def close(self) -> None: ...


class Keeper(Protocol):
    """Looks at the saved state and replaces it, while no worker runs."""

    def standing(self) -> dict[int, Standing]:
        """Of every partition of the ticks topic."""

    def tables(self) -> dict[int, dict[bytes, bytes]]:
        """The saved state of every partition, by key."""

    def replace(self, state: Sequence[Message], positions: Mapping[int, int]) -> None:
        """Write state and positions in one transaction. Raises BrokerError while a worker of
        the group runs."""

    def close(self) -> None: ...


class Broker(Protocol):
    """Gives out the others, and looks after topics."""

    def describe(self) -> str:
        """Where it is, for messages to people."""

    def missing(self, topics: Topics) -> list[str]:
        """The topics that do not exist. Raises BrokerError if it cannot be reached, StateError if
        what there is would not keep the state, AccessError if one may not be seen."""

    def not_permitted(self, topics: Topics) -> list[str]:
        """What a worker would have to do with the topics and may not, as far as the broker tells.
        Raises BrokerError."""

    def prepare(
        self,
        topics: Topics,
        *,
        partitioned: Sequence[str],
        create: bool,
        check_state: bool = True,
    ) -> None:
        """See that the topics exist: create them, or raise BrokerError naming the missing.
        Those in partitioned get the configured number of partitions, the state topic as many
        as the ticks topic has, others one. check_state: for a worker; raise StateError if the ticks
        topic has got more partitions than the state topic, AccessError if it lacks a permission."""

    def grow_state(self, topics: Topics) -> tuple[int, int]:
        """Give the state topic as many partitions as the ticks topic; (before, after)."""

    def progress(self, topics: Topics) -> dict[int, Standing]:
        """Where the group stands in every partition of the ticks topic; asked from beside it, while
        workers run. Without the partitions that nobody knows of, or that are not settled."""

    def saved(self, topics: Topics) -> dict[int, dict[bytes, bytes]]:
        """The saved state of every partition, by key; looked at from beside, while workers run."""

    def worker(self, topics: Topics) -> Worker: ...

    def keeper(self, topics: Topics) -> Keeper: ...

    def publisher(self) -> Publisher: ...

    def reader(self, topic: str, *, from_beginning: bool) -> Reader: ...

    def follower(
        self, name: str, topic: str, *, kept_in: str, from_beginning: bool, create: bool
    ) -> Follower:
        """kept_in: the topic of its table, where the broker needs one; create: if it is missing.
        from_beginning: where a name begins that has committed nothing yet. Raises BrokerError,
        FencedError."""
