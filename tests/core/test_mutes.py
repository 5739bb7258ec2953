"""Which alerts are muted: the same for any split into batches and any restart, tick by tick."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.alerts import MUTED, SILENCE, UNMUTED, Alert, State
from detector.core.cloudevents import encode_alert
from detector.core.commands import decode_mute, encode_mute, mute_key
from detector.core.mutes import Mute, Schedule, Windows, named
from detector.core.patterns import Pattern
from detector.core.pipeline import Pipeline
from detector.errors import StateError
from tests.core.agreeing import make_pipeline, make_policy, policies
from tests.core.making import Rules
from tests.core.reference import Tick, batch_of
from tests.core.streams import START_NS, cut, cuts, streams

#: From offset `at` on a partition is told that these hold.
Told = tuple[int, int, tuple[Mute, ...]]
Where = tuple[int, int, int]
_SECOND_NS = 10**9


def mute(series: str = "*", **changes: object) -> Mute:
    return msgspec.structs.replace(Mute(id="m", series=series), **changes)


_mutes = st.builds(
    lambda series, since, lasts, windows: Mute(
        id=f"{series}/{since}/{lasts}/{windows is not None}",
        series=series,
        since_ns=None if since is None else START_NS + since * _SECOND_NS,
        until_ns=None if lasts is None else START_NS + ((since or 0) + lasts) * _SECOND_NS,
        windows=windows,
    ),
    st.sampled_from(["*", "a", "[ab]", "ü", "nobody", "l*"]),
    st.none() | st.integers(-5, 90),
    st.none() | st.integers(1, 60),
    st.none() | st.just(Windows(cron="*/2 * * * *", lasts_s=60, time_zone="Europe/Zurich")),
)
_told = st.lists(
    st.tuples(st.integers(0, 2), st.integers(38, 100), st.lists(_mutes, max_size=3).map(tuple)),
    max_size=6,
)


def tell(pipeline: Pipeline, told: Iterable[Told]) -> None:
    """At each offset in turn."""
    for partition, at, wanted in sorted(told, key=lambda one: one[:2]):
        by_id = {one.id: one for one in wanted}
        pipeline.stream.mutes.apply(partition, by_id, at=at, read=0, event_ns=None)


def process(pipeline: Pipeline, batches: Iterable[Sequence[Tick]]) -> list[Alert]:
    return [a for b in batches for a in pipeline.process(batch_of(pipeline, b)).alerts]


def where(alert: Alert) -> Where:
    return alert.partition, alert.offset, alert.index


def by_series(alerts: Iterable[Alert]) -> dict[tuple[int, str], list[bytes]]:
    found: dict[tuple[int, str], list[bytes]] = {}
    for alert in alerts:
        event = encode_alert(alert, source="/test", detected_ns=0)
        found.setdefault((alert.partition, alert.series), []).append(event)
    return found


@dataclass(frozen=True)
class Truth:
    """What is muted, a tick at a time: after each tick of a partition its clock."""

    told: Sequence[Told]
    clocks: Mapping[Where, int | None]

    def muted(self, at: Where, series: str) -> bool:
        partition, offset, _ = at
        event_ns = self.clocks[at]
        wanted: tuple[Mute, ...] = ()
        for _, _, several in sorted(
            (one for one in self.told if one[0] == partition and one[1] <= offset),
            key=lambda one: one[1],
        ):
            wanted = several
        return event_ns is not None and any(
            Pattern(one.series).matches(series)
            and bool(Schedule.of(one).holds(np.array([event_ns]))[0])
            for one in wanted
        )


def truth(policy: Rules, ticks: Sequence[Tick], told: Sequence[Told]) -> Truth:
    pipeline, clocks = make_pipeline(policy, "levels"), dict[Where, int | None]()
    for tick in ticks:
        pipeline.process(batch_of(pipeline, [tick]))
        clocks[tick.partition, tick.offset, tick.index] = pipeline.event_ns(tick.partition)
    return Truth(told, clocks)


@given(policy=policies(), ticks=streams(), told=_told, at=cuts)
@settings(deadline=None, max_examples=50)
def test_mutes_change_nothing_but_what_is_said_of_them(
    policy: Rules, ticks: list[Tick], told: list[Told], at: list[int]
) -> None:
    """The alerts are those without mutes; each is flagged as a look at its own tick says; and
    whoever listens to one episode hears of every change of the flag by an update of its own."""
    pipeline = make_pipeline(policy, "levels")
    tell(pipeline, told)
    alerts = process(pipeline, cut(ticks, at))
    plain = process(make_pipeline(policy, "levels"), [ticks])
    kept = [replace(a, muted=False) for a in alerts if a.state is not State.UPDATED]
    assert by_series(kept) == by_series(plain)
    flags = truth(policy, ticks, told)
    last: dict[str, tuple[Alert, bool]] = {}
    for alert in alerts:
        assert alert.muted == flags.muted(where(alert), alert.series)
        if alert.state is State.UPDATED:
            assert alert.reason == (MUTED if alert.muted else UNMUTED)
            before, flag = last[alert.alert_id]
            assert (before.kind, before.severity) == (alert.kind, alert.severity)
            assert flag is not alert.muted
        elif alert.state is not State.OPENED:
            assert alert.muted == last[alert.alert_id][1], "nobody was told"
        last[alert.alert_id] = alert, alert.muted
        if alert.state is State.RESOLVED:
            del last[alert.alert_id]
    ends = {t.partition: (t.partition, t.offset, t.index) for t in ticks}
    for alert, flag in last.values():
        assert flag == flags.muted(ends[alert.partition], alert.series), "nobody was told"


@given(policy=policies(), ticks=streams(), told=_told, one=cuts, other=cuts)
@settings(deadline=None, max_examples=25)
def test_any_batches_give_the_same_flags(
    policy: Rules, ticks: list[Tick], told: list[Told], one: list[int], other: list[int]
) -> None:
    found = []
    for at in (one, other):
        pipeline = make_pipeline(policy, "levels")
        tell(pipeline, told)
        found.append(process(pipeline, cut(ticks, at)))
    assert by_series(found[0]) == by_series(found[1])


@given(
    policy=policies().filter(lambda p: p.max_series > 10),
    ticks=streams(),
    told=_told,
    at=st.integers(0, 120),
    gap=st.integers(0, 3),
)
@settings(deadline=None, max_examples=50)
def test_a_restart_anywhere_gives_the_same_flags(
    policy: Rules, ticks: list[Tick], told: list[Told], at: int, gap: int
) -> None:
    """gap: offsets after the last tick that hold no tick, and are committed with it."""
    ticks = [t for t in ticks if t.partition == 0]
    while 0 < at < len(ticks) and ticks[at - 1].offset == ticks[at].offset:
        at += 1  # a record is committed as a whole
    ends = {t.partition: t.offset + 1 for t in ticks[:at]}
    # Offsets behind a restart are not those of ticks, if there is a gap.
    told = [t for t in told if not ends.get(t[0], 0) < t[1] <= ends.get(t[0], 0) + gap]
    shift = dict.fromkeys(ends, gap)
    moved = [
        replace(t, offset=t.offset + shift.get(t.partition, 0)) if n >= at else t
        for n, t in enumerate(ticks)
    ]
    told = [
        (p, o + shift.get(p, 0) if o > ends.get(p, 0) else o, several) for p, o, several in told
    ]
    whole = make_pipeline(policy, "levels")
    tell(whole, told)
    expected = process(whole, [moved])
    first = make_pipeline(policy, "levels")
    tell(first, told)
    found = process(first, [moved[:at]])
    again = make_pipeline(policy, "levels")
    for partition in {t.partition for t in moved[:at]}:
        position = ends[partition] + gap
        first.stream.mutes.settle(partition, position)
        state = first.snapshot(first.stream.series.of_partition(partition))
        again.restore(state, np.full(len(state.series), position))
        event_ns = first.event_ns(partition)
        if event_ns is not None:
            again.set_event_ns(partition, event_ns)
        first.stream.mutes.prune(partition, before=position, event_ns=event_ns)
        again.stream.mutes.restore(
            partition,
            first.stream.mutes.encode(partition),
            "state/0",
            position=position,
            event_ns=event_ns,
        )
    tell(again, [one for one in told if one[0] not in ends])
    found += process(again, [moved[at:]])
    assert by_series(found) == by_series(expected)


def ticks_of(values: Sequence[float], series: str = "a") -> list[Tick]:
    return [
        Tick(series, START_NS + n * _SECOND_NS, (value, 1.0), n) for n, value in enumerate(values)
    ]


def test_an_open_alert_is_told_of_when_a_mute_begins_and_when_it_ends() -> None:
    pipeline = make_pipeline(make_policy(), "levels")
    at = START_NS + np.array([6, 9]) * _SECOND_NS
    tell(pipeline, [(0, 0, (mute("a", since_ns=int(at[0]), until_ns=int(at[1])),))])
    alerts = process(pipeline, [ticks_of([1.0] * 4 + [1e9] * 8 + [1.0] * 8)])
    told = [(a.state, a.muted, a.offset, a.reason) for a in alerts]
    assert told[0][:2] == (State.OPENED, False)
    assert (State.UPDATED, True, 6, MUTED) in told
    assert (State.UPDATED, False, 9, UNMUTED) in told
    assert told[-1][:2] == (State.RESOLVED, False)
    assert len({a.alert_id for a in alerts}) == 1
    assert len({a.id for a in alerts}) == len(alerts)


def test_what_resolves_under_a_mute_is_muted_and_so_is_a_silence() -> None:
    pipeline = make_pipeline(make_policy(silence_s=3.0), "levels")
    tell(pipeline, [(0, 0, (mute("a"),))])
    ticks = ticks_of([1.0] * 4 + [1e9] * 4 + [1.0] * 6)
    later = [
        replace(t, series="b", offset=t.offset + 20, time_ns=t.time_ns + 14 * _SECOND_NS)
        for t in ticks[:4] + ticks[8:]
    ]
    alerts = process(pipeline, [ticks + later])
    assert {a.muted for a in alerts if a.series == "a"} == {True}
    assert {(a.state, a.kind) for a in alerts if a.series == "a"} >= {
        (State.RESOLVED, "reconstruction_error"),
        (State.OPENED, SILENCE),
    }


def test_what_began_and_ended_is_told_with_its_place() -> None:
    pipeline = make_pipeline(make_policy(), "levels")
    tell(pipeline, [(0, 2, (mute("a"),)), (0, 5, ())])
    result = pipeline.process(batch_of(pipeline, ticks_of([1.0] * 8)))
    assert [(t.offset, t.began, t.partition) for t in result.turned] == [
        (2, True, 0),
        (5, False, 0),
    ]
    assert pipeline.stream.mutes.count() == 0


def test_what_no_tick_can_meet_is_not_kept() -> None:
    mutes = make_pipeline(make_policy(), "levels").stream.mutes
    over = mute("a", id="over", until_ns=START_NS)
    mutes.apply(0, {"m": mute("a"), "over": over}, at=5, read=3, event_ns=None)
    assert not mutes.apply(0, {"m": mute("a"), "over": over}, at=6, read=3, event_ns=None)
    assert mutes.prune(0, before=5, event_ns=START_NS)
    assert [one.mute.id for one in mutes.applied(0)] == ["m"]
    assert not mutes.apply(0, {"m": mute("a"), "over": over}, at=6, read=4, event_ns=START_NS)
    assert mutes.apply(0, {}, at=6, read=5, event_ns=START_NS)
    assert not mutes.prune(0, before=6, event_ns=START_NS), "a tick before 6 may have been muted"
    assert mutes.prune(0, before=7, event_ns=START_NS)
    assert mutes.applied(0) == ()
    assert mutes.read(0) == 5


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"no json",
        b"[]",
        b"{}",
        b'{"version":1}',
        b'{"version":1,"read":"x","applied":[]}',
        b'{"version":1,"read":0,"applied":[{"mute":{"id":"a","series":""},"since":0}]}',
        b'{"version":2,"read":0,"applied":[]}',
        b"[" * 5000,
    ],
)
def test_mutes_that_are_damaged_are_refused_with_what_to_do(value: bytes) -> None:
    mutes = make_pipeline(make_policy(), "levels").stream.mutes
    with pytest.raises(StateError, match="detector state reset"):
        mutes.restore(0, value, "state/0", position=0, event_ns=None)


def test_a_command_is_read_as_it_is_written() -> None:
    given_ = mute("a*", id="x1", until_ns=5, reason="valve", by="ann", made_ns=3)
    assert decode_mute(mute_key("x1"), encode_mute(given_)) == ("x1", given_)
    assert decode_mute(mute_key("x1"), None) == ("x1", None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        (None, b"{}"),
        (b"other:1", b"{}"),
        (b"mute:x", b"no json"),
        (b"mute:x", b"[" * 5000),
        (b"mute:x", b'{"id":"y","series":"a"}'),
        (b"mute:x", b'{"id":"x","series":""}'),
        (b"mute:x", b'{"id":"x","series":"a","since_ns":5,"until_ns":5}'),
        (b"mute:x", b'{"id":"x","series":"a","since_ns":99999999999999999999}'),
        (b"mute:\xff", None),
        (
            b"mute:x",
            b'{"id":"x","series":"a","windows":{"cron":"x","lasts_s":60,"time_zone":"UTC"}}',
        ),
    ],
)
def test_what_is_no_command_is_refused(key: bytes | None, value: bytes | None) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        decode_mute(key, value)


def test_a_mute_of_the_configuration_is_named_by_what_it_says() -> None:
    assert named(mute("a")).id == named(mute("a", id="other")).id
    assert named(mute("a")).id != named(mute("b")).id


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("a*", "abc", True),
        ("a*", "ABC", False),
        ("[!a]*", "b", True),
        ("*", "line\nbreak", True),
        ("*" * 60 + "x", "a" * 200, False),
        ("[", "[", True),
    ],
)
def test_patterns_are_those_of_shells(pattern: str, name: str, matches: bool) -> None:
    assert Pattern(pattern).matches(name) == matches


def test_only_stars_match_everything() -> None:
    found = {p: Pattern(p).matches_everything for p in ("*", "**", "?*", "a*", "?", "[a-z]*")}
    assert found == {"*": True, "**": True, "?*": True, "a*": False, "?": False, "[a-z]*": False}
