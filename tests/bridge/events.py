"""Events of the alert topic as the daemon writes them."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import msgspec

from detector.core.alerts import Severity, State
from detector.core.cloudevents import encode_alert
from detector.core.records import Message
from tests.core.test_cloudevents import make_alert

START_NS = (int(time.time()) - 600) * 10**9


def identity(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def event(
    series: str,
    state: State,
    *,
    episode: int = 0,
    severity: Severity = Severity.WARNING,
    at_s: float = 0.0,
    muted: bool | None = None,
    **changes: Any,
) -> bytes:
    """at_s: after START_NS, by the times of the ticks; muted: None: the field is absent."""
    alert_id = identity(f"{series} {episode}")
    name = f"{series} {episode} {state.name} {at_s} {muted}"
    alert = make_alert(
        id=alert_id if state is State.OPENED and muted is None else identity(name),
        alert_id=alert_id,
        series=series,
        state=state,
        severity=severity,
        time_ns=START_NS + int(at_s * 1e9),
        opened_ns=START_NS,
        **changes,
    )
    value = encode_alert(alert, source="/detector", detected_ns=START_NS + int(at_s * 1e9))
    if muted is None:
        return value
    tree = msgspec.json.decode(value)
    tree["data"]["muted"] = muted
    return msgspec.json.encode(tree)


def opened(series: str, **more: Any) -> bytes:
    return event(series, State.OPENED, **more)


def escalated(series: str, **more: Any) -> bytes:
    return event(series, State.ESCALATED, **({"severity": Severity.CRITICAL, "at_s": 1.0} | more))


def resolved(series: str, **more: Any) -> bytes:
    return event(series, State.RESOLVED, **({"at_s": 2.0} | more))


def message(value: bytes) -> Message:
    return Message(msgspec.json.decode(value)["subject"].encode(), value)
