"""An event of the alert topic as the bridge needs it: what it says, without the windows."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

import msgspec

from detector.core.alerts import PREDICTION, RECONSTRUCTION
from detector.core.moments import parse_moment

RESOLVED = "resolved"


class Fault(msgspec.Struct, frozen=True):
    kind: str
    probability: float


class Facts(msgspec.Struct, frozen=True):
    """The part of `data` that is told on. What a later version adds is passed over. ..._ns:
    nanoseconds since the epoch."""

    alert_id: str
    kind: str
    series: str
    state: str
    severity: str
    threshold: float
    event_time: str
    opened_time: str
    detected_time: str
    score: float | None = None
    peak_score: float | None = None
    model_version: str = ""
    contributions: dict[str, float] = {}
    views: dict[str, float] = {}
    fault: Fault | None = None
    reason: str | None = None
    muted: bool = False

    @property
    def resolved(self) -> bool:
        return self.state == RESOLVED

    @property
    def event_ns(self) -> int:
        return parse_moment(self.event_time, "iso8601")

    @property
    def opened_ns(self) -> int:
        return parse_moment(self.opened_time, "iso8601")

    @property
    def detected_ns(self) -> int:
        return parse_moment(self.detected_time, "iso8601")


class Event(msgspec.Struct, frozen=True):
    """A CloudEvent. raw: as it was published."""

    id: str
    source: str
    type: str
    subject: str
    time: str
    data: Facts
    raw: bytes = b""


_DECODER = msgspec.json.Decoder(Event)


def read_event(value: bytes | None) -> Event:
    """Raises ValueError if it is no alert."""
    try:
        event = _DECODER.decode(value or b"")
        for moment in (event.data.event_ns, event.data.opened_ns, event.data.detected_ns):
            assert isinstance(moment, int)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError) as error:
        raise ValueError(f"no alert: {error}") from None
    return msgspec.structs.replace(event, raw=value)


def link_to(base: str | None, alert_id: str) -> str | None:
    """The page of an alert."""
    return None if base is None else f"{base.rstrip('/')}/#/alerts/{quote(alert_id, safe='')}"


#: Of one episode each: a model of another kind may end what one has opened.
KINDS_OF_WINDOWS = (RECONSTRUCTION, PREDICTION)
#: What the end of an alert of a kind means.
_ENDED = {
    "silence": "is heard again",
    "model_drift": "is back in the world its model was trained in",
    "new_normal": "has its new normal",
}
_AS_USUAL = "is as usual again"


def summary(facts: Facts) -> str:
    """A line for people, of an alert that is open."""
    # An event that only says that a mute has ended has no score of its own.
    score = _number(facts.peak_score if facts.score is None else facts.score)
    series = _short(facts.series)
    if facts.kind == "silence":
        return f"{series} is silent for {score} s (limit {_number(facts.threshold)} s)"
    if facts.kind == "model_drift":
        return f"{series} has left the world its model was trained in ({score} decades)"
    if facts.kind == "new_normal":
        return f"{series}: an incident lasts so long that it is learned from"
    return f"{series} is anomalous: score {score} above {_number(facts.threshold)}"


def news(facts: Facts) -> str:
    """A line for people, of what an event tells."""
    if facts.state == "resolved":
        return f"{_short(facts.series)} {_ENDED.get(facts.kind, _AS_USUAL)}"
    return summary(facts)


def _short(series: str) -> str:
    return series if len(series) <= 200 else series[:200] + "..."


def top(shares: dict[str, float], *, percent: bool = False) -> str:
    """The three largest: `spread 61%, return 30%`."""
    ranked = sorted(shares.items(), key=lambda item: (-item[1], item[0]))[:3]
    return ", ".join(f"{n} {v:.0%}" if percent else f"{n} {_number(v)}" for n, v in ranked)


def environment_of(event: Event, link: str | None) -> dict[str, str]:
    """What a command is told of an event; nothing that an environment cannot hold. link: base URL
    of the page."""
    facts = event.data
    told: dict[str, Any] = {
        "ALERT_ID": facts.alert_id,
        "ALERT_EVENT_ID": event.id,
        "ALERT_SOURCE": event.source,
        "ALERT_SERIES": facts.series,
        "ALERT_KIND": facts.kind,
        "ALERT_STATE": facts.state,
        "ALERT_SEVERITY": facts.severity,
        "ALERT_SCORE": facts.score,
        "ALERT_PEAK_SCORE": facts.peak_score,
        "ALERT_THRESHOLD": facts.threshold,
        "ALERT_TIME": facts.event_time,
        "ALERT_OPENED_TIME": facts.opened_time,
        "ALERT_CONTRIBUTIONS": top(facts.contributions, percent=True),
        "ALERT_FAULT": facts.fault.kind if facts.fault else "",
        "ALERT_MODEL_VERSION": facts.model_version,
        "ALERT_MUTED": "true" if facts.muted else "false",
        "ALERT_SUMMARY": news(facts),
        "ALERT_LINK": link_to(link, facts.alert_id),
    }
    return {
        name: "" if value is None else str(value).replace("\0", "\ufffd")[:10_000]
        for name, value in told.items()
    }


def _number(value: float | None) -> str:
    return "?" if value is None else f"{value:.4g}"
