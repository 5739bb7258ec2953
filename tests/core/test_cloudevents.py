"""Alerts on the wire: valid against the schema that ships, whatever they hold."""

from __future__ import annotations

import json
import math
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from detector.core.alerts import (
    FORGOTTEN,
    MUTED,
    UNMUTED,
    Alert,
    LikelyFault,
    Severity,
    State,
)
from detector.core.cloudevents import CONTENT_TYPE, TYPE_PREFIX, decode_alert, encode_alert
from detector.core.episodes import AlertPolicy
from detector.core.moments import rfc3339
from detector.core.ticks import Float32
from tests.core.agreeing import make_pipeline, make_policy
from tests.core.reference import LOOKING_BACK, Tick, batch_of
from tests.core.streams import streams

NOW_NS = 1_700_000_000_123_456_789
_LIMIT = 2**63 - 1


@cache
def validator() -> Draft202012Validator:
    schema = json.loads((files("detector") / "schemas" / "alert.schema.json").read_text())
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def make_alert(**changes: Any) -> Alert:
    window = np.array([[1.07, 2.0], [1.0701, -3.5e-9]], np.float32)
    values: dict[str, Any] = {
        "id": "0" * 32,
        "alert_id": "f" * 32,
        "kind": "reconstruction_error",
        "state": State.ESCALATED,
        "severity": Severity.CRITICAL,
        "series": "EURUSD",
        "score": 12.5,
        "peak_score": 13.5,
        "threshold": 3.25,
        "contributions": {"return": 0.75, "spread": 0.25},
        "observed": window,
        "expected": window + 1,
        "time_ns": NOW_NS,
        "opened_ns": NOW_NS - 10**9,
        "topic": "ticks",
        "partition": 2,
        "offset": 77,
        "index": 1,
        "received_ms": NOW_NS // 10**6,
        "model_version": "abc",
    }
    return Alert(**(values | changes))


def encoded(alert: Alert) -> dict[str, Any]:
    event = json.loads(encode_alert(alert, source="/detector", detected_ns=NOW_NS))
    validator().validate(event)
    assert isinstance(event, dict)
    return event


def test_an_alert_says_everything_in_its_place() -> None:
    event = encoded(make_alert())
    assert event == {
        "specversion": "1.0",
        "id": "0" * 32,
        "source": "/detector",
        "type": "io.detector.alert.escalated",
        "subject": "EURUSD",
        "time": "2023-11-14T22:13:20.123456789Z",
        "datacontenttype": "application/json",
        "data": {
            "alert_id": "f" * 32,
            "kind": "reconstruction_error",
            "series": "EURUSD",
            "state": "escalated",
            "severity": "critical",
            "score": 12.5,
            "peak_score": 13.5,
            "threshold": 3.25,
            "contributions": {"return": 0.75, "spread": 0.25},
            "features": ["return", "spread"],
            "observed": [[1.07, 2.0], [1.0701, -3.5e-9]],
            "expected": [[2.0700002, 3.0], [2.0700998, 1.0]],
            "event_time": "2023-11-14T22:13:20.123456789Z",
            "opened_time": "2023-11-14T22:13:19.123456789Z",
            "received_time": "2023-11-14T22:13:20.123000000Z",
            "detected_time": "2023-11-14T22:13:20.123456789Z",
            "input": {"topic": "ticks", "partition": 2, "offset": 77, "index": 1},
            "model_version": "abc",
            "muted": False,
        },
    }
    assert CONTENT_TYPE.startswith("application/cloudevents+json")


def test_a_model_may_expect_the_last_tick_only() -> None:
    data = encoded(make_alert(expected=np.array([[1.5, 2.0]], np.float32)))["data"]
    assert (len(data["observed"]), data["expected"]) == (2, [[1.5, 2.0]])


