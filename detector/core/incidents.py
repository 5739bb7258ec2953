"""Incidents: from the opening of an alert to its end, as the alert topic tells, and the ticks that
lie in them.

A window that was strange began before the alert did, so an incident reaches back by one window.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.alerts import ANOMALIES, State
from detector.core.cloudevents import AlertEvent
from detector.core.ticks import Int32, Int64

#: Instead of the index of an incident.
NONE = -1


@dataclass(frozen=True, slots=True)
class Incident:
    """An episode of a series. opened_ns, resolved_ns: event time, both of them in it; resolved_ns
    None: it lasts; length_ticks: of the window that opened it."""

    series: str
    opened_ns: int
    resolved_ns: int | None
    length_ticks: int


def incidents_of(
    events: Iterable[AlertEvent], *, topic: str, length_ticks: int = 1
) -> list[Incident]:
    """The episodes of the ticks of a topic, in order of their opening. Any event of an episode
    tells when it was opened. A series has one open alert: one that never ended has ended when the
    next was opened. Only strange windows make one. length_ticks: of a window, where no
    event shows one; it is no shorter."""
    found: dict[tuple[str, str], Incident] = {}  # by source and episode
    for event in events:
        alert = event.alert
        if alert.kind not in ANOMALIES or alert.topic != topic:
            continue
        known = found.get((event.source, alert.alert_id))
        resolved_ns = alert.time_ns if alert.state is State.RESOLVED else None
        if resolved_ns is None and known is not None:
            resolved_ns = known.resolved_ns
        length = max(length_ticks, len(alert.observed), known.length_ticks if known else 1)
        found[event.source, alert.alert_id] = Incident(
            alert.series, alert.opened_ns, resolved_ns, length
        )
    ordered = sorted(found.items(), key=lambda item: (item[1].opened_ns, item[0]))
    following: dict[tuple[str, str], int] = {}  # the next opening of a source in a series
    ended: list[Incident] = []
    for (source, _), one in reversed(ordered):
        resolved_ns = one.resolved_ns
        if resolved_ns is None:
            resolved_ns = following.get((source, one.series))
        following[source, one.series] = one.opened_ns
        ended.append(Incident(one.series, one.opened_ns, resolved_ns, one.length_ticks))
    return ended[::-1]


def incident_of_ticks(
    incidents: Sequence[Incident], names: Sequence[str], number: Int32, time_ns: Int64
) -> Int64:
    """(n,) the index of the incident that each tick lies in, -1: in none. number: (n,) the position
    of its series in names; time_ns: (n,) its event time. Ticks of a series in order of arrival."""
    found = np.full(len(number), NONE, np.int64)
    order = np.argsort(number, kind="stable")
    borders = np.searchsorted(number[order], np.arange(len(names) + 1))
    position = {name: i for i, name in enumerate(names)}
    for index, one in enumerate(incidents):
        at = position.get(one.series)
        if at is None:
            continue
        rows = order[borders[at] : borders[at + 1]]
        clock = np.maximum.accumulate(time_ns[rows])  # a late tick does not turn it back
        opened = int(np.searchsorted(clock, one.opened_ns, side="left"))
        end = len(rows)
        if one.resolved_ns is not None:
            end = int(np.searchsorted(clock, one.resolved_ns, side="right"))
        if end > opened:
            found[rows[max(0, opened - one.length_ticks) : end]] = index
    return found
