"""What the alerts of a simulated stream were worth: found faults by kind and strength, false alarms
beside their budget. Counts; knows nothing of how the alerts came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from detector.config import Config
from detector.core.alerts import ANOMALIES, Alert, State
from detector.data.faults import FAULT_KINDS, Fault
from detector.data.simulate import Simulation
from detector.evaluate.events import OpenedAlert, score_events

#: A time in seconds since 1970 holds a quarter of a microsecond as a float, and so do alerts'.
_ROUNDING_NS = 1_000


@dataclass(frozen=True, slots=True)
class Found:
    """How many of the faults at least one alert opened on."""

    found: int
    injected: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """by_kind: kind -> strength -> Found; by_strength: strength -> Found, of all kinds.
    false_alarms: alerts opened outside every fault and its aftermath, of which
    false_alarms_in_news during a burst of news; None is what cannot be told."""

    ticks: int
    windows: int
    alerts_opened: int
    injected: int
    detected: int
    precision: float | None
    recall: float | None
    by_kind: dict[str, dict[str, Found]]
    by_strength: dict[str, Found]
    news: int
    false_alarms: int
    false_alarms_in_news: int
    false_alarms_per_100k_windows: float | None
    budget_per_100k_windows: float
    tick_to_alert_ms: dict[str, float | None]
    wall_s: float


def judge(
    live: Simulation,
    seen: Sequence[tuple[Alert, float]],
    config: Config,
    *,
    length: int,
    windows: int,
    wall_s: float,
) -> Verdict:
    """seen: the alerts with when a subscriber saw them, in seconds since 1970; length: of the
    window, in ticks."""
    # A fault stays in a window for length ticks, and the alert may look back of_last windows.
    after_ticks = length + config.alerts.of_last
    stretches = with_aftermath(live, after_ticks)
    opened = [(alert, seen_s) for alert, seen_s in seen if _counts(alert)]
    places = [OpenedAlert(alert.series, alert.time_ns) for alert, _ in opened]
    score = score_events(stretches, places, aftermath_ns=0)
    wrong = [p for p in places if not score_events(stretches, [p], aftermath_ns=0).detected]
    in_news = sum(any(n.start_ns <= p.time_ns <= n.end_ns for n in live.news) for p in wrong)
    found = list(zip(live.faults, score.found, strict=True))
    delays_ms = [seen_s * 1e3 - alert.received_ms for alert, seen_s in opened]
    return Verdict(
        ticks=len(live),
        windows=windows,
        alerts_opened=score.alerts,
        injected=score.injected,
        detected=score.detected,
        precision=score.precision,
        recall=score.recall,
        by_kind={
            kind: _by_strength([(f, hit) for f, hit in found if f.kind == kind])
            for kind in FAULT_KINDS
        },
        by_strength=_by_strength(found),
        news=len(live.news),
        false_alarms=score.false_alarms,
        false_alarms_in_news=in_news,
        false_alarms_per_100k_windows=score.false_alarms / windows * 1e5 if windows else None,
        budget_per_100k_windows=config.threshold.false_alarms_per_window * 1e5,
        tick_to_alert_ms={
            f"p{p}": round(float(np.percentile(delays_ms, p)), 2) if delays_ms else None
            for p in (50, 99)
        },
        wall_s=round(wall_s, 1),
    )


def with_aftermath(live: Simulation, ticks: int) -> list[Fault]:
    """The faults of the simulation, each until so many ticks of its series after its end."""
    times = {name: live.time_ns[live.series == i] for i, name in enumerate(live.names)}
    found = []
    for fault in live.faults:
        own = times[fault.series]
        last = int(np.searchsorted(own, fault.end_ns, side="right")) - 1 + ticks
        end_ns = int(own[min(last, len(own) - 1)]) + _ROUNDING_NS
        found.append(replace(fault, start_ns=fault.start_ns - _ROUNDING_NS, end_ns=end_ns))
    return found


def _by_strength(found: Sequence[tuple[Fault, bool]]) -> dict[str, Found]:
    strengths = sorted({fault.strength for fault, _ in found if fault.strength is not None})
    return {
        f"{strength:g}": Found(
            sum(hit for fault, hit in found if fault.strength == strength),
            sum(fault.strength == strength for fault, _ in found),
        )
        for strength in strengths
    }


def _counts(alert: Alert) -> bool:
    return alert.state is State.OPENED and alert.kind in ANOMALIES
