"""The alerts that are shown: those that are open and the last that closed, once committed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detector.core.alerts import Alert, State
from detector.core.ticks import Float32
from detector.service.viewing.history import EVERY_S, POINTS, Points
from detector.service.viewing.shown import ShownAlert

MOST_OPEN, MOST_CLOSED = 1000, 200
#: Points kept of one alert: before it, and since.
MOST_POINTS = 4 * POINTS
#: Numbers of a window that are kept of one alert, in observed and in expected.
_MOST_NUMBERS = 4_000
#: So long after an alert its series is followed.
AFTER_S = 120

_NO_POINTS = Points(np.empty(0, np.int64), np.empty(0, np.float32))


@dataclass(frozen=True, slots=True)
class Found:
    """An alert that is open in restored state, of which no event is known."""

    alert_id: str
    kind: str
    series: str
    partition: int
    severity: str
    opened_ns: int
    peak: float | None
    muted: bool = False


class Alerts:
    """points_of: the scores of a series of a partition. All but `shown` belong to the loop."""

    def __init__(self, points_of: Callable[[int, str], Points]) -> None:
        self._points_of = points_of
        self._open: dict[str, ShownAlert] = {}
        self._closed: dict[str, ShownAlert] = {}
        self._recalled: dict[int, Mapping[str, Sequence[Alert]]] = {}
        self._dirty = False
        self._cursor = 0
        #: Newest first, those that are open before the others; replaced, never changed.
        self.shown: Mapping[str, ShownAlert] = {}

    def committed(self, alerts: Iterable[Alert], committed_s: float | None) -> list[ShownAlert]:
        """Events that are in the alerts topic, in order. Told again they change nothing. What
        changed."""
        changed = {}
        for alert in alerts:
            shown = self._after(alert, committed_s)
            if shown is not None:
                changed[shown.alert_id] = shown
        self._dirty |= bool(changed)
        return list(changed.values())

    def _after(self, alert: Alert, committed_s: float | None) -> ShownAlert | None:
        known = self._open.pop(alert.alert_id, None)
        if known is None and alert.alert_id in self._closed:
            return None  # told again
        alert = _bounded(alert)
        points = self._points_of(alert.partition, alert.series)
        if known is not None:
            points = known.points.with_newer(points, most=MOST_POINTS)
        opening = alert if known is None or known.opening is None else known.opening
        shown = ShownAlert(
            alert_id=alert.alert_id,
            kind=alert.kind,
            series=alert.series,
            partition=alert.partition,
            severity=alert.severity.name.lower(),
            opened_ns=alert.opened_ns,
            peak=alert.peak_score,
            alert=alert,
            opening=opening,
            committed_s=committed_s,
            points=points,
        )
        if alert.state is State.RESOLVED:
            self._closed[alert.alert_id] = shown
            if len(self._closed) > MOST_CLOSED:
                del self._closed[next(iter(self._closed))]
        else:
            self._keep_open(shown)
        return shown

    def _keep_open(self, shown: ShownAlert) -> None:
        self._open[shown.alert_id] = shown
        if len(self._open) > MOST_OPEN:
            del self._open[next(iter(self._open))]

    def recall(self, partition: int, events: Mapping[str, Sequence[Alert]]) -> None:
        """Events of alerts that may be among those that are restored next, by their ids, the
        opening first."""
        self._recalled[partition] = events

    def restored(self, found: Iterable[Found]) -> None:
        """Alerts that were open when the state of a partition was saved."""
        for one in found:
            if one.alert_id not in self._open and one.alert_id not in self._closed:
                events = self._recalled.get(one.partition, {}).get(one.alert_id, ())
                opening, newest = (
                    (_bounded(events[0]), _bounded(events[-1])) if events else (None, None)
                )
                if newest is not None:
                    newest = replace(newest, muted=one.muted)  # by now
                self._keep_open(
                    ShownAlert(
                        one.alert_id, one.kind, one.series, one.partition, one.severity,
                        one.opened_ns, one.peak, newest, opening, None, _NO_POINTS, one.muted,
                    )
                )  # fmt: skip
                self._dirty = True

    def lost(self, partition: int) -> None:
        """Another worker has it now, and tells of its open alerts."""
        self._recalled.pop(partition, None)
        gone = [name for name, one in self._open.items() if one.partition == partition]
        for name in gone:
            del self._open[name]
        self._dirty |= bool(gone)

    def follow(self, most: int) -> None:
        """Take up what has been scored since of some of those that are open or closed lately; each
        has its turn."""
        followed = [*self._open, *self._closed]
        if not followed:
            return
        for step in range(min(most, len(followed))):
            name = followed[(self._cursor + step) % len(followed)]
            among = self._open if name in self._open else self._closed
            one = among[name]
            newer = self._points_of(one.partition, one.series)
            if not one.is_open and one.alert is not None:
                newer = _until(newer, one.alert.time_ns // 10**9 + AFTER_S)
            if len(newer.time_s):
                among[name] = replace(one, points=one.points.with_newer(newer, most=MOST_POINTS))
                self._dirty = True
        self._cursor = (self._cursor + most) % len(followed)

    def publish(self) -> None:
        """Hand over what has changed since."""
        if self._dirty:
            self._dirty = False
            newest = [*reversed(self._open.values()), *reversed(self._closed.values())]
            self.shown = {one.alert_id: one for one in newest}


def _until(points: Points, time_s: int) -> Points:
    kept = points.time_s <= time_s - EVERY_S
    return Points(points.time_s[kept], points.score[kept])


def _bounded(alert: Alert) -> Alert:
    observed, expected = _rows(alert.observed), _rows(alert.expected)
    if observed is alert.observed and expected is alert.expected:
        return alert
    return replace(alert, observed=observed, expected=expected)


def _rows(window: Float32) -> Float32:
    most = max(2, _MOST_NUMBERS // max(1, window.shape[1]))
    return window if len(window) <= most else window[-most:].copy()
