"""Event-wise measures at the deployed threshold, without point adjustment.

An alert is right if it opened during a labelled fault or its after-effect; a fault is found
if at least one alert did. Nothing is tuned here.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol


class Stretch(Protocol):
    """Labelled time of a series: start_ns <= event time <= end_ns."""

    @property
    def series(self) -> str: ...
    @property
    def start_ns(self) -> int: ...
    @property
    def end_ns(self) -> int: ...


@dataclass(frozen=True, slots=True)
class OpenedAlert:
    """What a subscriber learns of an alert's opening."""

    series: str
    time_ns: int


@dataclass(frozen=True, slots=True)
class EventScore:
    """precision: share of alerts that are right, None without alerts; recall: share of faults
    found, None without faults."""

    alerts: int
    injected: int
    detected: int
    false_alarms: int
    precision: float | None
    recall: float | None
    found: tuple[bool, ...]

    @property
    def f1(self) -> float:
        """The harmonic mean of precision and recall; 0 where there is neither."""
        precision, recall = self.precision or 0.0, self.recall or 0.0
        total = precision + recall
        return 2 * precision * recall / total if total else 0.0


def score_events(
    faults: Sequence[Stretch], alerts: Sequence[OpenedAlert], *, aftermath_ns: int
) -> EventScore:
    """aftermath_ns: how long after a fault its ticks are still inside a window."""
    found = [False] * len(faults)
    false_alarms = 0
    for alert in alerts:
        hits = [
            i
            for i, fault in enumerate(faults)
            if fault.series == alert.series
            and fault.start_ns <= alert.time_ns <= fault.end_ns + aftermath_ns
        ]
        false_alarms += not hits
        for i in hits:
            found[i] = True
    right = len(alerts) - false_alarms
    return EventScore(
        alerts=len(alerts),
        injected=len(faults),
        detected=sum(found),
        false_alarms=false_alarms,
        precision=right / len(alerts) if alerts else None,
        recall=sum(found) / len(faults) if faults else None,
        found=tuple(found),
    )
