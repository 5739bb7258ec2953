"""Alerts as CloudEvents 1.0 (structured mode, JSON), written and read; schemas/alert.schema.json
describes them.

`observed` is the window, `expected` what the model expected of its last ticks: as many rows as
the kind of network says something about, the last of both being the same tick.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from detector.core.alerts import Alert, LikelyFault, Severity, State
from detector.core.moments import parse_moment, rfc3339
from detector.core.ticks import Float32

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TYPE_PREFIX = "io.detector.alert."
#: In observed, and in expected: a broker limits its records (Kafka to 1 MB unless told).
_MOST_NUMBERS = 20_000


@dataclass(frozen=True, slots=True)
class AlertEvent:
    """An alert as it was published. source: the CloudEvents source; detected_ns: when it was
    found, nanoseconds since the epoch: the only part that differs when the same ticks are
    processed again."""

    alert: Alert
    source: str
    detected_ns: int


def encode_alert(alert: Alert, *, source: str, detected_ns: int) -> bytes:
    """The message value; see AlertEvent."""
    shown = max(2, _MOST_NUMBERS // max(1, alert.observed.shape[1]))
    state, received_ms = alert.state.name.lower(), alert.received_ms
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": alert.id,
        "source": source,
        "type": TYPE_PREFIX + state,
        "subject": alert.series,
        "time": rfc3339(alert.time_ns),
        "datacontenttype": "application/json",
        "data": {
            "alert_id": alert.alert_id,
            "kind": alert.kind,
            "series": alert.series,
            "state": state,
            "severity": alert.severity.name.lower(),
            "score": alert.score,
            "peak_score": alert.peak_score,
            "threshold": alert.threshold,
            "contributions": dict(alert.contributions),
            "features": list(alert.contributions),
            "observed": _rows(alert.observed[-shown:]),
            "expected": _rows(alert.expected[-shown:]),
            "event_time": rfc3339(alert.time_ns),
            "opened_time": rfc3339(alert.opened_ns),
            "received_time": None if received_ms < 0 else rfc3339(received_ms * 10**6),
            "detected_time": rfc3339(detected_ns),
            "input": {
                "topic": alert.topic,
                "partition": alert.partition,
                "offset": alert.offset,
                "index": alert.index,
            },
            "model_version": alert.model_version,
            "muted": alert.muted,
        },
    }
    if alert.reason is not None:
        event["data"]["reason"] = alert.reason
    if alert.views:
        event["data"]["views"] = dict(alert.views)
    if alert.fault is not None:
        event["data"]["fault"] = {
            "kind": alert.fault.kind,
            "probability": alert.fault.probability,
        }
    return msgspec.json.encode(event)


def decode_alert(value: bytes) -> AlertEvent:
    """The inverse, also of what earlier versions wrote. Raises ValueError if it is no alert."""
    try:
        event = msgspec.json.decode(value)
        return _event(event)
    except (KeyError, TypeError, AttributeError, IndexError, RecursionError) as error:
        raise ValueError(f"no alert: {error!r}") from None


def _event(event: dict[str, Any]) -> AlertEvent:
    data = event["data"]
    where, fault, received = data["input"], data.get("fault"), data["received_time"]
    features = len(data["features"])
    alert = Alert(
        id=str(event["id"]),
        alert_id=str(data["alert_id"]),
        kind=str(data["kind"]),
        state=State[data["state"].upper()],
        severity=Severity[data["severity"].upper()],
        series=str(data["series"]),
        score=None if data["score"] is None else float(data["score"]),
        peak_score=float(data["peak_score"]),
        threshold=float(data["threshold"]),
        contributions={str(name): float(c) for name, c in data["contributions"].items()},
        observed=_window(data["observed"], features),
        expected=_window(data["expected"], features),
        time_ns=parse_moment(data["event_time"], "iso8601"),
        opened_ns=parse_moment(data["opened_time"], "iso8601"),
        topic=str(where["topic"]),
        partition=int(where["partition"]),
        offset=int(where["offset"]),
        index=int(where["index"]),
        received_ms=-1 if received is None else _milliseconds(received),
        model_version=str(data["model_version"]),
        fault=None if fault is None else LikelyFault(fault["kind"], float(fault["probability"])),
        reason=data.get("reason"),
        views={str(name): float(e) for name, e in data.get("views", {}).items()},
        muted=bool(data.get("muted", False)),
    )
    return AlertEvent(alert, str(event["source"]), parse_moment(data["detected_time"], "iso8601"))


def _milliseconds(text: str) -> int:
    try:
        return parse_moment(text, "iso8601") // 10**6
    except ValueError:  # a record may be stamped with a time beyond 64 bits of nanoseconds
        return -1


def _rows(window: Float32) -> list[list[float]]:
    """(length, features) as lists, in the fewest digits that give the float32 back. NaN becomes
    null."""
    return [list(map(float, row)) for row in window.astype(np.str_).tolist()]


def _window(rows: Sequence[Sequence[float | None]], features: int) -> Float32:
    numbers = [[np.nan if x is None else x for x in row] for row in rows]
    window: Float32 = np.array(numbers, np.float32).reshape(len(rows), features)
    return window
