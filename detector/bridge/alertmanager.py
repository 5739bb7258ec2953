"""The state of alerts, kept up at an Alertmanager.

It is told what is, not what was: an alert that lasts is sent again before Alertmanager would take
it for resolved, and sending one twice changes nothing. Positions are committed with the table of
what is shown, once all of it was taken; after a restart the table is sent again whole.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence

import msgspec

from detector.bridge.alerts_shown import AlertsShown, Key
from detector.bridge.events import read_event
from detector.bridge.http import HttpTarget
from detector.bridge.mapping import to_alertmanager
from detector.bridge.reports import Reports
from detector.bridge.verdicts import Attempt, BackOff, Verdict
from detector.core.records import Message, Record
from detector.transport.broker import Follower

_POLL_S = 0.5
_LOOK_S = 5.0
_TOGETHER = 64
#: A log that ends in transaction markers may never look read to its end.
_QUIET_S = 2.0
_LONGEST_RESEND_S = 60.0
_HEADERS = {"Content-Type": "application/json"}


class Alertmanager:
    """One of them. labels, link: see the configuration."""

    def __init__(
        self,
        target: HttpTarget,
        reports: Reports,
        *,
        resolve_timeout_s: float,
        keep_firing_s: float,
        labels: Mapping[str, str],
        link: str | None,
        attempt_s: float,
        longest_wait_s: float,
        stop: threading.Event,
        wall_s: Callable[[], float] = time.time,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target, self._reports, self._stop = target, reports, stop
        self._resolve_timeout_s, self._keep_firing_s = resolve_timeout_s, keep_firing_s
        self._resend_s = min(_LONGEST_RESEND_S, resolve_timeout_s / 3)
        self._labels, self._link = dict(labels), link
        self._attempt_s = attempt_s
        # However long it was away: what it shows has expired when it is back, and is wanted soon.
        self._back_off = BackOff(min(longest_wait_s, self._resend_s))
        self._wall_s, self._monotonic_s = wall_s, monotonic_s
        self._shown = AlertsShown(keep_firing_s)
        self._not_before_s = self._asked_s = self._looked_s = -1e9

    def follow(self, follower: Follower) -> None:
        """Until stopped. Raises BrokerError."""
        self._shown = AlertsShown(self._keep_firing_s)
        self._shown.restore(follower.table())
        committed, waiting = follower.positions(), {}
        if follower.fresh:
            self._catch_up(follower)
            waiting = follower.positions()
        while not self._stop.is_set():
            self._look(follower, committed)
            records = follower.poll(timeout_s=_POLL_S)
            waiting |= self._fold(records)
            self._send_what_is_due()
            if not self._shown.waits():
                kept = [Message(key, value) for key, value in self._shown.changes().items()]
                if kept or waiting:
                    follower.commit(kept, waiting)
                    committed |= waiting
                    waiting = {}
                elif not records:  # past what is no record: markers of transactions
                    committed |= follower.positions()

    def close(self) -> None:
        self._target.close()

    def _catch_up(self, follower: Follower) -> None:
        """The first time ever: what is open now is told, and nothing of the past."""
        ends = follower.ends()
        came_s = self._monotonic_s()
        while not self._stop.is_set():
            self._reports.next_sign_within(_LOOK_S)
            records = follower.poll(timeout_s=_POLL_S)
            self._fold(records)
            now_s = self._monotonic_s()
            came_s = now_s if records else came_s
            positions = follower.positions()
            read = all(positions.get(p, end) >= end for p, end in ends.items())
            if read or now_s - came_s >= _QUIET_S:
                break
        self._shown.forget_past()

    def _fold(self, records: Sequence[Record]) -> dict[int, int]:
        positions = {}
        for record in records:
            positions[record.partition] = record.offset + 1
            try:
                event = read_event(record.value)
            except ValueError as error:
                where = f"{record.topic}/{record.partition}/{record.offset}"
                self._reports.not_an_alert(where, str(error))
                continue
            if event.data.muted:
                self._reports.left_out("muted")
            self._shown.fold(event)
        return positions

    def _send_what_is_due(self) -> None:
        if self._monotonic_s() < self._not_before_s:
            return
        now_s = self._wall_s()
        due = self._shown.due(now_s, self._resend_s)
        if not due and self._monotonic_s() - self._asked_s < self._resend_s:
            return
        # Nothing to be sent is sent too: so it is seen whether it is there.
        for begin in range(0, max(1, len(due)), _TOGETHER):
            if not self._send(due[begin : begin + _TOGETHER], now_s):
                return

    def _send(self, keys: Sequence[Key], now_s: float) -> bool:
        """Whether it has answered."""
        attempt = self._post(keys, now_s)
        if attempt.verdict is Verdict.FAILED:
            wait_s = self._back_off.wait_s(attempt)
            self._not_before_s = self._monotonic_s() + wait_s
            self._reports.failed(attempt.why, wait_s)
            return False
        self._back_off.reset()
        if attempt.verdict is Verdict.TAKEN:
            self._taken(keys, now_s)
        elif len(keys) == 1:
            one = self._shown[keys[0]]
            if not one.refused:
                self._reports.refused(one.facts.alert_id, attempt.why)
            self._shown.refuse(keys[0], now_s)
        else:  # which of them? The others were taken: sending them again changes nothing
            return all(self._send([key], now_s) for key in keys)
        return True

    def _post(self, keys: Sequence[Key], now_s: float) -> Attempt:
        alerts = [
            to_alertmanager(
                self._shown[key],
                over=self._shown.over(self._shown[key], now_s),
                now_ns=int(now_s * 1e9),
                resolve_timeout_s=self._resolve_timeout_s,
                labels=self._labels,
                link=self._link,
            )
            for key in keys
        ]
        self._asked_s = self._monotonic_s()
        with self._reports.attempt(self._attempt_s):
            return self._target.post(msgspec.json.encode(alerts), _HEADERS)

    def _taken(self, keys: Sequence[Key], now_s: float) -> None:
        if not keys:
            self._reports.taken()
        for key in keys:
            one = self._shown[key]
            news = one.news or self._shown.over(one, now_s)
            self._reports.taken(one.facts if news else None)
            self._shown.taken(key, now_s)

    def _look(self, follower: Follower, committed: Mapping[int, int]) -> None:
        self._reports.next_sign_within(_LOOK_S)
        now_s = self._monotonic_s()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._reports.standing(committed, follower.ends(), len(self._shown))
