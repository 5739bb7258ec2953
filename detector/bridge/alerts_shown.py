"""What Alertmanager should show, folded from the events of the alert topic.

Alertmanager knows an alert by its labels. Those of a series and a kind are one alert for each
severity: an episode that turns critical opens a second one beside the first, so that no label
changes while an alert lives (and a route or an inhibition may go by severity). An alert that
resolves stays until it was shown for keep_firing_s: shorter ones would never be told. One that is
muted goes at once. Pure: the time is given.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product

import msgspec

from detector.bridge.events import KINDS_OF_WINDOWS, Event, Facts

Key = tuple[str, str, str]
SEVERITIES = ("warning", "critical")


class Shown(msgspec.Struct):
    """One alert of Alertmanager's. ends_ns: event time of its end, None while it lasts; told_s:
    when the target first took it, wall clock, None: not yet; sent_s: when it was last sent by this
    process; news: not told yet as it is now; refused: not to be sent again as it is; held: the
    target still shows the episode before, whose end it was not told."""

    facts: Facts
    source: str
    starts_ns: int
    ends_ns: int | None = None
    told_s: float | None = None
    at_once: bool = False
    sent_s: float | None = None
    news: bool = True
    refused: bool = False
    held: bool = False


class AlertsShown:
    """The table of a target. keep_firing_s: how long an alert is shown at least."""

    def __init__(self, keep_firing_s: float) -> None:
        self._keep_firing_s = keep_firing_s
        self._shown: dict[Key, Shown] = {}
        self._changed: set[Key] = set()

    def __len__(self) -> int:
        """Alerts that are open."""
        return sum(one.ends_ns is None for one in self._shown.values())

    def __getitem__(self, key: Key) -> Shown:
        return self._shown[key]

    def __iter__(self) -> Iterator[Key]:
        yield from self._shown

    def fold(self, event: Event) -> None:
        """An event, in the order of the topic."""
        facts = event.data
        mine = [key for key in self._keys(facts) if key in self._shown]
        if facts.resolved or facts.muted:
            for key in mine:
                self._end(key, facts.event_ns, at_once=facts.muted)
            return
        this = (facts.series, facts.kind, facts.severity)
        for key in mine:  # of an episode whose end was not heard
            old = self._shown[key]
            if key != this and (old.facts.alert_id != facts.alert_id or key[1] != facts.kind):
                self._end(key, facts.event_ns, at_once=False)
        self._open(this, event)

    def _keys(self, facts: Facts) -> list[Key]:
        """Of its series and kind, and those that a model of another kind has opened of it."""
        keys = [(facts.series, facts.kind, severity) for severity in SEVERITIES]
        if facts.kind in KINDS_OF_WINDOWS:
            keys += [
                key
                for key in product([facts.series], KINDS_OF_WINDOWS, SEVERITIES)
                if key[1] != facts.kind
                and key in self._shown
                and self._shown[key].facts.alert_id == facts.alert_id
            ]
        return keys

    def _open(self, key: Key, event: Event) -> None:
        old = self._shown.get(key)
        # The time of the ticks, but never one that is still to come.
        starts_ns = min(event.data.opened_ns, event.data.detected_ns)
        told_s, held = None, False
        if old is not None:
            held = old.held or old.told_s is not None
            told_s = old.told_s if old.ends_ns is None else None
            if old.ends_ns is None and old.facts.alert_id == event.data.alert_id:
                starts_ns = old.starts_ns
        self._shown[key] = Shown(event.data, event.source, starts_ns, told_s=told_s, held=held)
        self._changed.add(key)

    def _end(self, key: Key, at_ns: int, *, at_once: bool) -> None:
        one = self._shown[key]
        if at_once and one.told_s is None and not one.held:
            self.forget(key)
            return
        if one.ends_ns is None:
            one.ends_ns = max(at_ns, one.starts_ns)
        one.at_once = one.at_once or at_once
        self._changed.add(key)

    def over(self, one: Shown, now_s: float) -> bool:
        """Whether it is to be told as resolved."""
        if one.ends_ns is None:
            return False
        if one.at_once:
            return True
        return one.told_s is not None and now_s >= one.told_s + self._keep_firing_s

    def due(self, now_s: float, resend_s: float) -> list[Key]:
        """What is to be sent now: news, ends, and what must not expire."""
        return [key for key, one in self._shown.items() if self._due(one, now_s, resend_s)]

    def _due(self, one: Shown, now_s: float, resend_s: float) -> bool:
        if self.over(one, now_s):
            return True
        if one.refused:
            return False
        return one.news or one.sent_s is None or not 0 <= now_s - one.sent_s < resend_s

    def waits(self) -> bool:
        """Whether something was not told yet: nothing may be committed before."""
        return any(one.news and not one.refused for one in self._shown.values())

    def taken(self, key: Key, now_s: float) -> None:
        """The target has it, as it is now."""
        one = self._shown[key]
        if self.over(one, now_s):
            self.forget(key)
            return
        one.sent_s = now_s
        if one.told_s is None:
            one.told_s = now_s
        if one.news:
            one.news = False
            self._changed.add(key)

    def refuse(self, key: Key, now_s: float) -> None:
        """The target will never take it as it is."""
        one = self._shown[key]
        if self.over(one, now_s):
            self.forget(key)
            return
        one.refused, one.news, one.told_s = True, False, one.told_s or now_s
        self._changed.add(key)

    def forget(self, key: Key) -> None:
        del self._shown[key]
        self._changed.add(key)

    def changes(self) -> dict[bytes, bytes | None]:
        """What is to be kept of what changed since last asked; None: no longer."""
        found = {_name(key): self._kept(key) for key in sorted(self._changed)}
        self._changed = set()
        return found

    def _kept(self, key: Key) -> bytes | None:
        one = self._shown.get(key)
        return None if one is None else msgspec.json.encode(one)

    def restore(self, table: Mapping[bytes, bytes]) -> None:
        """As it was kept. All of it is sent again: it is not known when it was last."""
        for name, value in table.items():
            one = msgspec.json.decode(value, type=Shown)
            one.sent_s = None
            series, kind, severity = msgspec.json.decode(name, type=Key)
            self._shown[series, kind, severity] = one

    def forget_past(self) -> None:
        """Of a first start: what has ended before it is no news."""
        for key in [key for key, one in self._shown.items() if one.ends_ns is not None]:
            del self._shown[key]
            self._changed.discard(key)


def _name(key: Key) -> bytes:
    return msgspec.json.encode(key)
