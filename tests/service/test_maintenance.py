"""Mutes in the daemon: from the configuration and from commands, through any crash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.core.commands import encode_mute, mute_key
from detector.core.mutes import Mute
from detector.core.records import Message, Record
from detector.core.state import MUTES_KEY, VERSION_WITH_EXTRAS, decode_watermark
from tests.core.reference import Tick
from tests.core.streams import START_NS, streams
from tests.processes import total
from tests.service.driving import Stage, messages_of
from tests.service.scripted import Lasting, Trouble
from tests.service.test_crashes import assert_golden

_SETTINGS = settings(
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
)
_WHERE = st.sampled_from(["poll", "before", "after"])
_DEATHS = st.lists(st.builds(Trouble, _WHERE, st.integers(1, 12)), max_size=4)
_FAILURES = st.lists(
    st.builds(Trouble, st.sampled_from(["before", "after"]), st.integers(1, 12), st.just(False))
    | st.builds(Trouble, st.sampled_from(["release", "lose"]), st.integers(1, 20), st.just(False)),
    max_size=3,
)
_SIZES = st.lists(st.sampled_from([1, 2, 3, 7, 50]), min_size=1, max_size=4)
_PAUSES_S = st.lists(st.sampled_from([0.0, 0.01, 0.3, 2.0]), min_size=1, max_size=4).filter(any)
_INTERVALS_S = st.sampled_from([0.0, 0.5, 2.0, 30.0])
_LASTING = st.lists(
    st.builds(Lasting, st.sampled_from([0, 0, 1, 2, 5, 30]), st.booleans()), min_size=1, max_size=4
)
_S = 10**9


class ScriptedCommands:
    """Records that are in the log from a certain round on, counted over all processes. ready:
    rounds of each process before it has read to the end."""

    def __init__(self, script: Sequence[tuple[int, Record]], *, ready: int = 1) -> None:
        self._script, self._ready = sorted(script, key=lambda one: one[1].offset), ready
        self._rounds = self._of_process = self._given = 0

    def open(self) -> None:
        self._of_process = self._given = 0

    def news(self) -> tuple[Sequence[Record], int]:
        self._rounds += 1
        self._of_process += 1
        if self._of_process < self._ready:
            return (), 0
        there = 0
        while there < len(self._script) and self._script[there][0] <= self._rounds:
            there += 1
        new = [record for _, record in self._script[self._given : there]]
        self._given = there
        return new, there

    @property
    def caught_up(self) -> bool:
        return self._of_process >= self._ready

    def close(self) -> None: ...


def record(offset: int, key: bytes | None, value: bytes | None, *, at_ms: int = 0) -> Record:
    return Record("commands", 0, offset, at_ms, key, value, ())


def given_(offset: int, mute: Mute) -> Record:
    return record(offset, mute_key(mute.id), encode_mute(mute))


def taken(offset: int, identity: str) -> Record:
    return record(offset, mute_key(identity), None)


_CONFIGURED = st.lists(
    st.builds(
        lambda series, since, lasts: Mute(
            id=f"{series}/{since}/{lasts}",
            series=series,
            since_ns=None if since is None else START_NS + since * _S,
            until_ns=None if lasts is None else START_NS + ((since or 0) + lasts) * _S,
        ),
        st.sampled_from(["*", "a-*", "[ab]-0", "nobody"]),
        st.none() | st.integers(-5, 90),
        st.none() | st.integers(1, 60),
    ),
    max_size=3,
    unique_by=lambda mute: mute.id,
).map(tuple)


@given(
    ticks=streams(),
    mutes=_CONFIGURED,
    deaths=_DEATHS,
    failures=_FAILURES,
    sizes=_SIZES,
    pauses_s=_PAUSES_S,
    lasting=_LASTING,
    interval_s=_INTERVALS_S,
    exactly_once=st.booleans(),
)
@settings(_SETTINGS, max_examples=40)
def test_any_crashes_and_any_batches_give_the_mutes_of_an_uninterrupted_run(
    ticks: list[Tick],
    mutes: tuple[Mute, ...],
    deaths: list[Trouble],
    failures: list[Trouble],
    sizes: list[int],
    pauses_s: list[float],
    lasting: list[Lasting],
    interval_s: float,
    exactly_once: bool,
) -> None:
    with TemporaryDirectory() as directory:
        stage = Stage(
            Path(directory), interval_s=interval_s, exactly_once=exactly_once, mutes=mutes
        )
        stage.publish(messages_of(ticks))
        for death in deaths:
            stage.run(death, *failures, sizes=sizes, pauses_s=pauses_s, lasting=lasting)
        stage.run(sizes=sizes, pauses_s=pauses_s, lasting=lasting)
        assert_golden(stage)


@given(
    ticks=streams(),
    begins=st.integers(0, 30),
    ends=st.integers(0, 40),
    deaths=_DEATHS,
    failures=_FAILURES,
    sizes=_SIZES,
    pauses_s=_PAUSES_S,
    lasting=_LASTING,
    interval_s=_INTERVALS_S,
    ready=st.sampled_from([1, 1, 3]),
)
@settings(_SETTINGS, max_examples=40)
def test_a_command_counts_from_one_tick_on_whatever_happens(
    ticks: list[Tick],
    begins: int,
    ends: int,
    deaths: list[Trouble],
    failures: list[Trouble],
    sizes: list[int],
    pauses_s: list[float],
    lasting: list[Lasting],
    interval_s: float,
    ready: int,
) -> None:
    """When it is heard of depends on when the process looks; from there on everything follows."""
    with TemporaryDirectory() as directory:
        script = [
            (begins, given_(0, Mute(id="m", series="*"))),
            (begins + ends, taken(1, "m")),
        ]
        stage = Stage(
            Path(directory),
            interval_s=interval_s,
            commands=ScriptedCommands(script, ready=ready),
        )
        stage.publish(messages_of(ticks))
        for death in deaths:
            stage.run(death, *failures, sizes=sizes, pauses_s=pauses_s, lasting=lasting)
        stage.run(sizes=sizes, pauses_s=pauses_s, lasting=lasting)
        seen = [json.loads(text)["data"] for text in stage.published()[0]]
        golden = [json.loads(text)["data"] for text in stage.golden().alerts]
        kept = [data | {"muted": False} for data in seen if data["state"] != "updated"]
        assert kept == golden
        assert_told(seen)


def assert_told(seen: Sequence[dict[str, Any]]) -> None:
    """One mute, of everything, began once and ended once: so do the flags; and whoever follows an
    episode was told."""
    flags = [data["muted"] for data in seen]
    turns = [n for n in range(1, len(flags)) if flags[n] != flags[n - 1]]
    assert len(turns) <= 2, flags
    assert not flags or not (flags[0] and len(turns) == 2)
    last: dict[str, bool] = {}
    for data in seen:
        before = last.get(data["alert_id"])
        if data["state"] == "updated":
            assert before is not data["muted"]
        elif data["state"] != "opened":
            assert before is data["muted"], "nobody was told"
        last[data["alert_id"]] = data["muted"]


def steady(values: Sequence[float], *, first: int = 0) -> list[Tick]:
    return [
        Tick("a", START_NS + n * _S, (value, value + 1.0), n)
        for n, value in enumerate(values, start=first)
    ]


#: An alert opens in the first, stays open in the second, and resolves in the third.
_BEFORE = steady([1.0] * 6 + [500.0, 3.0, 900.0, 2.0, 700.0])
_AMIDST = steady([5.0, 800.0, 1.0, 600.0, 9.0], first=11)
_AFTER = steady([1.0] * 8, first=16)


def test_a_mute_outlives_a_worker_and_the_log_of_commands_is_caught_up(tmp_path: Path) -> None:
    """A later worker, whose look at the commands is older, waits instead of undoing them."""
    long = ScriptedCommands([(0, given_(0, Mute(id="m", series="*")))])
    stage = Stage(tmp_path, commands=long)
    stage.publish(messages_of(_BEFORE))
    stage.run()
    assert decode_watermark(stage.tables()[b"watermark"], "").version == VERSION_WITH_EXTRAS
    stage.commands = ScriptedCommands([])
    stage.publish(messages_of([*_AMIDST, *_AFTER]))
    stage.run()
    seen = [json.loads(text)["data"] for text in stage.published()[0]]
    assert [data["state"] for data in seen] == ["opened", "resolved"]
    assert all(data["muted"] for data in seen)
    record_ = msgspec.json.decode(stage.tables()[MUTES_KEY])
    assert [one["mute"]["id"] for one in record_["applied"]] == ["m"]


@pytest.mark.parametrize(("begins", "interval_s"), [(16, 0.0), (17, 0.0), (16, 30.0)])
def test_an_alert_that_is_open_is_told_of_once_wherever_the_process_dies(
    tmp_path: Path, begins: int, interval_s: float
) -> None:
    """A record a round, every other none that is a tick; the mute is heard of while the alert is
    open, and the process dies at each of the polls about then."""
    ticks = messages_of(_BEFORE)
    for message in messages_of([*_AMIDST, *_AFTER]):
        ticks += [message, Message(b"key", b"no tick")]
    for death in range(begins, begins + 6):
        script = [(begins, given_(0, Mute(id="m", series="*")))]
        stage = Stage(
            tmp_path / f"{death}",
            interval_s=interval_s,
            commit_interval_s=0.0,
            commands=ScriptedCommands(script),
        )
        stage.directory.mkdir()
        stage.publish(ticks)
        stage.run(Trouble("poll", death), sizes=[1])
        stage.run(sizes=[1])
        seen = [json.loads(text)["data"] for text in stage.published()[0]]
        told = [(data["state"], data["muted"]) for data in seen]
        assert told == [("opened", False), ("updated", True), ("resolved", True)], death


def test_where_there_are_no_mutes_nothing_is_kept_of_them(tmp_path: Path) -> None:
    stage = Stage(tmp_path, commands=ScriptedCommands([]))
    stage.publish(messages_of(_BEFORE))
    stage.run()
    assert MUTES_KEY not in stage.tables()


def test_a_log_of_commands_that_was_deleted_is_adopted_after_a_while(tmp_path: Path) -> None:
    stage = Stage(tmp_path, commands=ScriptedCommands([(0, given_(0, Mute(id="m", series="*")))]))
    stage.publish(messages_of(_BEFORE))
    stage.run()
    stage.commands = ScriptedCommands([])
    stage.publish(messages_of(_AMIDST))
    stage.run(sizes=[1], pauses_s=[20.0])
    seen = [json.loads(text)["data"] for text in stage.published()[0]]
    assert [seen[0]["muted"], seen[-1]["muted"]] == [True, False]
    assert_told(seen)


def test_records_that_are_no_commands_are_counted_and_left_out(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    script = [
        (0, record(0, None, b"x")),
        (0, record(1, b"other:1", b"{}")),
        (0, record(2, mute_key("m"), b"no json")),
        (0, given_(3, Mute(id="n", series="*"))),
        (0, record(4, mute_key("n"), b"\xff")),
        (0, taken(5, "nobody")),
    ]
    stage = Stage(tmp_path, commands=ScriptedCommands(script))
    stage.publish(messages_of(_BEFORE))
    with caplog.at_level("WARNING"):
        found = stage.run()
    assert total(found, "detector_commands_refused_total") == 4
    assert sum("cannot be used" in text for text in caplog.messages) == 4
    seen = [json.loads(text)["data"]["muted"] for text in stage.published()[0]]
    assert seen
    assert all(seen)
    assert total(found, "detector_muted_alerts_total") == len(seen)
    assert total(found, "detector_alerts_total") == len(seen)


def test_what_begins_and_ends_is_logged_once_it_is_committed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    mute = Mute(
        id="m",
        series="a-*",
        since_ns=START_NS + 12 * _S,
        until_ns=START_NS + 15 * _S,
        reason="valve",
        by="ann",
    )
    stage = Stage(tmp_path, mutes=(mute,))
    stage.publish(messages_of([*_BEFORE, *_AMIDST, *_AFTER]))
    with caplog.at_level("INFO"):
        stage.run(Trouble("before", 2, fatal=False))
    told = [one for one in caplog.records if one.getMessage().startswith("mute ")]
    assert [one.getMessage() for one in told] == ["mute began", "mute ended"]
    fields = vars(told[0])["fields"]
    assert (fields["series"], fields["reason"], fields["by"]) == ("a-*", "valve", "ann")
    seen = [json.loads(text)["data"] for text in stage.published()[0]]
    updates = [(data["reason"], data["input"]["offset"]) for data in seen if "reason" in data]
    assert [reason for reason, _ in updates] == ["muted", "unmuted"]


@pytest.mark.parametrize(
    ("mute", "says"),
    [
        (Mute(id="m", series="*", until_ns=START_NS - 1), "over already"),
        (Mute(id="m", series="*", since_ns=START_NS + 10**15), "far ahead"),
    ],
)
def test_times_far_from_those_of_the_ticks_are_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, mute: Mute, says: str
) -> None:
    stage = Stage(tmp_path, commands=ScriptedCommands([(4, given_(0, mute))]))
    stage.publish(messages_of(_BEFORE))
    with caplog.at_level("INFO"):
        stage.run(sizes=[1])
    assert sum(says in text for text in caplog.messages) == 1


def test_a_clock_that_is_far_off_is_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    mute = Mute(id="m", series="*", made_ns=START_NS)
    late = record(0, mute_key("m"), encode_mute(mute), at_ms=START_NS // 10**6 + 3_600_000)
    stage = Stage(tmp_path, commands=ScriptedCommands([(0, late)]))
    stage.publish(messages_of(_BEFORE))
    with caplog.at_level("WARNING"):
        stage.run()
    assert sum("clock that is far off" in text for text in caplog.messages) == 1


class NeverRead(ScriptedCommands):
    """A topic that nobody may read."""

    caught_up = False


def test_commands_that_cannot_be_read_hold_up_nothing_for_long(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    stage = Stage(tmp_path, commands=NeverRead([]))
    stage.publish(messages_of(_BEFORE))
    with caplog.at_level("WARNING"):
        stage.run(pauses_s=[4.0])
    assert stage.published()[0]
    assert sum("has not been read yet" in text for text in caplog.messages) == 1


def test_mutes_of_the_configuration_hold_although_commands_cannot_be_read(tmp_path: Path) -> None:
    flags = {}
    for name, commands in (("read", ScriptedCommands([])), ("never", NeverRead([]))):
        configured = (Mute(id="config-1", series="*"),)
        stage = Stage(tmp_path / name, commands=commands, mutes=configured)
        stage.publish(messages_of(_BEFORE))
        stage.run(pauses_s=[4.0])
        flags[name] = [json.loads(a)["data"]["muted"] for a in stage.published()[0]]
    assert flags["never"] == flags["read"]
    assert flags["never"]
    assert all(flags["never"])
