"""Each event by itself, in order: for webhooks and commands.

An event is committed when it was taken, refused for good or given up, together with those that
follow it within COMMIT_EVERY_S, for a commit costs more than most attempts, and at once where none
waits, or where an attempt failed. Killed in between, those and the one in hand come again, with the
same ids, and no others.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import msgspec

from detector.bridge.events import KINDS_OF_WINDOWS, Event, Facts, read_event
from detector.bridge.reports import Reports
from detector.bridge.verdicts import Attempt, BackOff, Verdict
from detector.core.records import Message, Record
from detector.transport.broker import Follower

COMMIT_EVERY_S = 0.25
_POLL_S = 0.5
_LOOK_S = 5.0


class Sender(Protocol):
    def send(self, event: Event) -> Attempt:
        """Never raises for what the target does."""

    def close(self) -> None: ...


@dataclass(slots=True)
class _Settled:
    """Since the last commit, which was at since_s: what is to be kept, and how far it went."""

    since_s: float = 0.0
    kept: list[Message] = field(default_factory=list)
    positions: dict[int, int] = field(default_factory=dict)


class EachEvent:
    """attempt_s: what an attempt may take; give_up_after_s: None: never."""

    def __init__(
        self,
        sender: Sender,
        reports: Reports,
        *,
        attempt_s: float,
        longest_wait_s: float,
        give_up_after_s: float | None,
        stop: threading.Event,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender, self._reports, self._stop = sender, reports, stop
        self._attempt_s, self._longest_wait_s = attempt_s, longest_wait_s
        self._give_up_after_s, self._monotonic_s = give_up_after_s, monotonic_s
        self._told: dict[bytes, bytes] = {}
        self._delivered: dict[int, int] = {}
        self._looked_s = 0.0
        self._settled = _Settled()

    def follow(self, follower: Follower) -> None:
        """Until stopped. Raises BrokerError."""
        self._told = dict(follower.table())
        self._delivered = follower.positions()
        self._settled = _Settled()
        if follower.fresh:
            follower.commit((), self._delivered)  # "now" stays now, should nothing come for long
        while not self._stop.is_set():
            self._look(follower)
            records = follower.poll(timeout_s=_POLL_S)
            if not records:  # past what is no record: markers of transactions
                self._delivered |= follower.positions()
            for record in records:
                event = self._read(record)
                kept = None if event is None else self._passes_on(event)
                if event is not None and kept is not None:
                    if not self._settle(event, follower):
                        break
                    self._keep(kept)
                self._settled.positions[record.partition] = record.offset + 1
                if self._monotonic_s() - self._settled.since_s >= COMMIT_EVERY_S:
                    self._commit(follower)
            self._commit(follower)

    def close(self) -> None:
        self._sender.close()

    def _read(self, record: Record) -> Event | None:
        try:
            return read_event(record.value)
        except ValueError as error:
            where = f"{record.topic}/{record.partition}/{record.offset}"
            self._reports.not_an_alert(where, str(error))
            return None

    def _passes_on(self, event: Event) -> list[Message] | None:
        """What is to be kept once it is told; None: it is not told. Of a muted alert only the event
        that says so is, to whom the alert was told."""
        facts = event.data
        key = self._key(facts)
        told = self._told.get(key) == facts.alert_id.encode()
        if facts.muted and not told:
            self._reports.left_out("muted")
            return None
        if facts.muted or facts.resolved:
            return [Message(key, None)] if told else []
        return [] if told else [Message(key, facts.alert_id.encode())]

    def _key(self, facts: Facts) -> bytes:
        """Where it is kept that an alert was told: under the kind that it was opened with."""
        key = msgspec.json.encode((facts.series, facts.kind))
        if facts.kind in KINDS_OF_WINDOWS and key not in self._told:
            for kind in KINDS_OF_WINDOWS:
                other = msgspec.json.encode((facts.series, kind))
                if self._told.get(other) == facts.alert_id.encode():
                    return other
        return key

    def _settle(self, event: Event, follower: Follower) -> bool:
        """False: stopped before."""
        back_off, began_s = BackOff(self._longest_wait_s), self._monotonic_s()
        while not self._stop.is_set():
            with self._reports.attempt(self._attempt_s):
                attempt = self._sender.send(event)
            if attempt.verdict is Verdict.TAKEN:
                self._reports.taken(event.data)
                return True
            if attempt.verdict is Verdict.REFUSED:
                self._reports.refused(event.id, attempt.why)
                return True
            tried_s = self._monotonic_s() - began_s
            if self._give_up_after_s is not None and tried_s >= self._give_up_after_s:
                self._reports.gave_up(event, attempt.why)
                return True
            self._commit(follower)  # this may last
            wait_s = back_off.wait_s(attempt)
            self._reports.failed(attempt.why, wait_s)
            self._wait(wait_s, follower)
        return False

    def _wait(self, seconds: float, follower: Follower) -> None:
        until_s = self._monotonic_s() + seconds
        while not self._stop.is_set() and (left_s := until_s - self._monotonic_s()) > 0:
            self._look(follower)
            self._stop.wait(min(left_s, _LOOK_S))

    def _keep(self, kept: list[Message]) -> None:
        """To be committed, and in force for the events that follow."""
        self._settled.kept += kept
        for message in kept:
            assert message.key is not None
            if message.value is None:
                self._told.pop(message.key, None)
            else:
                self._told[message.key] = message.value

    def _commit(self, follower: Follower) -> None:
        settled, self._settled = self._settled, _Settled(since_s=self._monotonic_s())
        if settled.positions:
            follower.commit(settled.kept, settled.positions)
            self._delivered.update(settled.positions)

    def _look(self, follower: Follower) -> None:
        self._reports.next_sign_within(_LOOK_S)
        now_s = self._monotonic_s()
        if now_s - self._looked_s >= _LOOK_S:
            self._looked_s = now_s
            self._reports.standing(self._delivered, follower.ends(), len(self._told))
