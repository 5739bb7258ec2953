"""The thread of one target: opens its follower, and opens it again when the broker was lost."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Protocol

from detector.bridge.reports import Reports
from detector.bridge.verdicts import Attempt, BackOff, Verdict
from detector.errors import AccessError, BrokerError, DetectorError, FencedError
from detector.transport.broker import Follower

_LONGEST_WAIT_S = 30.0
_LOGGER = logging.getLogger("detector.bridge")


class Feed(Protocol):
    """What is done with the events of a follower."""

    def follow(self, follower: Follower) -> None:
        """Until stopped. Raises BrokerError."""

    def close(self) -> None: ...


class Delivery:
    """failed: why it ended although nobody stopped it."""

    def __init__(
        self,
        feed: Feed,
        open_follower: Callable[[], Follower],
        reports: Reports,
        *,
        open_s: float,
        stop: threading.Event,
        ended: Callable[[], None],
    ) -> None:
        """open_s: what opening a follower may take; ended: called when it ends, stopped or not."""
        self.reports = reports
        self.failed: DetectorError | None = None
        self._feed, self._open_follower = feed, open_follower
        self._open_s, self._stop, self._ended = open_s, stop, ended
        self._thread = threading.Thread(target=self._run, name=reports.target, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def join(self, timeout_s: float) -> bool:
        """Whether it has ended."""
        self._thread.join(timeout_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        try:
            self._follow_for_ever()
        except DetectorError as error:
            self.failed = error
        except Exception:  # the outermost loop of the thread: said, and the process ends
            _LOGGER.exception("internal error")
            self.failed = DetectorError(f"target {self.reports.target}: internal error, see above")
        finally:
            self._feed.close()
            self._ended()

    def _follow_for_ever(self) -> None:
        back_off = BackOff(_LONGEST_WAIT_S)
        while not self._stop.is_set():
            try:
                self.reports.next_sign_within(self._open_s)
                follower = self._open_follower()
                try:
                    ends, positions = follower.ends(), follower.positions()
                    lag = sum(max(0, end - positions.get(p, end)) for p, end in ends.items())
                    self.reports.connected(fresh=follower.fresh, lost=follower.lost, lag=lag)
                    back_off.reset()
                    self._feed.follow(follower)
                finally:
                    follower.close()
            except FencedError:
                raise
            except BrokerError as error:
                wait_s = back_off.wait_s(Attempt(Verdict.FAILED))
                refused = isinstance(error, AccessError)
                self.reports.broker_lost(str(error), wait_s, refused=refused)
                self.reports.next_sign_within(wait_s)
                self._stop.wait(wait_s)