def updated(reason: str) -> dict[str, Any]:
    """What an alert is that stays open while a mute begins or ends."""
    nothing = np.empty((0, 2), np.float32)
    changes: dict[str, Any] = {"state": State.UPDATED, "reason": reason, "contributions": {}}
    return changes | {"observed": nothing, "expected": nothing, "muted": reason == MUTED}


@pytest.mark.parametrize("reason", [MUTED, UNMUTED])
def test_a_mute_is_told_and_read_again(reason: str) -> None:
    alert = make_alert(score=None, **updated(reason))
    event = encoded(alert)
    assert event["data"]["muted"] is (reason == MUTED)
    again = decode_alert(json.dumps(event).encode()).alert
    assert (again.state, again.reason, again.muted) == (alert.state, reason, alert.muted)
    for wrong in ({"state": "opened"}, {"reason": "forgotten"}, {"muted": 1}):
        assert not validator().is_valid(event | {"data": event["data"] | wrong})


def test_an_alert_of_an_earlier_version_is_not_muted() -> None:
    event = encoded(make_alert())
    del event["data"]["muted"]
    validator().validate(event)
    assert decode_alert(json.dumps(event).encode()).alert.muted is False


@pytest.mark.parametrize("state", State)
@pytest.mark.parametrize("severity", Severity)
def test_every_state_and_severity_has_its_word(state: State, severity: Severity) -> None:
    if state is State.UPDATED:  # it says why, and has no window
        event = encoded(make_alert(severity=severity, **updated(MUTED)))
    else:
        event = encoded(make_alert(state=state, severity=severity))
    assert event["type"] == TYPE_PREFIX + event["data"]["state"]


@pytest.mark.parametrize(
    "path", ["id", "type", "time", "data", "data.score", "data.input.offset", "data.observed"]
)
def test_the_schema_refuses_an_alert_without(path: str) -> None:
    event: Any = encoded(make_alert())
    *parents, last = path.split(".")
    part = event
    for parent in parents:
        part = part[parent]
    del part[last]
    assert not validator().is_valid(event)


def test_the_schema_refuses_what_it_does_not_know() -> None:
    event = encoded(make_alert())
    assert not validator().is_valid(event | {"extra": 1})
    assert not validator().is_valid(event | {"data": event["data"] | {"extra": 1}})
    assert not validator().is_valid(event | {"data": event["data"] | {"score": None}})
    assert not validator().is_valid(event | {"data": event["data"] | {"reason": "forgotten"}})
    assert not validator().is_valid(event | {"data": event["data"] | {"kind": "other"}})


_FINITE = st.floats(0, 1e300)
_CELLS = st.floats(allow_nan=False, allow_infinity=False, width=32)


