"""Alerts as CloudEvents 1.0 (structured mode, JSON); schemas/alert.schema.json describes them.

`observed` is the window, `expected` what the model expected of its last ticks: as many rows as
the kind of network says something about, the last of both being the same tick.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/formats/json-format.md
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from detector.core.alerts import Alert
from detector.core.ticks import Float32

CONTENT_TYPE = "application/cloudevents+json; charset=utf-8"
TYPE_PREFIX = "io.detector.alert."
#: In observed, and in expected: a broker limits its records (Kafka to 1 MB unless told).
_MOST_NUMBERS = 20_000
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_NS, _LAST_NS = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1


def encode_alert(alert: Alert, *, source: str, detected_ns: int) -> bytes:
    """The message value. detected_ns: when it was found, nanoseconds since the epoch; the only
    part that differs when the same ticks are processed again."""
    shown = max(2, _MOST_NUMBERS // alert.observed.shape[1])
    event: dict[str, Any] = {
        "specversion": "1.0",
        "id": alert.id,
        "source": source,
        "type": TYPE_PREFIX + alert.state.name.lower(),
        "subject": alert.series,
        "time": rfc3339(alert.time_ns),
        "datacontenttype": "application/json",
        "data": {
            "alert_id": alert.alert_id,
            "kind": alert.kind,
            "series": alert.series,
            "state": alert.state.name.lower(),
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
            "received_time": rfc3339(alert.received_ms * 10**6),
            "detected_time": rfc3339(detected_ns),
            "input": {
                "topic": alert.topic,
                "partition": alert.partition,
                "offset": alert.offset,
                "index": alert.index,
            },
            "model_version": alert.model_version,
        },
    }
    if alert.fault is not None:
        event["data"]["fault"] = {
            "kind": alert.fault.kind,
            "probability": alert.fault.probability,
        }
    return msgspec.json.encode(event)


def rfc3339(ns: int) -> str:
    """UTC with the nanoseconds kept: 2014-05-02T12:30:00.123456789Z. A moment outside the years
    1 ... 9999 (a record can carry any timestamp) becomes the nearest inside."""
    seconds, rest = divmod(min(max(ns, _FIRST_NS), _LAST_NS), 10**9)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment.replace(tzinfo=None).isoformat()}.{rest:09d}Z"


def _rows(window: Float32) -> list[list[float]]:
    """(length, features) as lists, in the fewest digits that give the float32 back."""
    return [[float(str(x)) for x in row] for row in window]
