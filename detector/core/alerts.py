"""An alert: one change of state of one series, with its explanation, and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum

from detector.core.ticks import Float32

#: Kinds of alerts: what a window was strange by, or that there was none.
RECONSTRUCTION = "reconstruction_error"
PREDICTION = "prediction_error"
SILENCE = "silence"
#: What a series has been like for long: it left the world its model was trained in; an incident
#: has lasted so long that it is learned from.
MODEL_DRIFT = "model_drift"
NEW_NORMAL = "new_normal"
#: Those that say a window was anomalous.
ANOMALIES = frozenset({RECONSTRUCTION, PREDICTION})
#: Why an alert resolved, where no window or tick of its series said so.
FORGOTTEN = "forgotten"
#: Why one that stays open is told of again.
MUTED, UNMUTED = "muted", "unmuted"


class Severity(IntEnum):
    """CRITICAL: alerts.critical_decades above the threshold."""

    WARNING = 1
    CRITICAL = 2


class State(IntEnum):
    """What an alert says of its episode: it begins, turns critical, ends; goes on, muted or not
    muted any more."""

    OPENED = 0
    ESCALATED = 1
    RESOLVED = 2
    UPDATED = 3


@dataclass(frozen=True, slots=True)
class LikelyFault:
    """The kind of fault a window looks most like, and its probability: low where the window looks
    normal or like several."""

    kind: str
    probability: float


@dataclass(frozen=True, slots=True)
class Alert:
    """One change of state of one series, with its explanation. Shapes: observed (length, features),
    expected (k, features), what the model expected of the last k ticks of observed, both in the
    features' own units; contribution sums to 1. Without a window they are empty.

    id names this event, alert_id the whole episode (the id of its opening). score: None where no
    window brought it about. reason: FORGOTTEN, MUTED, UNMUTED, else None. fault: where the model
    has a classifier, of windows above the threshold. received_ms: -1: unknown. views: the evidence
    of each by itself, empty where the model has none. muted: a mute is in force for the series: not
    to be shown.
    """

    id: str
    alert_id: str
    kind: str
    state: State
    severity: Severity
    series: str
    score: float | None
    peak_score: float
    threshold: float
    contributions: Mapping[str, float]
    observed: Float32
    expected: Float32
    time_ns: int
    opened_ns: int
    topic: str
    partition: int
    offset: int
    index: int
    received_ms: int
    model_version: str
    fault: LikelyFault | None = None
    reason: str | None = None
    views: Mapping[str, float] = field(default_factory=dict)
    muted: bool = False


def event_id(topic: str, partition: int, offset: int, index: int, series: str, kind: str) -> bytes:
    """16 bytes that depend on the input alone: the same tick gives the same id for ever."""
    text = f"{topic}\0{partition}\0{offset}\0{index}\0{series}\0{kind}"
    return hashlib.blake2b(text.encode(), digest_size=16).digest()
