"""What outlives every model: the series there are, their newest ticks, the clocks of the
partitions, who is silent, which alerts are open, and who is forgotten.

A pipeline is one stream and the tracks over it (track.py): replacing a model changes nothing here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from detector.core.clock import NEVER_NS, PartitionClock
from detector.core.episodes import Episodes
from detector.core.forgetting import Forgetting
from detector.core.habits import OpenAlerts
from detector.core.intake import Accepted, Intake
from detector.core.mutes import Mutes, Turn
from detector.core.quiet import Expected
from detector.core.series import NO_SLOT, SeriesTable
from detector.core.silence import SilenceChange, SilenceWatch, TimedTicks
from detector.core.slots import SlotColumns
from detector.core.ticks import (
    Bool,
    Int64,
    Outcome,
    TickBatch,
    from_the_future,
    names_at,
    rows_of_numbers,
)

_NOT_FINITE, _FAR_FUTURE = 1, 2
_REASONS = ("", "not_finite", "far_future")


@dataclass(frozen=True, slots=True)
class StreamPolicy:
    """fields: raw values of a tick. The others as config.yaml says; None: no limit, or never.
    expected: when silence is."""

    fields: int
    max_series: int
    max_gap_s: float | None = None
    max_future_s: float | None = None
    silence_s: float | None = None
    forget_after_s: float | None = None
    expected: tuple[Expected, ...] = ()


@dataclass(frozen=True, slots=True)
class Screened:
    """Which of n ticks can be used, whatever their series: code 0, or why not."""

    code: NDArray[np.uint8]

    def usable(self) -> Bool:
        result: Bool = self.code == 0
        return result

    def part(self, rows: slice) -> Screened:
        return Screened(self.code[rows])


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What the rules of the stream made of a batch of n ticks.

    outcome: (n,) an Outcome each; SCORED stands for accepted
    refused: row of a rejected tick -> one of REJECT_REASONS, ascending
    held: (n,) ticks that the restored state of their series holds already; None: none
    silences: series that fell silent or were heard again
    """

    accepted: Accepted
    outcome: NDArray[np.uint8]
    refused: Mapping[int, str]
    held: Bool | None
    silences: list[SilenceChange]


