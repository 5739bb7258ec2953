"""What Alertmanager is told: properties over any events, and what an attempt comes to."""

from __future__ import annotations

import json
import re
from datetime import datetime
from typing import Any

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from detector.bridge.alerts_shown import AlertsShown, Key, Shown
from detector.bridge.events import Event, environment_of, read_event
from detector.bridge.mapping import labels_of, to_alertmanager
from detector.bridge.verdicts import Attempt, BackOff, Verdict
from detector.bridge.webhook import binary, encoded, structured
from detector.core.alerts import Severity, State
from tests.bridge.events import START_NS, event, opened, resolved

NOW_S = START_NS / 1e9 + 100.0
NAMES = st.text(max_size=40)


def read(value: bytes) -> Event:
    return read_event(value)


def told(one: Shown, *, over: bool = False, link: str | None = None, **labels: str) -> Any:
    alert = to_alertmanager(
        one, over=over, now_ns=int(NOW_S * 1e9), resolve_timeout_s=300.0, labels=labels, link=link
    )
    return json.loads(msgspec.json.encode(alert))


@given(
    series=NAMES.filter(bool) | st.sampled_from(["", "x" * 5000, "a\0b", '"}{', "<script>"]),
    kind=st.sampled_from(["reconstruction_error", "silence", "model_drift", "a_new_kind"]),
    score=st.floats(0, 1e300) | st.none(),
    at_s=st.floats(0, 1e9),
    over=st.booleans(),
    link=st.sampled_from([None, "https://d.example/", "http://d.example/base"]),
)
@settings(deadline=None, max_examples=200)
def test_any_alert_becomes_one_that_alertmanager_takes(
    series: str, kind: str, score: float | None, at_s: float, over: bool, link: str | None
) -> None:
    value = event(series, State.OPENED, kind=kind, score=score, at_s=at_s)
    shown = AlertsShown(0.0)
    shown.fold(read(value))
    (key,) = shown
    if over:
        shown.taken(key, NOW_S)
        shown.fold(read(event(series, State.RESOLVED, kind=kind, score=score, at_s=at_s + 1)))
    alert = told(shown[key], over=over, link=link, site="north")
    assert alert["labels"].keys() == {"alertname", "series", "kind", "severity", "site"}
    assert all(0 < len(v) <= 1000 for v in alert["labels"].values())
    assert re.fullmatch(r"Detector[A-Z]\w*", alert["labels"]["alertname"])
    assert all(v and len(v) <= 4000 for v in alert["annotations"].values())
    starts, ends = (datetime.fromisoformat(alert[n]) for n in ("startsAt", "endsAt"))
    assert starts.timestamp() <= NOW_S + 1e-3
    assert starts <= ends
    assert (ends.timestamp() > NOW_S + 1) is not over
    assert ("generatorURL" in alert) is (link is not None)
    if link is not None:
        assert "//#" not in alert["generatorURL"]
        assert re.fullmatch(r"https?://[a-z./]+/#/alerts/[0-9a-f]{32}", alert["generatorURL"])


@given(st.text(min_size=1, max_size=3000), st.text(min_size=1, max_size=3000))
@settings(deadline=None)
def test_other_series_have_other_labels(one: str, other: str) -> None:
    a, b = (read(opened(series)).data for series in (one, other))
    assert (labels_of(a, {}) == labels_of(b, {})) is (one == other)


ACTIONS = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["open", "escalate", "resolve", "mute", "unmute", "down", "kill", "wait"]),
    ),
    max_size=30,
)


@given(actions=ACTIONS, keep_s=st.sampled_from([0.0, 7.0]))
@example(  # the target shows the first episode when the second is muted
    actions=[("a", what) for what in ("open", "down", "resolve", "open", "mute")], keep_s=0.0
)
@settings(deadline=None, max_examples=300)
def test_what_is_shown_in_the_end_is_what_is_open_and_every_alert_was_told(
    actions: list[tuple[str, str]], keep_s: float
) -> None:
    world = World(keep_s)
    for series, what in actions:
        world.act(series, what)
    world.settle()
    assert world.firing == world.open_now()
    # What opened and ended while the target was away is told all the same. (Muting takes away
    # what was not told yet.)
    assert world.was_told >= {one for one in world.opened if one[0] not in world.ever_muted}
    assert world.stored == {k: v for k, v in world.stored.items() if world.shown_key(k)}


