"""What was lately: scores, alerts, ticks a second and how long things took.

Kept whether anybody looks or not, for who is paged looks afterwards. It knows of alerts only what
is committed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.alerts import SILENCE, Alert, Severity
from detector.core.episodes import Episodes
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.series import NO_SLOT
from detector.core.ticks import Int64
from detector.service.viewing.alerts import Alerts, Found
from detector.service.viewing.history import Points, ScoreHistory
from detector.service.viewing.shown import ShownAlert

#: Rates are those of the last so many seconds.
RATE_S = 10.0
_PERCENTILES = (50, 95, 99)
#: Times kept, of the last polls, transactions and alerts.
_MOST_TIMES = 512


class Recent:
    """The loop's, but for alerts.shown."""

    def __init__(self, pipeline: Pipeline, *, monotonic_s: Callable[[], float]) -> None:
        self._pipeline = pipeline
        self.history = ScoreHistory()
        self.alerts = Alerts(self._points_of)
        self.pace = Pace(monotonic_s)
        self.news: list[ShownAlert] = []

    def scored(self, result: BatchResult) -> None:
        """A batch was processed; what it found is not committed yet."""
        for part in result.windows:
            self.history.record(part.slot, part.time_ns, part.scored.score)
        if result.forgotten:
            self.history.clear(np.array([one.slot for one in result.forgotten], np.int64))

    def replayed(self, result: BatchResult) -> None:
        """A batch whose results were committed before this process."""
        self.scored(result)
        self.alerts.committed(result.alerts, None)

    def committed(self, alerts: Sequence[Alert], committed_s: float) -> None:
        self.news += self.alerts.committed(alerts, committed_s)
        for alert in alerts:
            if alert.received_ms >= 0:
                self.pace.alert_s.append(max(0.0, committed_s - alert.received_ms / 1000))

    def lost(self, partition: int, slots: Int64) -> None:
        self.history.clear(slots)
        self.alerts.lost(partition)

    def restored(self, partition: int) -> None:
        """The state of a partition was put back, and none of its ticks has been read since."""
        self.alerts.restored(self._open_in(partition))

    def _open_in(self, partition: int) -> Iterator[Found]:
        stream = self._pipeline.stream
        slots = np.sort(stream.series.of_partition(partition))
        if not len(slots):
            return
        kinds = {self._pipeline.primary.policy.kind: stream.opened.windows, **stream.opened.habits}
        for kind, episodes in kinds.items():
            severity = episodes.state.rows(slots, "severity")
            for i in np.flatnonzero(severity).tolist():
                name = Severity(int(severity[i])).name.lower()
                peak = float(episodes.state["peak"][slots[i]])
                yield self._found(int(slots[i]), kind, episodes, name, peak)
        silent = stream.silence.state.rows(slots, "silent")
        for slot in slots[silent].tolist():
            name = Severity.WARNING.name.lower()
            yield self._found(slot, SILENCE, stream.silenced, name, None)

    def _found(
        self, slot: int, kind: str, episodes: Episodes, severity: str, peak: float | None
    ) -> Found:
        episodes.state.reserve(slot + 1)
        stream = self._pipeline.stream
        series = stream.series
        name, partition = series.name(slot), series.partition(slot)
        return Found(
            alert_id=episodes.alert_id(slot),
            kind=kind,
            series=name,
            partition=partition,
            severity=severity,
            opened_ns=episodes.opened_ns(slot),
            peak=peak,
            muted=stream.mutes.muted(partition, name),
        )

    def _points_of(self, partition: int, name: str) -> Points:
        slot = self._pipeline.stream.series.find(partition, name)
        if slot == NO_SLOT:
            return Points(np.empty(0, np.int64), np.empty(0, np.float32))
        return self.history.points(slot)


@dataclass(frozen=True, slots=True)
class _Mark:
    at_s: float
    ticks: int
    windows: int


class Pace:
    """How many ticks and windows were committed, and how long things took, in seconds: poll_s, a
    poll's ticks in the pipeline; commit_s, a transaction; alert_s, from the broker's timestamp of
    a tick's record to the committed alert."""

    def __init__(self, monotonic_s: Callable[[], float]) -> None:
        self._monotonic_s = monotonic_s
        self.ticks = self.windows = 0
        self.poll_s: deque[float] = deque(maxlen=_MOST_TIMES)
        self.commit_s: deque[float] = deque(maxlen=_MOST_TIMES)
        self.alert_s: deque[float] = deque(maxlen=_MOST_TIMES)
        self._marks: deque[_Mark] = deque([_Mark(monotonic_s(), 0, 0)])

    def count(self, *, ticks: int, windows: int, took_s: Sequence[float]) -> None:
        """Of a committed transaction. took_s: its polls in the pipeline."""
        self.ticks += ticks
        self.windows += windows
        self.poll_s.extend(took_s)

    def mark(self) -> None:
        """To be called about once a second."""
        self._marks.append(_Mark(self._monotonic_s(), self.ticks, self.windows))
        while len(self._marks) > 2 and self._marks[-1].at_s - self._marks[1].at_s >= RATE_S:
            self._marks.popleft()

    def rates(self) -> tuple[float, float]:
        """Ticks and windows a second, between the marks of about the last RATE_S."""
        first, last = self._marks[0], self._marks[-1]
        seconds = max(last.at_s - first.at_s, 1e-3)
        return (last.ticks - first.ticks) / seconds, (last.windows - first.windows) / seconds

    def percentiles(self) -> dict[str, dict[str, float] | None]:
        """By what was measured; None: nothing yet."""
        return {
            "pipeline": _percentiles(self.poll_s),
            "transaction": _percentiles(self.commit_s),
            "tick_to_alert": _percentiles(self.alert_s),
        }


def _percentiles(times: deque[float]) -> dict[str, float] | None:
    if not times:
        return None
    ordered = np.sort(np.fromiter(times, np.float64))
    rank = np.array(_PERCENTILES) / 100 * (len(ordered) - 1)
    values = np.interp(rank, np.arange(len(ordered)), ordered).tolist()
    return {f"p{p}": value for p, value in zip(_PERCENTILES, values, strict=True)}