class Stream:
    """Feeds batches through the rules. One instance, one thread."""

    def __init__(self, policy: StreamPolicy) -> None:
        self.policy = policy
        self.series = SeriesTable(max_series=policy.max_series)
        self.intake = Intake(fields=policy.fields, max_gap_s=policy.max_gap_s)
        self.silence = SilenceWatch(
            silence_s=policy.silence_s, expected=policy.expected, name=self.series.name
        )
        self.mutes = Mutes()
        self.opened = OpenAlerts()
        #: The open alerts of kind silence; silence.state tells which are.
        self.silenced = Episodes()
        self._forgetting = Forgetting(forget_after_s=policy.forget_after_s)
        self._clocks: dict[int, PartitionClock] = {}
        # By slot: ticks below this offset are in the restored state of their series already.
        self._as_of = SlotColumns({"as_of": ((), np.int64)})
        self._restored = False  # whether any series was: else nobody need look

    # -- ticks

    def screen(self, batch: TickBatch, readable: Bool) -> Screened:
        """Refuse what is no number or from the future. readable: (n,) whether the model that
        decides can use a tick's values."""
        code = np.zeros(len(batch), np.uint8)
        code[from_the_future(batch, self.policy.max_future_s)] = _FAR_FUTURE
        code[~(readable & rows_of_numbers(batch.values))] = _NOT_FINITE
        return Screened(code)

    def borders(self, batch: TickBatch, screened: Screened) -> list[int]:
        """Rows of the batch, ascending, after which series may have to be forgotten."""
        if self.policy.forget_after_s is None or not len(batch):
            return []
        usable, found = np.flatnonzero(screened.usable()), []
        for partition, rows in _by_partition(batch, usable):
            clock = self._clocks.get(partition) or PartitionClock()
            found += rows[self._forgetting.borders(clock, batch.time_ns[rows])].tolist()
        return sorted(found)

    def turns(self, batch: TickBatch, screened: Screened) -> list[Turn]:
        """Before which rows of the batch other mutes come into force."""
        if self.mutes.nothing:
            return []
        clocks = {int(one): self.event_ns(int(one)) for one in np.unique(batch.partition)}
        return self.mutes.turns(batch, screened.usable(), clocks)

    def accept(self, batch: TickBatch, screened: Screened) -> Arrivals:
        """Apply the rules to a batch in which nobody has to be forgotten before its last tick.
        Ticks of a series come in the order of their offsets."""
        usable = screened.usable()
        outcome = np.full(len(batch), Outcome.SCORED, np.uint8)
        row, refused = usable.nonzero()[0], {}
        partition, names = batch.partition, batch.series
        if len(row) < len(batch):
            outcome[~usable] = Outcome.REJECTED
            found = np.flatnonzero(~usable).tolist()
            refused = {one: _REASONS[screened.code[one]] for one in found}
            partition, names = partition[row], names_at(names, row)
        slot = self.series.slots_of(partition, names)
        mine = slot != NO_SLOT
        if not mine.all():
            outcome[row[~mine]] = Outcome.REJECTED
            refused |= dict.fromkeys(row[~mine].tolist(), "series_limit")
            refused = dict(sorted(refused.items()))
        held = self._held(batch, row, slot, refused)
        if held is not None:
            mine &= ~held[row]
        accepted = self.intake.accept(batch, row[mine], slot[mine], outcome)
        return Arrivals(accepted, outcome, refused, held, self._follow(batch, row, accepted))

    def _held(
        self, batch: TickBatch, row: Int64, slot: Int64, refused: Mapping[int, str]
    ) -> Bool | None:
        if not self._restored:
            return None
        held = np.zeros(len(batch), np.bool_)
        self._as_of.reserve(self.series.capacity)
        as_of = self._as_of["as_of"]
        held[row] = (slot != NO_SLOT) & (batch.offset[row] < as_of[np.maximum(slot, 0)])
        for one in refused:
            known = self.series.find(int(batch.partition[one]), batch.series[one])
            held[one] = known != NO_SLOT and batch.offset[one] < as_of[known]
        return held if held.any() else None

    def _follow(self, batch: TickBatch, row: Int64, accepted: Accepted) -> list[SilenceChange]:
        """Move the clocks. row: of the usable ticks, ascending."""
        if not len(row):
            return []
        self.silence.state.reserve(self.series.capacity)
        slot = np.full(len(batch), NO_SLOT)
        slot[accepted.row] = accepted.slot
        known = np.ones(len(batch), np.bool_)
        known[accepted.row] = accepted.known
        changes: list[SilenceChange] = []
        for partition, rows in _by_partition(batch, row):
            clock = self._clocks.setdefault(partition, PartitionClock())
            before_ns = clock.event_ns
            event_ns = clock.advance(batch.time_ns[rows])
            ticks = TimedTicks(rows, slot[rows], known[rows], event_ns)
            inside = partial(self.series.of_partition, partition)
            changes += self.silence.update(clock, before_ns, ticks, inside)
        return changes

    def read_other_fields(self, fields: int) -> None:
        """The model that decides reads other raw values from now on."""
        self.policy = replace(self.policy, fields=fields)
        self.intake.read_other_fields(fields)

    # -- series that leave

    def due(self, partition: int) -> list[int]:
        """The slots of the series that are to be forgotten now, by name."""
        clock, inside = self._clocks[partition], self.series.of_partition(partition)
        due = self._forgetting.due(clock, self.silence.state["heard_ns"][inside])
        return sorted(inside[due].tolist(), key=self.series.name)

    def forget(self, slots: Int64) -> None:
        """These series leave, and all that is known of them."""
        self.series.forget(slots)
        self._clear(slots)

    def forget_partition(self, partition: int) -> Int64:
        """Another worker has this partition now. Returns the slots of its series."""
        gone = self.series.release(partition)
        self._clear(gone)
        self._clocks.pop(partition, None)
        self.mutes.drop(partition)
        return gone

    def has_open(self, slots: Int64) -> Bool:
        """(k,) whether an alert of each is open."""
        found = self.silence.state.rows(slots, "silent").astype(np.bool_)
        for episodes in (self.opened.windows, *self.opened.habits.values()):
            found |= episodes.state.rows(slots, "severity") > 0
        return found

    def _clear(self, slots: Int64) -> None:
        for columns in (*self._states(), *self.silence.looked_up, self._as_of):
            columns.clear(slots)

    def _states(self) -> tuple[SlotColumns, ...]:
        return (
            self.intake.newest,
            self.silence.state,
            *self.opened.states(),
            self.silenced.state,
        )

    # -- what is kept

    def event_ns(self, partition: int) -> int | None:
        """The clock of a partition, nanoseconds since the epoch; None before its first tick."""
        clock = self._clocks.get(partition)
        return None if clock is None else clock.event_ns

    def set_event_ns(self, partition: int, event_ns: int) -> None:
        """Set the clock of a partition whose series were restored."""
        self._clocks[partition] = PartitionClock(event_ns)

    def restored(self, slots: Int64, as_of: Int64) -> None:
        """The columns of these series were put back; they hold every tick below as_of."""
        self._as_of.put(slots, {"as_of": as_of})
        self._restored = True
        for clock in self._clocks.values():  # they may have been heard before all that are there
            clock.oldest_ns = clock.oldest_awake_ns = NEVER_NS

    def columns(self) -> dict[str, tuple[SlotColumns, str]]:
        """Each column of the state of a series, by the name it is saved under."""
        windows = self.opened.windows.state
        habits = {
            f"{kind}.{name}": (episodes.state, name)
            for kind, episodes in self.opened.habits.items()
            for name in episodes.state.names
        }
        return habits | {
            "lifecycle.severity": (windows, "severity"),
            "lifecycle.peak": (windows, "peak"),
            "opened.alert_id": (windows, "alert_id"),
            "opened.opened_ns": (windows, "opened_ns"),
            "silence.heard_ns": (self.silence.state, "heard_ns"),
            "silence.silent": (self.silence.state, "silent"),
            "silenced.alert_id": (self.silenced.state, "alert_id"),
            "silenced.opened_ns": (self.silenced.state, "opened_ns"),
            "intake.seen": (self.intake.newest, "seen"),
            "intake.time_ns": (self.intake.newest, "time_ns"),
            "intake.values": (self.intake.newest, "values"),
        }


def _by_partition(batch: TickBatch, rows: Int64) -> list[tuple[int, Int64]]:
    """The rows of each partition, in order."""
    if not len(rows):
        return []
    partition = batch.partition[rows]
    if (partition == partition[0]).all():
        return [(int(partition[0]), rows)]
    return [(one, rows[partition == one]) for one in np.unique(partition).tolist()]
