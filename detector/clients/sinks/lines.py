"""A line for people."""

from __future__ import annotations

from detector.core.alerts import MODEL_DRIFT, NEW_NORMAL, SILENCE, Alert, State
from detector.core.cloudevents import decode_alert
from detector.core.moments import rfc3339


def show(event: bytes) -> None:
    """Print it."""
    try:
        line = alert_line(decode_alert(event).alert)
    except ValueError as error:
        line = f"(a record of the alert topic is no alert: {error})"
    print("".join(c if c.isprintable() else repr(c)[1:-1] for c in line), flush=True)


def alert_line(alert: Alert) -> str:
    """One line for people: when, state, severity, series, score, what contributed most,
    and what kind of fault it looks like."""
    state, severity = alert.state.name.lower(), alert.severity.name.lower()
    begin = f"{rfc3339(alert.time_ns)[:23]}Z {state:9} {severity:8} {alert.series:12}"
    why = f"  {alert.reason}" if alert.reason else ""
    if alert.state is State.UPDATED:
        return f"{begin} {alert.kind} stays open, peak {alert.peak_score:.2f}{why}"
    if alert.muted:
        begin += " (muted)"
    if alert.kind == SILENCE:
        return f"{begin} silent {alert.score or 0.0:8.1f} s > {alert.threshold:g} s{why}"
    if alert.kind == MODEL_DRIFT:
        return (
            f"{begin} model drift: a usual window is one in {10 ** min(alert.score or 0.0, 9):,.0f}"
            f" by the model{why}"
        )
    if alert.kind == NEW_NORMAL:
        learned = "is learned from" if alert.state is State.OPENED else "has ended, or is normal"
        return f"{begin} an incident that lasts {learned}{why}"
    if alert.state is State.RESOLVED:
        return f"{begin} peak  {alert.peak_score:8.2f}{why}"
    shares = sorted(alert.contributions.items(), key=lambda item: -item[1])[:3]
    parts = " ".join(f"{name} {share:.0%}" for name, share in shares)
    fault = alert.fault
    like = f"  looks like {fault.kind} ({fault.probability:.0%})" if fault else ""
    return f"{begin} score {alert.score or 0.0:8.2f} > {alert.threshold:.2f}  {parts}{like}"
