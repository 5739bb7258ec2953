"""The life cycle of an alert: opened, escalated, resolved, with m-of-n and hysteresis.

A series opens an alert when a window exceeds the threshold and m of its last n windows did;
it resolves after k windows in a row at or below resolve_ratio * threshold, and so long after the
last that was above. An alert escalates once, when it turns critical. Only changes are reported.
Everything is a pure function of the windows in order, so a replay gives the same changes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import DTypeLike, NDArray

from detector.core.alerts import Severity, State
from detector.core.blocks import first_of_groups
from detector.core.slots import SlotColumns
from detector.core.ticks import Bool, Float64, Int64

_NEVER = np.iinfo(np.int64).min


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """m-of-n to open, k windows and a time to resolve, ratios of score to threshold."""

    open_after: int = 2
    of_last: int = 3
    resolve_after: int = 10
    resolve_ratio: float = 1.0
    critical_ratio: float = 3.0
    quiet_ns: int = 0


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state at window `window` (position among the windows of the update).

    score: of this window; peak: the highest of the episode up to and with it
    """

    window: int
    state: State
    severity: Severity
    score: float
    peak: float


def open_at(
    row: Int64, slot: Int64, was_open: Bool, changes: Sequence[Change]
) -> NDArray[np.bool_]:
    """(b,) whether an alert of its series is open after each of these windows of an update. row:
    (b,); slot: (w,) of all its windows; was_open: (b,) before it; changes: those it brought."""
    turns = [change for change in changes if change.state is not State.ESCALATED]
    at = np.array([change.window for change in turns], np.int64)
    opens = np.array([change.state is State.OPENED for change in turns], np.bool_)
    last = np.searchsorted(at, row, side="right") - 1
    mine = last >= 0
    mine[mine] = slot[at[last[mine]]] == slot[row[mine]]
    result = was_open.copy()
    result[mine] = opens[last[mine]]
    return result


class Episodes:
    """The open alerts of every series. They outlive the model that opened them."""

    def __init__(self) -> None:
        self.state = SlotColumns(
            {
                "severity": ((), np.int8),  # 0: no open alert
                "peak": ((), np.float64),
                "alert_id": ((16,), np.uint8),
                "opened_ns": ((), np.int64),
            }
        )

    def open(self, slot: int, alert_id: bytes, time_ns: int) -> None:
        """An alert was opened: the name and the beginning of its episode."""
        self.state.reserve(slot + 1)
        self.state["alert_id"][slot] = np.frombuffer(alert_id, np.uint8)
        self.state["opened_ns"][slot] = time_ns

    def alert_id(self, slot: int) -> str:
        name: str = self.state["alert_id"][slot].tobytes().hex()
        return name

    def opened_ns(self, slot: int) -> int:
        return int(self.state["opened_ns"][slot])


