"""What is told of one target: its log lines, its metrics, and whether its thread moves."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

from detector.bridge.events import Event, Facts
from detector.bridge.metrics import BridgeMetrics

_LOGGER = logging.getLogger("detector.bridge")
_SAY_AGAIN_S = 60.0
#: Beyond what a step may take, until its thread counts as stuck.
_GRACE_S = 60.0


class Reports:
    """Of one target. A target that is down is said when it goes, each minute, and when it is
    back."""

    def __init__(
        self,
        target: str,
        metrics: BridgeMetrics,
        *,
        monotonic_s: Callable[[], float] = time.monotonic,
        wall_s: Callable[[], float] = time.time,
    ) -> None:
        self.target = target
        self._metrics, self._monotonic_s, self._wall_s = metrics, monotonic_s, wall_s
        self._down_since_s: float | None = None
        self._said_s = 0.0
        self._sign_by_s = monotonic_s() + _GRACE_S
        self._connected = False

    @contextmanager
    def attempt(self, timeout_s: float) -> Iterator[None]:
        self.next_sign_within(timeout_s)
        with self._metrics.attempt.labels(self.target).time():
            yield

    def next_sign_within(self, seconds: float) -> None:
        """The thread moves, and will again within so long."""
        self._sign_by_s = self._monotonic_s() + seconds + _GRACE_S

    def taken(self, news: Facts | None = None) -> None:
        """None: nothing new was told."""
        self._answered()
        if news is not None:
            self._metrics.delivered.labels(self.target).inc()
            late_s = max(0.0, self._wall_s() - news.detected_ns / 1e9)
            self._metrics.delay.labels(self.target).observe(late_s)

    def refused(self, what: str, why: str) -> None:
        self._answered()
        self._metrics.refused.labels(self.target).inc()
        self._say("refused for good", logging.WARNING, event=what, why=why)

    def failed(self, why: str, again_in_s: float) -> None:
        now_s = self._monotonic_s()
        self._metrics.target_up.labels(self.target).set(0)
        self._metrics.retries.labels(self.target).inc()
        if self._down_since_s is None or now_s - self._said_s >= _SAY_AGAIN_S:
            self._down_since_s = now_s if self._down_since_s is None else self._down_since_s
            self._said_s = now_s
            down_s = round(now_s - self._down_since_s)
            self._say(
                "is tried again", logging.WARNING, why=why, in_s=round(again_in_s, 1), down_s=down_s
            )

    def left_out(self, reason: str, number: int = 1) -> None:
        self._metrics.left_out.labels(self.target, reason).inc(number)

    def gave_up(self, event: Event, why: str) -> None:
        self.left_out("gave_up")
        self._say("given up", logging.ERROR, event=event.id, why=why)

    def not_an_alert(self, where: str, why: str) -> None:
        self.left_out("not_an_alert")
        self._say("passed over", logging.WARNING, record=where, why=why[:200])

    def broker_lost(self, why: str, again_in_s: float, *, refused: bool) -> None:
        """refused: it does not let us."""
        self._connected = False
        if refused:
            self._metrics.access_refused.labels(self.target).inc()
        self._metrics.broker_errors.labels(self.target).inc()
        self._say("has lost the broker", logging.ERROR, why=why, again_in_s=round(again_in_s, 1))

    def connected(self, *, fresh: bool, lost: int, lag: int) -> None:
        self._connected = True
        self._say("follows", logging.INFO, first_time=fresh, waiting=lag)
        if lost:
            self.left_out("deleted", lost)
            self._say(
                "misses events that were deleted before they were read: the topic keeps them for "
                "less time than the bridge was away",
                logging.ERROR,
                events=lost,
            )

    def standing(self, delivered: Mapping[int, int], ends: Mapping[int, int], alerts: int) -> None:
        lag = sum(max(0, end - delivered.get(p, end)) for p, end in ends.items())
        self._metrics.lag.labels(self.target).set(lag)
        self._metrics.open_alerts.labels(self.target).set(alerts)

    def stuck(self) -> bool:
        return self._monotonic_s() > self._sign_by_s

    def is_connected(self) -> bool:
        return self._connected

    def _answered(self) -> None:
        self._metrics.target_up.labels(self.target).set(1)
        if self._down_since_s is not None:
            down_s = round(self._monotonic_s() - self._down_since_s)
            self._down_since_s = None
            self._say("is back", logging.INFO, was_down_s=down_s)

    def _say(self, what: str, level: int, **fields: object) -> None:
        _LOGGER.log(level, f"target {what}", extra={"fields": {"target": self.target, **fields}})
