"""The detector's rules written a second time: slow, obvious, one tick after the other.

The pipeline works on columns and batches; this works on one tick and a dictionary. Where the
two disagree, one of them is wrong.
"""

from __future__ import annotations

import hashlib
import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from detector.core.episodes import AlertPolicy
from detector.core.forgetting import LINES
from detector.core.pipeline import Pipeline
from detector.core.ticks import Float32, Outcome, TickBatch
from tests.core.making import Rules

FLOAT32_LIMIT = float(np.finfo(np.float32).max) / 4


@dataclass(frozen=True, slots=True)
class Tick:
    """One tick, as a person would write it down."""

    series: str
    time_ns: int
    values: tuple[float, ...]
    offset: int
    partition: int = 0
    index: int = 0
    received_ms: int = 0


@dataclass(frozen=True, slots=True)
class FeatureModel:
    """A feature set as expressions and, independently, as Python.

    usable: whether a tick with these values can be used at all
    row: the features of a tick, given the tick before it in its run (None: it is the first)
    """

    expressions: Mapping[str, str]
    usable: Callable[[Sequence[float]], bool]
    row: Callable[[Tick, Tick | None], list[float] | None]


def _finite(values: Sequence[float]) -> bool:
    return all(math.isfinite(v) for v in values)


def _levels(tick: Tick, _: Tick | None) -> list[float]:
    price, size = tick.values
    return [price, math.copysign(math.log1p(abs(size)), size)]


def _looking_back(tick: Tick, before: Tick | None) -> list[float] | None:
    if before is None:
        return None
    (bid, ask), (old_bid, old_ask) = tick.values, before.values
    return [
        math.log((bid + ask) / 2) - math.log((old_bid + old_ask) / 2),
        ask - bid,
        (tick.time_ns - before.time_ns) * 1e-9,
        abs(bid - old_bid),
    ]


#: Features of a tick alone, and features that need the tick before.
LEVELS = FeatureModel({"price": "value(price)", "size": "signed_log(size)"}, _finite, _levels)
LOOKING_BACK = FeatureModel(
    {
        "return": "log_return(mid(bid, ask))",
        "spread": "spread(bid, ask)",
        "pause": "interarrival()",
        "step": "abs(diff(bid))",
    },
    lambda v: _finite(v) and 0 < v[0] + v[1] < math.inf,
    _looking_back,
)