class World:
    """An Alertmanager of a set, a bridge that may be killed, and episodes of two series."""

    def __init__(self, keep_s: float) -> None:
        self.keep_s, self.now_s, self.number = keep_s, NOW_S, 0
        self.shown = AlertsShown(keep_s)
        self.log: list[bytes] = []
        self.position = 0  # committed
        self.read = 0
        self.stored: dict[bytes, bytes] = {}
        self.firing: set[Key] = set()
        self.was_told: set[tuple[str, str]] = set()
        self.opened: set[tuple[str, str]] = set()
        self.ever_muted: set[str] = set()
        self.episodes: dict[str, tuple[int, Severity, bool]] = {}
        self.down = False

    def act(self, series: str, what: str) -> None:
        self.number += 1
        found = self.episodes.get(series)
        if what == "open" and found is None:
            self.episodes[series] = (self.number, Severity.WARNING, False)
            self.publish(series, State.OPENED)
        elif what == "escalate" and found is not None:
            self.episodes[series] = (found[0], Severity.CRITICAL, found[2])
            self.publish(series, State.ESCALATED)
        elif what in ("mute", "unmute") and found is not None:
            self.episodes[series] = (found[0], found[1], what == "mute")
            self.publish(series, State.OPENED)
        elif what == "resolve" and found is not None:
            self.publish(series, State.RESOLVED)
            del self.episodes[series]
        elif what == "down":
            self.down = not self.down
        elif what == "kill":
            self.shown = AlertsShown(self.keep_s)
            self.shown.restore(self.stored)
            self.read = self.position
        elif what == "wait":
            self.now_s += 5.0
        self.step()

    def publish(self, series: str, state: State) -> None:
        number, severity, muted = self.episodes[series]
        value = event(
            series, state, episode=number, severity=severity, at_s=self.number, muted=muted
        )
        self.log.append(value)
        if muted:
            self.ever_muted.add(series)
        elif state is not State.RESOLVED:
            self.opened.add((series, severity.name.lower()))

    def step(self) -> None:
        # Each event by itself: two episodes read at once may become one.
        while self.read < len(self.log):
            self.shown.fold(read(self.log[self.read]))
            self.read += 1
            self.send()
        self.send()

    def send(self) -> None:
        if not self.down:
            for key in self.shown.due(self.now_s, 60.0):
                over = self.shown.over(self.shown[key], self.now_s)
                (self.firing.discard if over else self.firing.add)(key)
                if not over:
                    self.was_told.add((key[0], key[2]))
                self.shown.taken(key, self.now_s)
        if not self.shown.waits():
            self.position = self.read
            for name, value in self.shown.changes().items():
                if value is None:
                    self.stored.pop(name, None)
                else:
                    self.stored[name] = value

    def settle(self) -> None:
        self.down = False
        for _ in range(4):
            self.step()
            self.now_s += self.keep_s + 61.0

    def open_now(self) -> set[Key]:
        kind = "reconstruction_error"
        found = set()
        for series, (number, severity, muted) in self.episodes.items():
            if muted:
                continue
            found.add((series, kind, severity.name.lower()))
            if severity is Severity.CRITICAL and (series, kind, "warning") in self.firing:
                found.add((series, kind, "warning"))  # it turned critical while it was shown
            assert number > 0
        return found

    def shown_key(self, name: bytes) -> bool:
        return tuple(msgspec.json.decode(name)) in set(self.shown)


def test_a_second_opening_whose_end_was_not_heard_takes_the_place_of_the_first() -> None:
    shown = AlertsShown(0.0)
    shown.fold(read(opened("a", episode=1, severity=Severity.CRITICAL)))
    for key in shown:
        shown.taken(key, NOW_S)
    shown.fold(read(opened("a", episode=2)))
    assert {key[2]: shown[key].ends_ns is None for key in shown} == {
        "critical": False, "warning": True,
    }  # fmt: skip


def test_what_a_target_refuses_is_not_sent_again_until_it_changes() -> None:
    shown = AlertsShown(0.0)
    shown.fold(read(opened("a")))
    (key,) = shown
    shown.refuse(key, NOW_S)
    assert not shown.waits()
    assert shown.due(NOW_S + 1e6, 60.0) == []
    shown.fold(read(opened("a", at_s=1.0)))
    assert shown.due(NOW_S, 60.0) == [key]


