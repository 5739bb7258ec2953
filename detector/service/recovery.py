"""From what earlier workers left to running partitions: read the state, check that it belongs to
the committed offset, and say where to go on. Anything that does not fit is refused with a
message that says what to do: never a silent loss.

A partition's state is complete when its watermark equals the committed offset. The two may
become visible one after the other (KAFKA-10167), so a difference is waited for; one that stays
means that somebody changed the one or the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

from detector.core.state import (
    WATERMARK_KEY,
    Deployment,
    SavedPartition,
    StateCodec,
    Watermark,
    decode_watermark,
    of_partition,
)
from detector.errors import StateError
from detector.service.partitions import Partition, Partitions
from detector.service.succession import Succession
from detector.transport.broker import Standing, StateReader, Worker

_READ_S = 0.05
#: How long the state may differ from the committed offset before that is an error.
_SETTLE_S = 10.0


Successions = Callable[[int, Watermark, Mapping[bytes, bytes], str], Succession | None]


@dataclass(frozen=True, slots=True)
class RecoveryPolicy:
    """deployment: who we are; start: where a partition without history begins."""

    topic: str
    state_topic: str
    deployment: Deployment
    exactly_once: bool
    start: Literal["earliest", "latest"]
    on_lost_ticks: Literal["fail", "continue"]


@dataclass(frozen=True, slots=True)
class Recovered:
    """How to go on with a partition.

    committed: results of ticks before it are written; position: where to read from
    event_ns: the partition's event time at position; saved: None without history
    lost: ticks (records) that were deleted before they were read
    since_s: when its restore began, on the monotonic clock
    by: the transaction that wrote last
    judged_from: the first tick judged as by now, if any was judged otherwise
    succession: where another judged the ticks that come again; saved is empty then
    """

    partition: int
    committed: int
    position: int
    event_ns: int | None
    saved: SavedPartition | None
    lost: int
    since_s: float
    by: str = ""
    judged_from: int | None = None
    succession: Succession | None = None


class Recovery:
    """Restores partitions a step at a time, so that others go on being scored."""

    def __init__(
        self,
        worker: Worker,
        partitions: Partitions,
        codec: StateCodec,
        policy: RecoveryPolicy,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker, self._partitions = worker, partitions
        self._codec, self._policy = codec, policy
        self._monotonic_s = monotonic_s
        #: Asked what a partition goes through that another has judged.
        self.succession: Successions | None = None
        self._reader: StateReader | None = None
        self._since_s = 0.0
        self._read_s: float | None = None  # when everything there was had been read

    def exchanged(self, codec: StateCodec) -> None:
        """State is read by another model from now on."""
        self._codec = codec

    def restart(self) -> None:
        """Other partitions are to be restored now: what was under way starts again."""
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._read_s = None
        for number in self._partitions.restoring:
            self._partitions[number].standing = None

    def step(self) -> list[Recovered]:
        """Do a little. Returns the partitions that are restored by now."""
        waiting = self._partitions.restoring
        if not waiting:
            return []
        now_s = self._monotonic_s()
        if self._reader is None:
            self._reader = self._worker.read_state(waiting)
            self._since_s = now_s
        if not self._reader.read(timeout_s=_READ_S):
            return []
        if self._read_s is None:
            self._read_s = now_s
        self._ask(waiting, now_s)
        found = [self._judge(self._partitions[number], now_s) for number in waiting]
        finished = [recovered for recovered in found if recovered is not None]
        if len(finished) == len(waiting):
            self.close()
        return finished

    def _ask(self, waiting: list[int], now_s: float) -> None:
        """Where those stand of which it is not known."""
        unknown = [n for n in waiting if self._partitions[n].standing is None]
        if unknown:
            settled = self._worker.standing(unknown)
            for number, standing in settled.items():
                self._partitions[number].standing = standing
            if len(settled) < len(unknown):
                self._read_s = now_s  # a transaction of the last owner is open: it times out

    def close(self) -> None:
        if self._reader is not None:
            self._reader.close()
        self._reader = None
        self._read_s = None

    def _judge(self, held: Partition, now_s: float) -> Recovered | None:
        """How to go on; None while state and offset may yet come together."""
        assert self._reader is not None
        partition, standing = held.number, held.standing
        if standing is None:
            return None
        policy, table = self._policy, self._reader.tables()[partition]
        where = f"{policy.topic}/{partition}"
        state = f"{policy.state_topic}/{partition}"
        patient = self._read_s is None or now_s - self._read_s < _SETTLE_S
        if WATERMARK_KEY not in table:
            if standing.committed is None and not table:
                first = standing.first if policy.start == "earliest" else standing.end
                return Recovered(partition, first, first, None, None, 0, self._since_s)
            if patient and standing.committed is not None:
                held.standing = None
                return None
            raise StateError(
                f"{where}: the committed offset is {_shown(standing.committed)}, but {state} says "
                "nothing of it: was the topic deleted or cut off, is state.topic another one, or "
                f"does another deployment use group {policy.deployment.group!r}? To go on from "
                "the committed offset with empty windows: detector state reset --to committed"
            )
        mark = decode_watermark(table[WATERMARK_KEY], state)
        theirs = Deployment(mark.group, mark.alerts)
        if theirs != policy.deployment:
            raise StateError(
                f"{state}: belongs to another deployment (group {theirs.group!r}, alerts to "
                f"{theirs.alerts!r}; here {policy.deployment.group!r}, "
                f"{policy.deployment.alerts!r}): give each its own kafka.group and state.topic, "
                "or take it over: detector state reset"
            )
        if policy.exactly_once and mark.committed != standing.committed:
            if patient:
                held.standing = None
                return None
            raise StateError(
                f"{where}: the committed offset is {_shown(standing.committed)}, the state in "
                f"{state} belongs to {mark.committed}: were offsets reset or deleted, or did they "
                "expire? To go on where the state stands: detector state reset --to state; from "
                "the committed offset with empty windows: --to committed"
            )
        if mark.committed > standing.end:
            raise StateError(
                f"{where}: ends at offset {standing.end}, but ticks up to {mark.committed} have "
                "been processed: was the topic deleted and created again, or cut off? To begin "
                "with what is there: detector state reset --to earliest"
            )
        return self._resume(partition, mark, standing, where, state)

    def _resume(
        self,
        partition: int,
        mark: Watermark,
        standing: Standing,
        where: str,
        state: str,
    ) -> Recovered:
        assert self._reader is not None
        lost = max(0, standing.first - mark.committed)
        gone = mark.needed_from < standing.first
        if gone and self._policy.on_lost_ticks == "fail":
            raise StateError(
                f"{where}: begins at offset {standing.first}, but ticks from {mark.needed_from} "
                f"on are needed ({lost} were never read): retention deleted them. To go on "
                "without them, windows empty: delivery.on_lost_ticks: continue"
            )
        table = self._reader.tables()[partition]
        succession = None
        if self.succession is not None and not gone:
            succession = self.succession(partition, mark, table, state)
        if succession is not None:
            table = of_partition(table)
        saved = self._codec.decode(partition, table, state, heads_only=gone)
        if self._policy.exactly_once and len(saved):
            newest = max([*saved.same_as_of.tolist(), *saved.foreign_as_of.tolist()])
            if newest > mark.committed:
                raise StateError(
                    f"{state}: holds state of offset {newest}, past its watermark "
                    f"{mark.committed}: it is damaged; start over: detector state reset"
                )
        position = max(mark.committed, standing.first) if gone else mark.needed_from
        committed = max(mark.committed, standing.first)
        return Recovered(
            partition,
            committed,
            position,
            mark.event_ns,
            saved,
            lost,
            self._since_s,
            mark.by,
            mark.judged_from,
            succession,
        )


def _shown(offset: int | None) -> str:
    return "not there" if offset is None else str(offset)