@dataclass(frozen=True, slots=True)
class Event:
    """What a subscriber must be able to rely on in an alert."""

    id: str
    alert_id: str
    kind: str
    state: str
    severity: str
    series: str
    partition: int
    offset: int
    index: int
    time_ns: int
    opened_ns: int
    received_ms: int
    score: float | None
    peak: float
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one tick, and the events it brought about: of its own series or, where it
    moves the time of the partition on, of silent ones."""

    outcome: Outcome
    score: float | None = None
    window: Float32 | None = None
    events: tuple[Event, ...] = ()
    reason: str | None = None


@dataclass(slots=True)
class LifecycleReference:
    """m of n to open, k in a row to resolve, escalated once; one series, one score at a time."""

    policy: AlertPolicy
    threshold: float
    severity: str | None = None
    peak: float = 0.0
    _below: int = 0
    _above_ns: int = 0
    _exceeded: deque[bool] = field(default_factory=deque)

    def feed(self, score: float, time_ns: int = 0) -> tuple[str, str, float] | None:
        """(state, severity, peak) if this window changes something."""
        policy, threshold = self.policy, self.threshold
        exceeds = score > threshold
        critical = score > threshold * policy.critical_ratio
        self._exceeded.append(exceeds)
        while len(self._exceeded) > policy.of_last:
            self._exceeded.popleft()
        self._below = self._below + 1 if score <= threshold * policy.resolve_ratio else 0
        if not self._below:
            self._above_ns = time_ns
        if self.severity is None:
            if exceeds and sum(self._exceeded) >= policy.open_after:
                self.severity = "CRITICAL" if critical else "WARNING"
                self.peak = score
                return "OPENED", self.severity, self.peak
            return None
        self.peak = max(self.peak, score)
        quiet = time_ns - self._above_ns >= policy.quiet_ns
        if self._below >= policy.resolve_after and quiet:
            was, peak = self.severity, self.peak
            self.severity, self.peak = None, 0.0
            return "RESOLVED", was, peak
        if self.severity == "WARNING" and critical:
            self.severity = "CRITICAL"
            return "ESCALATED", self.severity, self.peak
        return None


@dataclass(slots=True)
class _Series:
    lifecycle: LifecycleReference
    newest: Tick | None = None
    run: list[list[float]] = field(default_factory=list)
    alert_id: str = ""
    opened_ns: int = 0
    heard_ns: int | None = None  # the event time of its partition when a tick was last accepted
    silence_id: str | None = None  # of the open alert
    silent_since_ns: int = 0


class DetectorReference:
    """Feed it ticks one by one. errors: one window (1, length, features) -> (1, features)."""

    def __init__(
        self,
        policy: Rules,
        features: FeatureModel,
        errors: Callable[[Float32], Float32],
    ) -> None:
        self.policy, self.features, self.errors = policy, features, errors
        self.series: dict[tuple[int, str], _Series] = {}
        self.event_ns: dict[int, int] = {}

    def feed(self, tick: Tick) -> Verdict:
        policy = self.policy
        if not self.features.usable(tick.values):
            return Verdict(Outcome.REJECTED, reason="not_finite")
        if policy.max_future_s is not None and tick.received_ms >= 0:
            ahead_ms = tick.time_ns // 10**6 - tick.received_ms
            if ahead_ms > math.floor(policy.max_future_s * 1000):
                return Verdict(Outcome.REJECTED, reason="far_future")
        before_ns = self.event_ns.get(tick.partition)
        verdict = self._usable(tick)
        return replace(verdict, events=(*verdict.events, *self._forget(tick, before_ns)))

    def _usable(self, tick: Tick) -> Verdict:
        policy, name = self.policy, (tick.partition, tick.series)
        if name not in self.series:
            if len(self.series) == policy.max_series:
                silences = self._silences(None, tick)
                return Verdict(Outcome.REJECTED, events=silences, reason="series_limit")
            lifecycle = LifecycleReference(policy.alerts, policy.threshold)
            self.series[name] = _Series(lifecycle)
        state = self.series[name]
        before = state.newest
        if before is not None:
            if tick.time_ns < before.time_ns:
                return Verdict(Outcome.LATE)
            if (tick.time_ns, tick.values) == (before.time_ns, before.values):
                return Verdict(Outcome.DUPLICATE)
            gap_ns = tick.time_ns - before.time_ns
            if policy.max_gap_s is not None and gap_ns > policy.max_gap_s * 1e9:
                before = None
        if before is None:
            state.run = []
        state.newest = tick
        silences = self._silences(state, tick)
        row = self.features.row(tick, before)
        if row is not None:
            state.run.append([max(-FLOAT32_LIMIT, min(FLOAT32_LIMIT, x)) for x in row])
        beyond = len(state.run) - policy.length
        if beyond < 0:
            return Verdict(Outcome.WARMING, events=silences)
        if beyond % policy.stride:
            return Verdict(Outcome.STRIDED, events=silences)
        window = np.array(state.run[-policy.length :], np.float32)[None]
        score = float(np.mean(self.errors(window)[0].astype(np.float64)))
        events = (*self._of_score(state, tick, score), *silences)
        return Verdict(Outcome.SCORED, score, window[0], events)

    def _of_score(self, state: _Series, tick: Tick, score: float) -> tuple[Event, ...]:
        change = state.lifecycle.feed(score, tick.time_ns)
        if change is None:
            return ()
        identity = self._identity(tick, tick.series, "reconstruction_error")
        if change[0] == "OPENED":
            state.alert_id, state.opened_ns = identity, tick.time_ns
        return (
            Event(
                id=identity,
                alert_id=state.alert_id,
                kind="reconstruction_error",
                state=change[0],
                severity=change[1],
                series=tick.series,
                partition=tick.partition,
                offset=tick.offset,
                index=tick.index,
                time_ns=tick.time_ns,
                opened_ns=state.opened_ns,
                received_ms=tick.received_ms,
                score=score,
                peak=change[2],
            ),
        )

    def _forget(self, tick: Tick, before_ns: int | None) -> tuple[Event, ...]:
        """Where the clock passes a line, the series that were not heard for long leave."""
        if self.policy.forget_after_s is None or before_ns is None:
            return ()
        limit_ns = round(self.policy.forget_after_s * 1e9)
        step_ns, now_ns = max(1, limit_ns // LINES), self.event_ns[tick.partition]
        if now_ns // step_ns == before_ns // step_ns:
            return ()
        events = []
        for (partition, name), state in sorted(self.series.items()):
            if partition != tick.partition or state.heard_ns is None:
                continue
            if now_ns - state.heard_ns <= limit_ns:
                continue
            del self.series[partition, name]
            if state.lifecycle.severity is not None:
                events.append(self._last_word(state, tick, name, "reconstruction_error"))
            if state.silence_id is not None:
                events.append(self._last_word(state, tick, name, "silence"))
        return tuple(events)

    def _last_word(self, state: _Series, tick: Tick, name: str, kind: str) -> Event:
        identity = self._identity(tick, name, f"{kind}/forgotten")
        if kind == "silence":
            silence = self._of_silence(state, tick, name, self.event_ns[tick.partition], "RESOLVED")
            return replace(silence, id=identity, reason="forgotten")
        assert state.lifecycle.severity is not None
        return Event(
            id=identity,
            alert_id=state.alert_id,
            kind=kind,
            state="RESOLVED",
            severity=state.lifecycle.severity,
            series=name,
            partition=tick.partition,
            offset=tick.offset,
            index=tick.index,
            time_ns=tick.time_ns,
            opened_ns=state.opened_ns,
            received_ms=tick.received_ms,
            score=None,
            peak=state.lifecycle.peak,
            reason="forgotten",
        )

    def _silences(self, state: _Series | None, tick: Tick) -> tuple[Event, ...]:
        """An accepted tick is heard; it may show that others have not been for too long. state:
        None where there was no room for its series."""
        partition = tick.partition
        now_ns = max(tick.time_ns, self.event_ns.get(partition, tick.time_ns))
        self.event_ns[partition] = now_ns
        found: dict[str, Event] = {}
        if self.policy.silence_s is not None:
            if state is not None and state.silence_id is not None:
                found[tick.series] = self._of_silence(state, tick, tick.series, now_ns, "RESOLVED")
                state.silence_id = None
            for (where, name), other in self.series.items():
                if other is state or where != partition or other.heard_ns is None:
                    continue
                if other.silence_id is not None:
                    continue
                if now_ns - other.heard_ns > round(self.policy.silence_s * 1e9):
                    other.silence_id = self._identity(tick, name, "silence")
                    other.silent_since_ns = tick.time_ns
                    found[name] = self._of_silence(other, tick, name, now_ns, "OPENED")
        if state is not None:
            state.heard_ns = now_ns
        return tuple(found[name] for name in sorted(found))

    def _of_silence(self, state: _Series, tick: Tick, name: str, now_ns: int, change: str) -> Event:
        assert state.heard_ns is not None
        assert state.silence_id is not None
        silent_s = (now_ns - state.heard_ns) / 1e9
        return Event(
            id=self._identity(tick, name, "silence"),
            alert_id=state.silence_id,
            kind="silence",
            state=change,
            severity="WARNING",
            series=name,
            partition=tick.partition,
            offset=tick.offset,
            index=tick.index,
            time_ns=tick.time_ns,
            opened_ns=state.silent_since_ns,
            received_ms=tick.received_ms,
            score=silent_s,
            peak=silent_s,
        )

    def _identity(self, tick: Tick, series: str, kind: str) -> str:
        parts = [self.policy.topic, tick.partition, tick.offset, tick.index, series, kind]
        return hashlib.blake2b("\0".join(map(str, parts)).encode(), digest_size=16).hexdigest()


def batch_of(pipeline: Pipeline, ticks: Sequence[Tick]) -> TickBatch:
    """Ticks as the columns a pipeline takes."""
    fields = len(pipeline.primary.features.fields)
    return TickBatch(
        series=[t.series for t in ticks],
        time_ns=np.array([t.time_ns for t in ticks], np.int64),
        values=np.array([t.values for t in ticks], np.float64).reshape(len(ticks), fields),
        partition=np.array([t.partition for t in ticks], np.int32),
        offset=np.array([t.offset for t in ticks], np.int64),
        index=np.array([t.index for t in ticks], np.int32),
        received_ms=np.array([t.received_ms for t in ticks], np.int64),
    )