class Lifecycle:
    """Counts the windows of every series, and opens and closes its episodes."""

    def __init__(self, policy: AlertPolicy) -> None:
        self.policy = policy
        kept: dict[str, tuple[tuple[int, ...], DTypeLike]] = {
            "exceeded": ((policy.of_last - 1,), np.bool_),
            # Windows in a row at or below the resolve level; kept of an open alert only, so that
            # the state is the same however the stream was cut into batches.
            "below": ((), np.int32),
        }
        if policy.quiet_ns:
            # When the last window was above it; of an open alert too. Rows start as zeros, which
            # must be no time: its first bit is kept the other way round.
            kept["above_ns"] = ((), np.int64)
        self.state = SlotColumns(kept)

    def update(
        self,
        slot: Int64,
        score: Float64,
        time_ns: Int64,
        threshold: float,
        episodes: Episodes,
        *,
        muted: Bool | None = None,
    ) -> list[Change]:
        """Advance by w windows grouped by slot, in order of arrival within each. time_ns: (w,) of
        their last ticks; muted: (w,) those that neither open nor escalate."""
        if len(slot) == 0:
            return []
        policy = self.policy
        self.state.reserve(int(slot[-1]) + 1)
        episodes.state.reserve(int(slot[-1]) + 1)
        begins = first_of_groups(slot)
        touched = slot[begins]
        exceeds = score > threshold
        if muted is not None:
            exceeds &= ~muted
        severity_before = episodes.state["severity"][touched]
        if not (exceeds.any() or severity_before.any() or self.state["exceeded"][touched].any()):
            return []  # nothing open, nothing remembered, nothing above: the usual batch
        loud = np.ones(len(slot), np.bool_) if muted is None else ~muted
        position = np.arange(len(slot))
        # (w,) where each window's series begins
        start = np.repeat(begins, np.diff(np.append(begins, len(slot))))
        opens = exceeds & (self._exceeded_of_last(slot, begins, exceeds) >= policy.open_after)

        # Windows in a row below: distance to the last that was not, or to the stored count.
        below = score <= threshold * policy.resolve_ratio
        breaker = np.maximum.accumulate(np.where(~below, position, -1))
        inherited = breaker < start
        run = position - np.where(inherited, start - 1, breaker)
        run += np.where(inherited, self.state["below"][slot], 0)
        closes = run >= policy.resolve_after
        if policy.quiet_ns:
            stored = self.state["above_ns"][slot] ^ _NEVER
            # Of an alert that another model opened it is not known: from now on.
            stored = np.where(stored == _NEVER, time_ns[start], stored)
            above_ns = np.where(inherited, stored, time_ns[breaker])
            closes &= time_ns - above_ns >= policy.quiet_ns

        # The state after each window is what the last signal said, or what it was before.
        signal = np.maximum.accumulate(np.where(opens | closes, position, -1))
        is_open = np.where(signal >= start, opens[signal], episodes.state["severity"][slot] > 0)
        was_open = np.empty_like(is_open)
        was_open[1:] = is_open[:-1]
        was_open[begins] = severity_before > 0

        last = np.append(begins[1:], len(slot)) - 1
        changes: list[Change] = []
        busy = np.flatnonzero(np.logical_or.reduceat(is_open | was_open, begins))
        for group in busy.tolist():
            part = slice(begins[group], last[group] + 1)
            changes += self._episodes(
                int(touched[group]), int(begins[group]), is_open[part], was_open[part],
                score[part], loud[part], threshold, episodes,
            )  # fmt: skip
        self.state["below"][touched] = np.where(is_open[last], run[last], 0)
        if policy.quiet_ns:
            self.state["above_ns"][touched] = np.where(is_open[last], above_ns[last] ^ _NEVER, 0)
        return changes

    def _exceeded_of_last(self, slot: Int64, begins: Int64, exceeds: NDArray[np.bool_]) -> Int64:
        """How many of the last n windows exceeded, with the remembered ones; remembers."""
        back = self.policy.of_last - 1
        touched = slot[begins]
        group = np.repeat(np.arange(len(begins)), np.diff(np.append(begins, len(slot))))
        row = np.arange(len(slot)) + (group + 1) * back
        layout = np.zeros(len(slot) + len(begins) * back, np.bool_)
        layout[row] = exceeds
        remembered = (begins + np.arange(len(begins)) * back)[:, None] + np.arange(back)
        layout[remembered] = self.state["exceeded"][touched]
        total = np.concatenate([[0], np.cumsum(layout)])
        last = row[np.append(begins[1:], len(slot)) - 1]
        self.state["exceeded"][touched] = layout[last[:, None] + np.arange(1 - back, 1)]
        count: Int64 = total[row + 1] - total[row - back]
        return count

    def _episodes(
        self,
        slot: int,
        offset: int,
        is_open: NDArray[np.bool_],
        was_open: NDArray[np.bool_],
        score: Float64,
        loud: NDArray[np.bool_],
        threshold: float,
        episodes: Episodes,
    ) -> list[Change]:
        """The changes of one series whose alert is open at some point of this update."""
        changes = []
        critical = loud & (score > threshold * self.policy.critical_ratio)
        severity = int(episodes.state["severity"][slot])
        peak = float(episodes.state["peak"][slot])
        edges = np.flatnonzero(is_open != was_open).tolist()
        start = 0
        for edge in [*edges, len(score)]:
            if severity:  # the stretch [start, edge) belongs to an open alert
                worse = np.flatnonzero(critical[start:edge])
                if severity < Severity.CRITICAL and len(worse):
                    severity = Severity.CRITICAL
                    at = start + int(worse[0])
                    so_far = max(peak, float(score[start : at + 1].max()))
                    changes.append(
                        Change(
                            offset + at,
                            State.ESCALATED,
                            Severity.CRITICAL,
                            float(score[at]),
                            so_far,
                        )
                    )
                if edge > start:
                    peak = max(peak, float(score[start:edge].max()))
            if edge == len(score):
                break
            if is_open[edge]:
                severity = Severity.CRITICAL if critical[edge] else Severity.WARNING
                peak = float(score[edge])
                changes.append(Change(offset + edge, State.OPENED, Severity(severity), peak, peak))
            else:
                now = float(score[edge])
                changes.append(Change(offset + edge, State.RESOLVED, Severity(severity), now, peak))
                severity, peak = 0, 0.0
            start = edge
        episodes.state["severity"][slot] = severity
        episodes.state["peak"][slot] = peak
        return changes
