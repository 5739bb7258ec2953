"""How many alerts to expect: the rules that are deployed, over held-out normal windows.

The windows are those that calibrated the score, in the order in which each series brought them. So
what is counted has the bursts of the real series in it, and the alerts that windows which overlap
come to. Beyond the sample it goes on as evidence does: ten times fewer alerts for each unit that
the threshold is higher.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from detector.core.alerts import State
from detector.core.episodes import AlertPolicy, Episodes, Lifecycle
from detector.core.tails import Tails
from detector.core.ticks import Bool, Float64, Int64

#: Alerts that make a count worth believing, and those that an extrapolation may start from.
_ENOUGH, _FEW = 5, 3
#: Where alerts are counted when the threshold has too few: from here up, in these steps.
_LOWEST, _STEP, _HIGHEST = 0.5, 0.25, 12.0
_DAY_NS = 86_400e9
#: A gap that nobody has given a length counts as so many ticks.
_GAP_TICKS = 100


@dataclass(frozen=True, slots=True)
class Forecast:
    """Of one threshold, on normal data. series: alerts opened in the rehearsal, by name; days: of
    all its series together; a_day: alerts to expect, a day and series; counted: whether the
    rehearsal itself has enough of them, or it is an extrapolation."""

    series: Mapping[str, int]
    days: float
    a_day: float
    counted: bool

    @property
    def opened(self) -> int:
        return sum(self.series.values())

    def words(self) -> str:
        """One line."""
        several = "1 series" if len(self.series) == 1 else f"{len(self.series)} series"
        how = f"{self.opened} opened in {_span(self.days)} of {several} held out"
        a_day = f"{self.a_day:.2g}" if self.a_day < 10 else f"{self.a_day:,.0f}"
        if self.counted:
            return f"about {a_day} a day and series: {how}"
        return f"about {a_day} a day and series, extrapolated: {how}"

    def busiest(self, most: int) -> dict[str, int]:
        """Series in which alerts opened, at most so many, those with most of them first."""
        found = sorted(self.series.items(), key=lambda one: (-one[1], one[0]))
        return {name: count for name, count in found[:most] if count}


@dataclass(frozen=True, slots=True)
class Rules:
    """What is deployed. stride: ticks from one window to the next; tails: that have seen nothing,
    None where the score does not follow them; gap_ns: a longer one between two ticks counts as so
    long, None: as long as many ticks take."""

    alerts: AlertPolicy
    stride: int = 1
    cold_windows: int = 0
    tails: Callable[[], Tails] | None = None
    gap_ns: int | None = None


@dataclass(frozen=True, slots=True)
class Rehearsal:
    """names: of s series; slot: (w,) which one, ascending; time_ns: (w,) the last ticks of the
    windows, one for each tick; score: (w,) as calibrated."""

    names: tuple[str, ...]
    slot: Int64
    time_ns: Int64
    score: Float64

    def forecast(self, threshold: float, rules: Rules) -> Forecast | None:
        """None where its windows take no time."""
        days = self._days(rules)
        if days <= 0:
            return None
        stage = self._stage(rules)
        opened = stage.opened(threshold)
        count = int(opened.sum())
        expected = _expected(threshold, count, stage.levels())
        series = dict(zip(self.names, opened.tolist(), strict=True))
        return Forecast(series, days, expected / days, counted=count >= _ENOUGH)

    def threshold(self, a_day: float, rules: Rules) -> float | None:
        """Where so many alerts a day and series are to be expected; None where its windows take no
        time. Not below the level with most alerts: farther down one that never ends hides them."""
        days = self._days(rules)
        if days <= 0:
            return None
        stage, wanted = self._stage(rules), a_day * days
        levels = stage.levels()

        def too_many(threshold: float) -> bool:
            count = int(stage.opened(threshold).sum())
            return _expected(threshold, count, levels) > wanted * (1 + 1e-9)

        lowest = max(levels, key=lambda one: (one[1], one[0]))[0]
        most = max(level + math.log10(count) for level, count in levels)
        found = max(most - math.log10(wanted), lowest)
        while too_many(found):
            found += _STEP
        while found - _STEP >= lowest and not too_many(found - _STEP):
            found -= _STEP
        return found

    def _stage(self, rules: Rules) -> _Stage:
        begins = np.flatnonzero(np.diff(self.slot, prepend=-1))
        sizes = np.diff(np.append(begins, len(self.slot)))
        rank = np.arange(len(self.slot)) - np.repeat(begins, sizes)
        cut = rank % rules.stride == 0
        slot, score = self.slot[cut], self.score[cut]
        if rules.tails is not None:
            score, _ = rules.tails().adjust(slot, score)
        cold = rank[cut] // rules.stride < rules.cold_windows
        return _Stage(rules.alerts, len(self.names), slot, self.time_ns[cut], score, cold)

    def _days(self, rules: Rules) -> float:
        """Of each series from its first window to its last, all together."""
        steps = np.diff(self.time_ns)[self.slot[1:] == self.slot[:-1]].clip(min=0)
        if not len(steps):
            return 0.0
        gap_ns = rules.gap_ns
        if gap_ns is None:
            gap_ns = _GAP_TICKS * max(int(np.median(steps)), 1)
        return float(np.minimum(steps, gap_ns).sum()) / _DAY_NS


@dataclass(frozen=True, slots=True)
class _Stage:
    """The windows as they are deployed. cold: (w,) those that cannot open an alert."""

    alerts: AlertPolicy
    series: int
    slot: Int64
    time_ns: Int64
    score: Float64
    cold: Bool

    def opened(self, threshold: float) -> Int64:
        """(s,) alerts."""
        quiet = replace(self.alerts, critical_ratio=math.inf)  # nothing is counted twice
        changes = Lifecycle(quiet).update(
            self.slot, self.score, self.time_ns, threshold, Episodes(), muted=self.cold
        )
        windows = [change.window for change in changes if change.state is State.OPENED]
        return np.bincount(self.slot[windows], minlength=self.series)

    def levels(self) -> list[tuple[float, int]]:
        """Levels at which something was seen, and how many alerts open there. Where bursts are
        taken together (quiet_s) there may be fewer at a low level than at a high one."""
        highest = min(float(self.score.max()), _HIGHEST)
        counts = [
            (float(level), int(self.opened(level).sum()))
            for level in np.arange(_LOWEST, max(highest, _LOWEST + _STEP), _STEP)
        ]
        enough = [one for one in counts if one[1] >= _FEW]
        return enough or [(_LOWEST, max(counts[0][1], 1))]


def _expected(threshold: float, count: int, levels: Sequence[tuple[float, int]]) -> float:
    """Alerts in a rehearsal: those that were counted, if they are enough; else what any level
    below leads to, ten times fewer for each unit."""
    if count >= _ENOUGH:
        return float(count)
    below = [seen * 10.0 ** (level - threshold) for level, seen in levels if level < threshold]
    return float(max([count, *below]))


def _span(days: float) -> str:
    """Of time, in the largest unit that it fills."""
    for unit, length in (("days", 1.0), ("hours", 1 / 24), ("minutes", 1 / 1440)):
        if days >= length:
            return f"{days / length:.3g} {unit}"
    return f"{days * 86_400:.3g} seconds"
