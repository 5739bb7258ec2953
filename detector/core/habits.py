"""What a series has been like for long, as alerts of their own: it left the world that its model
was trained in, or an incident has lasted so long that it is learned from. Looked at where a block
of its windows ends, with the life cycle that alerts on windows have."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import numpy as np

from detector.core.alerts import MODEL_DRIFT, NEW_NORMAL
from detector.core.episodes import AlertPolicy, Change, Episodes, Lifecycle
from detector.core.scores.score import Habits
from detector.core.slots import SlotColumns
from detector.core.survival import MOST_EVIDENCE
from detector.core.ticks import Float64, Int64

#: Blocks in a row above it that open a drift; it resolves after as many at half of it.
_DRIFTING = 3
_DRIFT = AlertPolicy(
    open_after=_DRIFTING,
    of_last=_DRIFTING,
    resolve_after=_DRIFTING,
    resolve_ratio=0.5,
    critical_ratio=math.inf,
)
#: Open while an incident is learned from whose alert is open.
_LASTING = AlertPolicy(open_after=1, of_last=1, resolve_after=1, critical_ratio=math.inf)
KINDS = (MODEL_DRIFT, NEW_NORMAL)


@dataclass(frozen=True, slots=True)
class Finding:
    """Changes of one kind of alert. threshold: what its scores are compared with."""

    kind: str
    threshold: float
    changes: list[Change]


class OpenAlerts:
    """What is open of every series, and outlives the model that opened it."""

    def __init__(self) -> None:
        self.windows = Episodes()
        self.habits: Mapping[str, Episodes] = MappingProxyType({k: Episodes() for k in KINDS})

    def states(self) -> tuple[SlotColumns, ...]:
        return self.windows.state, *(one.state for one in self.habits.values())


class HabitWatch:
    """Of one track. drift: the evidence of a usual window above which a series has drifted; None:
    that is not looked for."""

    def __init__(self, drift: float | None) -> None:
        self.thresholds: Mapping[str, float] = {
            MODEL_DRIFT: MOST_EVIDENCE if drift is None else drift,  # nothing is above that
            NEW_NORMAL: 0.5,
        }
        self._lifecycles = {MODEL_DRIFT: Lifecycle(_DRIFT), NEW_NORMAL: Lifecycle(_LASTING)}

    @property
    def states(self) -> Mapping[str, SlotColumns]:
        return {kind: one.state for kind, one in self._lifecycles.items()}

    def take_back(self, slot: Int64, time_ns: Int64, opened: OpenAlerts) -> list[Finding]:
        """Of a model that knows no habits: what another has opened ends, some windows on."""
        open_ = np.zeros(len(slot), np.bool_)
        for episodes in opened.habits.values():
            episodes.state.reserve(int(slot.max(initial=-1)) + 1)
            open_ |= episodes.state["severity"][slot] > 0
        if not open_.any():
            return []
        row = np.flatnonzero(open_)
        nothing = np.zeros(len(row))
        return self.update(slot, time_ns, Habits(row, nothing, nothing), opened)

    def update(
        self, slot: Int64, time_ns: Int64, habits: Habits, opened: OpenAlerts
    ) -> list[Finding]:
        """slot, time_ns: (w,) of the windows that the habits' rows are among."""
        at = habits.row
        values: dict[str, Float64] = {MODEL_DRIFT: habits.drift, NEW_NORMAL: habits.lasting}
        findings = []
        for kind, lifecycle in self._lifecycles.items():
            changes = lifecycle.update(
                slot[at], values[kind], time_ns[at], self.thresholds[kind], opened.habits[kind]
            )
            if changes:
                moved = [replace(one, window=int(at[one.window])) for one in changes]
                findings.append(Finding(kind, self.thresholds[kind], moved))
        return findings