def test_a_clock_that_is_set_back_sends_again() -> None:
    shown = AlertsShown(0.0)
    shown.fold(read(opened("a")))
    (key,) = shown
    shown.taken(key, NOW_S)
    assert shown.due(NOW_S + 1, 60.0) == []
    assert shown.due(NOW_S - 1e6, 60.0) == [key]


@given(st.integers(0, 60), st.floats(0.1, 3600))
def test_waits_grow_to_the_longest_and_differ(failures: int, longest_s: float) -> None:
    back_off = BackOff(longest_s)
    failed = Attempt(Verdict.FAILED)
    waits = [back_off.wait_s(failed) for _ in range(failures + 1)]
    assert all(0 < wait <= longest_s for wait in waits)
    assert waits[-1] >= min(longest_s, 0.5 * 2.0**failures) / 2
    asked = Attempt(Verdict.FAILED, wait_s=1e9)
    assert 300.0 <= back_off.wait_s(asked) <= max(300.0, longest_s)


@given(st.text(max_size=50))
def test_a_header_of_the_binary_mode_is_printable_ascii_and_can_be_read_back(text: str) -> None:
    from urllib.parse import unquote

    try:
        text.encode()
    except UnicodeEncodeError:
        return
    header = encoded(text)
    assert re.fullmatch(r"[!#$&-~%]*", header)
    assert unquote(header) == text


def test_both_modes_carry_the_same_event() -> None:
    value = opened("Zürich 100%")
    whole = json.loads(value)
    body, headers = structured(read(value))
    assert json.loads(body) == whole
    assert headers["Content-Type"].startswith("application/cloudevents+json")
    body, headers = binary(read(value))
    assert json.loads(body) == whole["data"]
    assert headers["ce-subject"] == "Z%C3%BCrich%20100%25"
    assert headers["ce-id"] == whole["id"]
    assert headers["Content-Type"] == "application/json"


@given(NAMES)
@settings(deadline=None)
def test_an_environment_holds_any_series(series: str) -> None:
    found = environment_of(read(opened(series)), "http://x")
    assert all("\0" not in value for value in found.values())
    assert found["ALERT_STATE"] == "opened"


@given(st.binary(max_size=60) | st.sampled_from([b"", b"{}", b"null", b"[1]", b'{"id":"\\ud800"}']))
def test_bytes_that_are_no_event_are_told_apart(value: bytes) -> None:
    with pytest.raises(ValueError, match="no alert"):
        read_event(value)


@pytest.mark.parametrize("field", ["alert_id", "series", "state", "opened_time", "kind"])
def test_an_event_without_what_is_needed_is_none(field: str) -> None:
    tree = json.loads(resolved("a"))
    del tree["data"][field]
    with pytest.raises(ValueError, match="no alert"):
        read_event(json.dumps(tree).encode())


def test_what_a_later_version_adds_is_passed_over() -> None:
    tree = json.loads(opened("a"))
    tree["data"] |= {"new": {"x": 1}, "state": "muted", "muted": True}
    assert read_event(json.dumps(tree).encode()).data.muted


def test_a_command_is_not_told_of_an_end_as_of_a_beginning() -> None:
    before, after = (
        environment_of(read(one), None)["ALERT_SUMMARY"]
        for one in (opened("pump"), resolved("pump"))
    )
    assert "is anomalous" in before
    assert after == "pump is as usual again"


def test_a_model_of_another_kind_ends_what_the_last_one_has_opened() -> None:
    shown = AlertsShown(0.0)
    shown.fold(read(opened("pump", kind="reconstruction_error")))
    (key,) = shown
    shown.taken(key, NOW_S)
    assert len(shown) == 1
    shown.fold(read(resolved("pump", kind="prediction_error")))
    assert len(shown) == 0
    assert shown.over(shown[key], NOW_S + 1.0)


def test_what_is_told_when_a_mute_ends_has_the_score_of_its_peak() -> None:
    event = read(opened("pump", score=None, peak_score=12.5, muted=False, at_s=3.0))
    assert "score 12.5" in environment_of(event, None)["ALERT_SUMMARY"]
