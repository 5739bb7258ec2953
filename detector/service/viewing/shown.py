"""What is handed over: frozen, and made of parts that nobody changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from detector.core.alerts import Alert, State
from detector.core.ticks import Float32
from detector.service.viewing.history import Points


@dataclass(frozen=True, slots=True)
class ShownAlert:
    """An episode. alert: its newest event, None where it was opened before this process, none is
    kept (service/kept_events.py) and nothing has been heard of it since; opening: the event that
    opened it, or the oldest known; committed_s: of the newest event, wall clock, None where it was
    before this process; points: scores of its series before and since; was_muted: as its partition
    was restored.
    """

    alert_id: str
    kind: str
    series: str
    partition: int
    severity: str
    opened_ns: int
    peak: float | None
    alert: Alert | None
    opening: Alert | None
    committed_s: float | None
    points: Points
    was_muted: bool = False

    @property
    def is_open(self) -> bool:
        return self.alert is None or self.alert.state is not State.RESOLVED

    @property
    def muted(self) -> bool:
        return self.was_muted if self.alert is None else self.alert.muted


@dataclass(frozen=True, slots=True)
class ShownSeries:
    """A series as it is now. partitions: those that have one of this name; the others are of the
    one that was heard last. observed: (k, features) its newest ticks, k below the length of a
    window while warming; expected, contributions, views: of its last window, where one was scored
    since somebody looks; score, time_ns: of that window, else of the newest point; threshold: of
    the model in use."""

    series: str
    partition: int
    partitions: tuple[int, ...]
    model_version: str
    features: tuple[str, ...]
    length: int
    ticks: int
    observed: Float32
    expected: Float32 | None
    contributions: Mapping[str, float]
    views: Mapping[str, float]
    score: float | None
    threshold: float
    time_ns: int | None
    heard_ns: int
    points: Points
    open_alerts: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Seen:
    """A look at a series: when, on the monotonic clock, and what was there; None: it is unknown."""

    at_s: float
    series: ShownSeries | None


@dataclass(frozen=True, slots=True)
class News:
    """Something to be told at once. kind: "state", "alert" or "series"; name: of the series or the
    alert."""

    kind: str
    name: str
    content: ShownAlert | ShownSeries | Mapping[str, Any] | None
