"""An alert in the words of Alertmanager's API (v2): labels identify, annotations explain.

https://github.com/prometheus/alertmanager/blob/main/api/v2/openapi.yaml, postableAlert
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

from detector.bridge.alerts_shown import Shown
from detector.bridge.events import Facts, link_to, summary, top
from detector.core.moments import rfc3339

_NAMES = {
    "reconstruction_error": "DetectorAnomaly",
    "prediction_error": "DetectorAnomaly",
}
_LONGEST_LABEL = 1000
_LONGEST_ANNOTATION = 4000


def to_alertmanager(
    one: Shown,
    *,
    over: bool,
    now_ns: int,
    resolve_timeout_s: float,
    labels: Mapping[str, str],
    link: str | None,
) -> dict[str, Any]:
    """over: as resolved; link: base URL of the page; labels: further ones."""
    facts = one.facts
    starts_ns = min(one.starts_ns, now_ns)
    ends_ns = now_ns + int(resolve_timeout_s * 1e9)
    if over:
        ends_ns = max(starts_ns, min(one.ends_ns or now_ns, now_ns))
    alert: dict[str, Any] = {
        "labels": labels_of(facts, labels),
        "annotations": annotations_of(facts, link),
        "startsAt": rfc3339(starts_ns),
        "endsAt": rfc3339(ends_ns),
    }
    page = link_to(link, facts.alert_id)
    if page is not None:
        alert["generatorURL"] = page
    return alert


def labels_of(facts: Facts, more: Mapping[str, str]) -> dict[str, str]:
    """Nothing here changes while an alert lives; a label that is empty or longer than a name is
    made one that is not."""
    return {
        **more,
        "alertname": _NAMES.get(facts.kind) or _camel(facts.kind),
        "series": _bounded(facts.series) or '""',
        "kind": _bounded(facts.kind) or '""',
        "severity": _bounded(facts.severity) or '""',
    }


def annotations_of(facts: Facts, link: str | None) -> dict[str, str]:
    said: dict[str, Any] = {
        "summary": summary(facts),
        "alert_id": facts.alert_id,
        "score": facts.score,
        "peak_score": facts.peak_score,
        "threshold": facts.threshold,
        "contributions": top(facts.contributions, percent=True),
        "views": top(facts.views),
        "fault": f"{facts.fault.kind} ({facts.fault.probability:.0%})" if facts.fault else None,
        "model_version": facts.model_version,
        "event_time": facts.event_time,
        "link": link_to(link, facts.alert_id),
    }
    return {
        name: _plain(value)[:_LONGEST_ANNOTATION]
        for name, value in said.items()
        if value is not None and value != ""
    }


def _plain(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _bounded(text: str) -> str:
    """The same text gives the same label; a long one keeps its beginning and gets a hash."""
    if len(text) <= _LONGEST_LABEL:
        return text
    short = hashlib.blake2b(text.encode(errors="replace"), digest_size=8).hexdigest()
    return f"{text[: _LONGEST_LABEL - 20]}...{short}"


def _camel(kind: str) -> str:
    return "Detector" + "".join(part.capitalize() for part in _bounded(kind).split("_"))
