"""The library as its users call it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from functools import cache
from importlib.resources import files
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import jsonschema
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import detector
from detector import Detector, Outcome, Result
from detector.core.moments import TimestampUnit
from tests.artifacts import make_artifact
from tests.processes import clean_environment

LENGTH = 4
START_S = 1_700_000_000
CONFIG: dict[str, Any] = {
    "threshold": {"method": "quantile", "false_alarms_per_window": 0.3},
    "alerts": {"open_after": 1, "of_last": 1, "resolve_after": 2},
}


@cache
def model(seed: int = 0) -> Path:
    path = Path(mkdtemp()) / "model"
    make_artifact(path, {"bid": "bid", "step": "diff(ask)"}, length=LENGTH, seed=seed)
    return path


def new(**config: Any) -> Detector:
    return detector.load(model(), config=CONFIG | config)


def ticks(n: int, seed: int = 0) -> tuple[list[str], np.ndarray[Any, Any], np.ndarray[Any, Any]]:
    random = np.random.default_rng(seed)
    names = [f"s{i}" for i in random.integers(0, 3, n).tolist()]
    values = random.normal(0, 1, (n, 2)) * random.choice([1.0, 30.0], (n, 1), p=[0.9, 0.1])
    return names, START_S + np.arange(n) / 4, values


def equal(one: Result, other: Result) -> None:
    np.testing.assert_array_equal(one.score, other.score)
    np.testing.assert_array_equal(one.outcome, other.outcome)
    assert [(a.id, a.state, a.score) for a in one.alerts] == [
        (a.id, a.state, a.score) for a in other.alerts
    ]
    assert one.rejected == other.rejected


def test_what_a_detector_is() -> None:
    found = new()
    assert (found.fields, found.length, found.series) == (("bid", "ask"), LENGTH, [])
    assert found.threshold == pytest.approx(0.7, abs=0.01)
    assert found.model_version == "random-0"
    result = found.update("a", [START_S], [[1.0, 2.0]])
    assert (found.series, len(result), result.counts()["warming"]) == (["a"], 1, 1)
    assert result.threshold == found.threshold


def _plain(s: list[str], t: Any, v: Any) -> Any:
    return s, t, v


@pytest.mark.parametrize(
    "given_as",
    [
        lambda s, t, v: (np.array(s), t, v.tolist()),
        lambda s, t, v: (pd.Series(s), pd.Series(t), pd.DataFrame(v, columns=["bid", "ask"])),
        lambda s, t, v: (s, (t * 1e9).astype("datetime64[ns]"), {"ask": v[:, 1], "bid": v[:, 0]}),
        lambda s, t, v: (s, [datetime.fromtimestamp(x, UTC) for x in t], v),
        lambda s, t, v: (s, [pd.Timestamp(x, unit="s") for x in t], v),
        lambda s, t, v: (s, pd.to_datetime(t, unit="s", utc=True).tz_convert("Asia/Tokyo"), v),
        lambda s, t, v: (s, [datetime.fromtimestamp(x, UTC).isoformat() for x in t], v),
        lambda s, t, v: (pa.array(s), pa.array(t), pa.table({"bid": v[:, 0], "ask": v[:, 1]})),
        lambda s, t, v: ({"series": s, "timestamp": t, "bid": v[:, 0], "ask": v[:, 1]},),
        lambda s, t, v: (
            pd.DataFrame({"series": s, "timestamp": t, "bid": v[:, 0], "ask": v[:, 1], "n": "x"}),
        ),
        lambda s, t, v: (
            pa.table({"series": s, "timestamp": t, "bid": v[:, 0], "ask": v[:, 1]}),
        ),
    ],
    ids=[
        "arrays", "pandas", "datetime64, mapping", "datetimes", "Timestamps", "DatetimeIndex",
        "texts", "arrow", "table: mapping", "table: pandas", "table: arrow",
    ],
)  # fmt: skip
def test_ticks_may_be_given_as_people_have_them(given_as: Callable[..., Any]) -> None:
    names, time_s, values = ticks(200)
    equal(new().update(*given_as(names, time_s, values)), new().update(names, time_s, values))


@pytest.mark.parametrize(("unit", "factor"), [("s", 1), ("ms", 1e3), ("us", 1e6), ("ns", 1e9)])
def test_times_in_another_unit(unit: TimestampUnit, factor: float) -> None:
    names, time_s, values = ticks(60)
    whole = np.rint(time_s * 4).astype(np.int64) * (int(factor) // 4) if factor > 1 else time_s
    equal(new().update(names, whole, values, unit=unit), new().update(names, time_s, values))
    configured = new(input={"timestamp_unit": unit})
    equal(configured.update(names, whole, values), new().update(names, time_s, values))


@pytest.mark.parametrize(
    "give",
    [
        lambda d, s, t, v: d.update(s, t, v),
        lambda d, s, t, v: d.update(s, float(t), v.tolist()),
        lambda d, s, t, v: d.update(s, t, {"bid": v[0], "ask": v[1], "venue": "x"}),
        lambda d, s, t, v: d.update(s, pd.Timestamp(t, unit="s"), [v]),
        lambda d, s, t, v: d.update(s, datetime.fromtimestamp(t, timezone(timedelta(hours=2))), v),
        lambda d, s, t, v: d.update(s, np.datetime64(int(t * 1e9), "ns"), v),
        lambda d, s, t, v: d.update([s], [t], [v]),
    ],
)
def test_one_tick_at_a_time_is_the_same(give: Callable[..., Result]) -> None:
    names, time_s, values = ticks(60)
    whole, one = new().update(names, time_s, values), new()
    parts = [give(one, s, t, v) for s, t, v in zip(names, time_s, values, strict=True)]
    np.testing.assert_array_equal(np.concatenate([p.score for p in parts]), whole.score)
    assert [a.id for p in parts for a in p.alerts] == [a.id for a in whole.alerts]


def test_a_million_ticks_are_processed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    names, time_s, values = ticks(1000)
    values[[3, 700]] = np.nan
    whole = new().update(names, time_s, values)
    monkeypatch.setattr("detector.data.given.CHUNK_ROWS", 64)
    equal(new().update(names, time_s, values), whole)
    assert whole.rejected == {3: "not_finite", 700: "not_finite"}


def test_a_value_that_is_no_number_rejects_its_tick_alone() -> None:
    found = new()
    result = found.update("a", [1, 2, 3, 4], [[1, 1], ["high", 1], [None, 2], [1, 1]])
    warming, rejected = Outcome.WARMING, Outcome.REJECTED
    assert result.outcome.tolist() == [warming, rejected, rejected, warming]
    assert result.rejected == {1: "not_finite", 2: "not_finite"}


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a", [1, 2], [[1.0, 1.0]]), r"values: must be \(2, 2\).*\(bid, ask\); are \(1, 2\)"),
        (("a", [1, 2], [1.0, 1.0]), r"values: must be \(2, 2\)"),
        ((["a"], [1, 2], [[1, 1], [1, 1]]), "series: 1 names for 2 times"),
        (("a", ["noon"], [[1, 1]]), "time: 'noon' at 0 is no time in s"),
        (("a", [np.nan], [[1, 1]]), "time: nan at 0 is no time"),
        (("a", [1], {"bid": [1]}), "values: has no 'ask'; it has bid"),
        (("a", [1, 2], {"bid": [1], "ask": [1]}), "values: columns of"),
        (({"timestamp": [1], "bid": [1]},), "has no column 'ask'"),
        ((7,), "a table is a mapping of columns"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_refused_and_nothing_is_processed(
    arguments: tuple[Any, ...], says: str
) -> None:
    found = new()
    found.update("a", [0], [[1, 1]])
    before = found.save()
    with pytest.raises(detector.DataError, match=says):
        found.update(*arguments)
    assert found.save() == before


def test_nothing_given_is_nothing_said() -> None:
    result = new().update([], [], np.empty((0, 2)))
    assert (len(result), result.alerts, sum(result.counts().values())) == (0, [], 0)


# -- state


@given(data=st.data(), n=st.integers(0, 80), seed=st.integers(0, 99))
@settings(deadline=None, max_examples=60)
def test_it_goes_on_where_it_was_saved(data: st.DataObject, n: int, seed: int) -> None:
    names, time_s, values = ticks(n, seed)
    cuts = sorted(data.draw(st.lists(st.integers(0, n), max_size=4)))
    whole, parts, found = new().update(names, time_s, values), [], new()
    for begin, end in zip([0, *cuts], [*cuts, n], strict=True):
        rows = slice(begin, end)
        parts.append(found.update(names[rows], time_s[rows], values[rows]))
        found = detector.resume(model(), found.save(), config=CONFIG)
    np.testing.assert_array_equal(
        np.concatenate([np.empty(0), *(p.score for p in parts)]), whole.score
    )
    assert [(a.id, a.alert_id, a.opened_ns) for p in parts for a in p.alerts] == [
        (a.id, a.alert_id, a.opened_ns) for a in whole.alerts
    ]


def test_a_series_moves_alone_and_takes_the_place_of_what_was_there() -> None:
    names, time_s, values = ticks(120)
    one, other = new(), new()
    one.update(names[:60], time_s[:60], values[:60])
    other.update("s1", time_s[:2], values[:2])
    other.update("mine", time_s[:2], values[:2])
    assert other.restore(one.save(["s1", "nobody"])) == detector.Restored(1, 0, 0)
    assert other.series == ["mine", "s1"]
    rows = [i for i in range(60, 120) if names[i] == "s1"]
    moved = other.update("s1", time_s[rows], values[rows])
    stayed = one.update("s1", time_s[rows], values[rows])
    np.testing.assert_array_equal(moved.score, stayed.score)
    assert [a.alert_id for a in moved.alerts] == [a.alert_id for a in stayed.alerts]


def test_a_forgotten_series_begins_anew() -> None:
    names, time_s, values = ticks(90)
    found = new()
    found.update(names[:60], time_s[:60], values[:60])
    found.forget(["s1", "nobody"])
    assert found.series == ["s0", "s2"]
    rows = [i for i in range(60, 90) if names[i] == "s1"]
    again = found.update("s1", time_s[rows], values[rows], position=60)
    equal(again, new().update("s1", time_s[rows], values[rows], position=60))


def test_another_model_goes_on_with_the_open_alerts_and_warms_up() -> None:
    always = {"threshold": {"method": "fixed", "value": 1e-9}}
    never = {"threshold": {"method": "fixed", "value": 1e9}}
    found = new(**always)
    (opened,) = found.update("a", np.arange(10), np.ones((10, 2))).alerts
    later = detector.load(model(1), config=CONFIG | never)
    assert later.restore(found.save()) == detector.Restored(0, 1, 0)
    result = later.update("a", np.arange(10, 40), np.ones((30, 2)))
    assert result.counts()["warming"] == LENGTH  # one more, as a feature looks back
    (resolved,) = result.alerts
    assert (resolved.alert_id, resolved.state) == (opened.alert_id, detector.State.RESOLVED)


def test_no_more_series_than_there_is_room_for() -> None:
    names, time_s, values = ticks(60)
    found = new()
    found.update(names, time_s, values)
    small = new(limits={"max_series": 2})
    assert small.restore(found.save()) == detector.Restored(2, 0, 1)
    result = small.update("new", [START_S + 99], [[1, 1]])
    assert result.rejected == {0: "series_limit"}


@pytest.mark.parametrize("damage", [b"", b"x", b"\x80", b"\xc1", b"\x81\xa7version\x02"])
def test_a_damaged_state_is_refused(damage: bytes) -> None:
    with pytest.raises(detector.StateError, match="the saved state"):
        detector.resume(model(), damage)


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_any_changed_byte_is_a_state_or_refused(data: st.DataObject) -> None:
    found = new()
    found.update("a", [1, 2], [[1, 1], [2, 2]])
    state = bytearray(found.save())
    at = data.draw(st.integers(0, len(state) - 1))
    state[at] ^= 1 << data.draw(st.integers(0, 7))
    try:
        new().restore(bytes(state))
    except detector.StateError as error:
        assert "saved state" in str(error)  # noqa: PT017


def test_positions_name_alerts_for_ever() -> None:
    names, time_s, values = ticks(100)
    whole = new().update(names, time_s, values)
    again = new()
    again.update(names[:50], time_s[:50], values[:50])
    state = again.save()
    twice = [detector.resume(model(), state, config=CONFIG) for _ in range(2)]
    ids = [
        [a.id for a in d.update(names[50:], time_s[50:], values[50:], position=50).alerts]
        for d in twice
    ]
    assert ids[0] == ids[1]
    assert set(ids[0]) <= {a.id for a in whole.alerts}
    elsewhere = new().update(names, time_s, values, position=7).alerts
    assert {a.id for a in elsewhere}.isdisjoint(a.id for a in whole.alerts)


# -- configuration, events, import


def test_a_configuration_may_be_a_file_a_mapping_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("threshold: {method: fixed, value: 3.5}\n")
    for config in (path, str(path), {"threshold": {"method": "fixed", "value": 3.5}}):
        assert detector.load(model(), config=config).threshold == 3.5
    assert detector.load(str(model())).length == LENGTH
    with pytest.raises(detector.ConfigError, match="treshold: unknown option"):
        detector.load(model(), config={"treshold": {}})
    with pytest.raises(detector.ArtifactError, match=r"of 4 ticks, window\.length_ticks is 9"):
        detector.load(model(), config={"window": {"length_ticks": 9}})
    with pytest.raises(detector.ArtifactError, match="no model directory there"):
        detector.load(tmp_path / "nothing")


def test_the_environment_is_not_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_WINDOW__LENGTH_TICKS", "9")
    monkeypatch.setenv("DETECTOR_NONSENSE__X", "9")
    assert new().length == LENGTH


def test_an_alert_is_encoded_as_the_daemon_publishes_it() -> None:
    found = new(alerts={"source": "/mine"})
    names, time_s, values = ticks(100)
    alert = found.update(names, time_s, values).alerts[0]
    event = json.loads(found.encode(alert))
    jsonschema.validate(
        event, json.loads((files("detector") / "schemas" / "alert.schema.json").read_text())
    )
    assert (event["source"], event["id"], event["data"]["received_time"]) == (
        "/mine", alert.id, None,
    )  # fmt: skip


def test_importing_and_using_it_brings_no_framework_and_touches_no_host() -> None:
    """Nor the host's Prometheus settings, its GPUs, its log or its signals."""
    program = f"""
import logging, os, signal, sys
import prometheus_client
before = dict(os.environ), prometheus_client.metrics._use_created, signal.getsignal(signal.SIGTERM)
import detector
assert not [m for m in sys.modules if m.startswith("numpy")]
d = detector.load({str(model())!r})
d.update("a", [1, 2], [[1, 2], [3, 4]])
detector.train  # imported when it is called
heavy = {{"tensorflow", "keras", "kafka", "sqlite3", "matplotlib", "pyarrow", "pandas"}}
assert not heavy & {{m.split(".")[0] for m in sys.modules}}
after = dict(os.environ), prometheus_client.metrics._use_created, signal.getsignal(signal.SIGTERM)
assert before == after
assert not logging.getLogger().handlers
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_what_is_exported_is_there() -> None:
    assert set(dir(detector)) == set(detector.__all__)
    assert all(getattr(detector, name) is not None for name in detector.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'laod'"):
        _ = detector.laod  # type: ignore[attr-defined]
