"""The life cycle of an alert: opened, escalated, resolved, with m-of-n and hysteresis.

A series opens an alert when a window exceeds the threshold and m of its last n windows did;
it resolves after k windows in a row at or below resolve_ratio * threshold. An alert escalates
once, when it turns critical. Only changes are reported. Everything is a pure function of the
windows in order, so a replay gives the same changes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from detector.core.slots import SlotColumns
from detector.core.ticks import Float32, Float64, Int64


class Severity(IntEnum):
    WARNING = 1
    CRITICAL = 2


class State(IntEnum):
    OPENED = 0
    ESCALATED = 1
    RESOLVED = 2


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """m-of-n to open, k windows to resolve, ratios of score to threshold."""

    open_after: int = 2
    of_last: int = 3
    resolve_after: int = 10
    resolve_ratio: float = 1.0
    critical_ratio: float = 3.0


@dataclass(frozen=True, slots=True)
class Change:
    """A change of state at window `window` (position among the windows of the update).

    peak: the highest score of the episode up to and with this window
    """

    window: int
    state: State
    severity: Severity
    peak: float


@dataclass(frozen=True, slots=True)
class LikelyFault:
    """The kind of fault a window looks most like, and its probability: low where the window looks
    normal or like several."""

    kind: str
    probability: float


@dataclass(frozen=True, slots=True)
class Alert:
    """One change of state of one series, with its explanation. Shapes: observed (length, features),
    expected (k, features), what the model expected of the last k ticks of observed, both in the
    features' own units; contribution sums to 1.

    id names this event, alert_id the whole episode (the id of its opening). fault: where the model
    has a classifier, of windows above the threshold.
    """

    id: str
    alert_id: str
    kind: str
    state: State
    severity: Severity
    series: str
    score: float
    peak_score: float
    threshold: float
    contributions: Mapping[str, float]
    observed: Float32
    expected: Float32
    time_ns: int
    opened_ns: int
    topic: str
    partition: int
    offset: int
    index: int
    received_ms: int
    model_version: str
    fault: LikelyFault | None = None


def event_id(topic: str, partition: int, offset: int, index: int, series: str, kind: str) -> bytes:
    """16 bytes that depend on the input alone: the same tick gives the same id for ever."""
    text = f"{topic}\0{partition}\0{offset}\0{index}\0{series}\0{kind}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()


class AlertLifecycle:
    """The state of every series, advanced window by window."""

    def __init__(self, policy: AlertPolicy) -> None:
        self.policy = policy
        self.state = SlotColumns(
            {
                "exceeded": ((policy.of_last - 1,), np.bool_),
                # Windows in a row at or below the resolve level; kept of an open alert only, so
                # that the state is the same however the stream was cut into batches.
                "below": ((), np.int32),
                "severity": ((), np.int8),  # 0: no open alert
                "peak": ((), np.float64),
            }
        )

    def update(self, slot: Int64, score: Float64, threshold: float) -> list[Change]:
        """Advance by w windows grouped by slot, in order of arrival within each."""
        if len(slot) == 0:
            return []
        policy = self.policy
        self.state.reserve(int(slot[-1]) + 1)
        first = np.ones(len(slot), np.bool_)
        first[1:] = slot[1:] != slot[:-1]
        begins = np.flatnonzero(first)
        touched = slot[begins]
        exceeds = score > threshold
        severity_before = self.state["severity"][touched]
        if not (exceeds.any() or severity_before.any() or self.state["exceeded"][touched].any()):
            return []  # nothing open, nothing remembered, nothing above: the usual batch
        position = np.arange(len(slot))
        start = begins[np.cumsum(first) - 1]  # (w,) where each window's series begins
        opens = exceeds & (self._exceeded_of_last(slot, begins, exceeds) >= policy.open_after)

        # Windows in a row below: distance to the last that was not, or to the stored count.
        below = score <= threshold * policy.resolve_ratio
        breaker = np.maximum.accumulate(np.where(~below, position, -1))
        inherited = breaker < start
        run = position - np.where(inherited, start - 1, breaker)
        run += np.where(inherited, self.state["below"][slot], 0)
        closes = run >= policy.resolve_after

        # The state after each window is what the last signal said, or what it was before.
        signal = np.maximum.accumulate(np.where(opens | closes, position, -1))
        is_open = np.where(signal >= start, opens[signal], self.state["severity"][slot] > 0)
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
                score[part], threshold,
            )  # fmt: skip
        self.state["below"][touched] = np.where(is_open[last], run[last], 0)
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
        threshold: float,
    ) -> list[Change]:
        """The changes of one series whose alert is open at some point of this update."""
        changes = []
        critical = score > threshold * self.policy.critical_ratio
        severity = int(self.state["severity"][slot])
        peak = float(self.state["peak"][slot])
        edges = np.flatnonzero(is_open != was_open).tolist()
        start = 0
        for edge in [*edges, len(score)]:
            if severity:  # the stretch [start, edge) belongs to an open alert
                worse = np.flatnonzero(critical[start:edge])
                if severity < Severity.CRITICAL and len(worse):
                    severity = Severity.CRITICAL
                    at = start + int(worse[0])
                    so_far = max(peak, float(score[start : at + 1].max()))
                    changes.append(Change(offset + at, State.ESCALATED, Severity.CRITICAL, so_far))
                if edge > start:
                    peak = max(peak, float(score[start:edge].max()))
            if edge == len(score):
                break
            if is_open[edge]:
                severity = Severity.CRITICAL if critical[edge] else Severity.WARNING
                peak = float(score[edge])
                changes.append(Change(offset + edge, State.OPENED, Severity(severity), peak))
            else:
                changes.append(Change(offset + edge, State.RESOLVED, Severity(severity), peak))
                severity, peak = 0, 0.0
            start = edge
        self.state["severity"][slot] = severity
        self.state["peak"][slot] = peak
        return changes