@given(
    series=st.text(),
    names=st.lists(st.text(), unique=True, min_size=2, max_size=2),
    score=_FINITE,
    threshold=st.floats(0, 1e300, exclude_min=True),
    cells=st.lists(_CELLS, min_size=4, max_size=4),
    time_ns=st.integers(-_LIMIT, _LIMIT),
    received_ms=st.integers(-_LIMIT // 10**6, _LIMIT // 10**6),
    offset=st.integers(0, _LIMIT),
)
@settings(deadline=None, max_examples=300)
def test_any_finite_alert_is_valid(
    series: str,
    names: list[str],
    score: float,
    threshold: float,
    cells: list[float],
    time_ns: int,
    received_ms: int,
    offset: int,
) -> None:
    window: Float32 = np.array(cells, np.float32).reshape(2, 2)
    event = encoded(
        make_alert(
            series=series,
            contributions=dict.fromkeys(names, 0.5),
            score=score,
            threshold=threshold,
            observed=window,
            expected=window,
            time_ns=time_ns,
            received_ms=received_ms,
            offset=offset,
        )
    )
    assert event["subject"] == event["data"]["series"] == series
    assert event["data"]["score"] == score
    assert event["data"]["features"] == names
    np.testing.assert_allclose(event["data"]["observed"], window, rtol=1e-6, atol=1e-44)
    assert_read_back(event)


def assert_read_back(event: dict[str, Any]) -> None:
    """What is read and written again is the same, to the last digit."""
    read = decode_alert(json.dumps(event).encode())
    again = encode_alert(read.alert, source=read.source, detected_ns=read.detected_ns)
    assert json.loads(again) == event


@pytest.mark.parametrize("received_ms", [0, 253402300800000, 1700000000000000, 2**63 - 1])
def test_a_record_stamped_with_a_strange_time_still_alerts(received_ms: int) -> None:
    """A producer may stamp a record as it likes: microseconds, say."""
    assert encoded(make_alert(received_ms=received_ms))["data"]["received_time"]


@pytest.mark.parametrize("received_ms", [-1, -30_610_224_000_001, -(2**63)])
def test_a_record_that_was_not_stamped_says_so(received_ms: int) -> None:
    assert encoded(make_alert(received_ms=received_ms))["data"]["received_time"] is None


def test_the_end_of_a_forgotten_series_has_a_reason_and_no_window() -> None:
    nothing = np.empty((0, 2), np.float32)
    gone: dict[str, Any] = {"state": State.RESOLVED, "reason": FORGOTTEN, "contributions": {}}
    gone |= {"observed": nothing, "expected": nothing}
    event = encoded(make_alert(score=None, **gone))
    assert (event["data"]["reason"], event["data"]["score"]) == ("forgotten", None)
    encoded(make_alert(kind="silence", score=60.0, **gone))
    assert not validator().is_valid(
        event | {"data": event["data"] | {"state": "opened", "score": 1.0}}
    )


def test_what_a_network_expects_beyond_all_numbers_is_null() -> None:
    window = np.array([[1.0, np.nan], [2.0, 3.0]], np.float32)
    assert encoded(make_alert(expected=window))["data"]["expected"] == [[1.0, None], [2.0, 3.0]]


@given(ticks=streams())
@settings(deadline=None, max_examples=100)
def test_every_alert_of_the_pipeline_is_valid(ticks: list[Tick]) -> None:
    policy = make_policy(threshold=0.5, alerts=AlertPolicy(1, 1, 1, critical_ratio=2.0))
    pipeline = make_pipeline(policy, "looking back")
    for alert in pipeline.process(batch_of(pipeline, ticks)).alerts:
        event = encoded(alert)
        assert_read_back(event)
        assert event["data"]["features"] == list(LOOKING_BACK.expressions)
        assert sum(event["data"]["contributions"].values()) == pytest.approx(1)
        assert math.isfinite(event["data"]["score"])


@given(st.integers(-_LIMIT, _LIMIT))
@settings(deadline=None, max_examples=300)
def test_a_time_is_written_to_the_nanosecond(ns: int) -> None:
    text = rfc3339(ns)
    assert len(text) == len("2014-05-02T12:30:00.123456789Z")
    moment = datetime.fromisoformat(text[:19]).replace(tzinfo=UTC)
    seconds = int((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds())
    assert seconds * 10**9 + int(text[20:29]) == ns


def test_the_likely_fault_is_told_where_it_is_known() -> None:
    assert "fault" not in encoded(make_alert())["data"]
    event = encoded(make_alert(fault=LikelyFault("spike", 0.25)))
    assert event["data"]["fault"] == {"kind": "spike", "probability": 0.25}


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(data=st.data())
@settings(deadline=None, max_examples=300)
def test_any_bytes_are_an_alert_or_refused(data: st.DataObject) -> None:
    event = encoded(make_alert(fault=LikelyFault("spike", 0.5)))
    for _ in range(data.draw(st.integers(0, 3))):
        part = event["data"] if event["data"] and data.draw(st.booleans()) else event
        part[data.draw(st.sampled_from(sorted(part)))] = data.draw(_JSON)
        if not isinstance(event["data"], dict):
            break
    value = data.draw(st.just(json.dumps(event).encode()) | st.binary(max_size=20))
    try:
        decode_alert(value)
    except ValueError:
        return
