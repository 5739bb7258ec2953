"""Where the thread that serves viewers asks and is answered: plain mappings, ready to be JSON.

Shapes and names are those of docs/http-api.md. Whatever costs time is done here, in that thread.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from detector.core.alerts import Alert
from detector.core.moments import rfc3339
from detector.core.ticks import Float32, Float64
from detector.service.health import Health
from detector.service.viewing.history import EVERY_S, Points
from detector.service.viewing.requests import MOST_WATCHED
from detector.service.viewing.shown import News, ShownAlert, ShownSeries
from detector.service.viewing.viewing import Viewing


class Desk:
    """Asks for what viewers want and tells what was handed over. One thread but the loop's."""

    most_watched = MOST_WATCHED

    def __init__(self, viewing: Viewing, health: Health) -> None:
        self._viewing, self._health = viewing, health

    def clock_s(self) -> float:
        """The loop's monotonic clock: that of the times of state, names and series."""
        return self._viewing.monotonic_s()

    def live(self) -> str | None:
        return self._health.live()

    def ready(self) -> str | None:
        return self._health.ready()

    # -- asking

    def want_state(self, for_s: float) -> None:
        self._viewing.requests.state_s = self.clock_s() + for_s

    def want_names(self, for_s: float) -> None:
        self._viewing.requests.names_s = self.clock_s() + for_s

    def watch(self, names: frozenset[str]) -> None:
        """These and no others."""
        self._viewing.requests.watched = names

    def listen(self, listener: Callable[[Sequence[News]], None] | None) -> None:
        """listener is called in the loop's thread and must not wait."""
        self._viewing.requests.listener = listener

    # -- answers

    def state(self) -> tuple[float, Mapping[str, Any]] | None:
        """When it was handed over, and the state."""
        return self._viewing.state

    def names(self) -> tuple[float, Sequence[str]] | None:
        return self._viewing.names

    def series(self, name: str) -> tuple[float, Mapping[str, Any] | None] | None:
        """The last look at a watched series; the mapping is None where there is no such series."""
        seen = self._viewing.seen.get(name)
        if seen is None:
            return None
        return seen.at_s, None if seen.series is None else _series(seen.series)

    def alerts(self) -> Sequence[Mapping[str, Any]]:
        """Those that are open, then those that closed; the newest first."""
        return [_summary(one) for one in self._viewing.alerts.values()]

    def alert(self, alert_id: str) -> Mapping[str, Any] | None:
        shown = self._viewing.alerts.get(alert_id)
        return None if shown is None else _detail(shown)

    @staticmethod
    def told(news: News) -> Mapping[str, Any]:
        """What the news are, as the answers say it."""
        content = news.content
        if isinstance(content, ShownAlert):
            return _summary(content)
        if isinstance(content, ShownSeries):
            return _series(content)
        return {"series": news.name, "known": False} if content is None else content


def _summary(shown: ShownAlert) -> dict[str, Any]:
    alert = shown.alert
    opening = shown.opening
    first = {} if opening is None else opening.contributions
    return {
        "alert_id": shown.alert_id,
        "series": shown.series,
        "partition": shown.partition,
        "kind": shown.kind,
        "state": "open" if shown.is_open else "closed",
        "last_event": None if alert is None else alert.state.name.lower(),
        "severity": shown.severity,
        "muted": shown.muted,
        "score": None if alert is None else alert.score,
        "peak_score": shown.peak,
        "threshold": None if alert is None else alert.threshold,
        "opened_time": rfc3339(shown.opened_ns),
        "event_time": rfc3339(shown.opened_ns if alert is None else alert.time_ns),
        "committed_time": _moment(shown.committed_s),
        "top_feature": max(first, key=lambda name: first[name]) if first else None,
        "reason": None if alert is None else alert.reason,
        "model_version": None if alert is None else alert.model_version,
    }


def _detail(shown: ShownAlert) -> dict[str, Any]:
    events = [shown.opening, shown.alert]
    if shown.opening is shown.alert:
        events = events[:1]
    return _summary(shown) | {
        "events": [_event(one) for one in events if one is not None],
        "history": _points(shown.points),
        "history_every_seconds": EVERY_S,
    }


def _event(alert: Alert) -> dict[str, Any]:
    fault = alert.fault
    return {
        "id": alert.id,
        "event": alert.state.name.lower(),
        "severity": alert.severity.name.lower(),
        "time": rfc3339(alert.time_ns),
        "score": alert.score,
        "threshold": alert.threshold,
        "features": list(alert.contributions),
        "contributions": dict(alert.contributions),
        "views": dict(alert.views),
        "observed": _rows(alert.observed),
        "expected": _rows(alert.expected),
        "fault": None if fault is None else {"kind": fault.kind, "probability": fault.probability},
        "input": {
            "topic": alert.topic,
            "partition": alert.partition,
            "offset": alert.offset,
            "index": alert.index,
        },
        "model_version": alert.model_version,
    }


def _series(shown: ShownSeries) -> dict[str, Any]:
    expected, points = shown.expected, shown.points
    # All numbers at once: a viewer has two of these a second.
    windows = [shown.observed] if expected is None else [shown.observed, expected]
    found = _in_few_digits(np.concatenate([*(w.ravel() for w in windows), points.score]))
    ends = np.cumsum([w.size for w in windows])
    observed, *after = np.split(found, ends)
    return {
        "series": shown.series,
        "known": True,
        "partition": shown.partition,
        "partitions": list(shown.partitions),
        "model_version": shown.model_version,
        "length_ticks": shown.length,
        "ticks": shown.ticks,
        "warming": shown.ticks < shown.length,
        "features": list(shown.features),
        "observed": observed.reshape(shown.observed.shape).tolist(),
        "expected": None if expected is None else after[0].reshape(expected.shape).tolist(),
        "contributions": dict(shown.contributions),
        "views": dict(shown.views),
        "score": shown.score,
        "threshold": shown.threshold,
        "time": None if shown.time_ns is None else rfc3339(shown.time_ns),
        "heard_time": rfc3339(shown.heard_ns),
        "history": list(map(list, zip(points.time_s.tolist(), after[-1].tolist(), strict=True))),
        "history_every_seconds": EVERY_S,
        "open_alerts": list(shown.open_alerts),
    }


def _points(points: Points) -> list[list[float]]:
    """Seconds since the epoch and scores."""
    scores = _in_few_digits(points.score).tolist()
    return [[at, score] for at, score in zip(points.time_s.tolist(), scores, strict=True)]


def _rows(window: Float32) -> list[list[float]]:
    rows: list[list[float]] = _in_few_digits(window).tolist()
    return rows


def _in_few_digits(values: Float32) -> Float64:
    """Numbers of at most 6, else 7 or 8 significant digits that are these when read as float32; 9
    always are (IEEE 754-2019, 5.12.2), and what is left is written with all it has."""
    found = values.astype(np.float64)
    with np.errstate(all="ignore"):  # zero and what is no number have no digits, and stay
        digits = np.floor(np.log10(np.abs(found)))
        left = np.isfinite(digits)
        for most in (6, 7, 8):
            power = most - 1 - digits
            scale = 10.0 ** np.abs(power)
            up = power >= 0
            whole = np.rint(np.where(up, found * scale, found / scale))
            short = np.where(up, whole / scale, whole * scale)
            same = left & (short.astype(np.float32) == values)
            found = np.where(same, short, found)
            left &= ~same
            if not left.any():
                break
    return found


def _moment(seconds: float | None) -> str | None:
    return None if seconds is None else rfc3339(round(seconds * 1e9))
