"""What an evaluation found, as it goes into its report."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np

from detector.core.ticks import Float64

Kind = Literal["detector", "view", "baseline"]
#: The score as calibrated, and in the light of the tail of its series (threshold.adaptive).
Side = Literal["static", "adaptive"]
SIDES: tuple[Side, ...] = ("static", "adaptive")
#: The name of the whole among the scorers: what the product scores and acts on.
WHOLE = "detector"


@dataclass(frozen=True, slots=True)
class Scorer:
    """Something that scores every tick of a series, (n,), NaN where it says nothing."""

    name: str
    kind: Kind
    score: Float64


@dataclass(frozen=True, slots=True)
class Ranking:
    """How well a scorer ranks the ticks of a series; None where that has no meaning."""

    name: str
    kind: Kind
    vus_pr: float | None
    auc_pr: float | None


@dataclass(frozen=True, slots=True)
class AtThreshold:
    """What the detector did with a series at its deployed threshold, after the prefix.

    threshold: None where it is infinite: nothing can exceed it
    delays_ticks, delays_s: from the start of each event that was found to the alert
    hours: of event time; normal_windows: those that neither hold a labelled tick nor follow one
    nab, nab_every_tick: the score of alerts as they open, and of each tick above the threshold
    """

    threshold: float | None
    events: int
    detected: int
    alerts: int
    false_alarms: int
    precision: float | None
    recall: float | None
    f1: float | None
    delays_ticks: list[int]
    delays_s: list[float]
    hours: float
    alerts_per_hour: float | None
    alerts_per_day: float | None
    false_alarms_per_hour: float | None
    normal_windows: int
    normal_above: int
    share_above: float | None
    nab_windows: int
    nab: float
    nab_every_tick: float


@dataclass(frozen=True, slots=True)
class AtBudget:
    """What one of the two scores would have done with a series, had that share of normal windows
    been allowed to be above the threshold. Counted as AtThreshold, which has events, normal windows
    and hours; days are of event time."""

    budget: float
    score: Side
    threshold: float | None
    normal_above: int
    share_above: float | None
    alerts: int
    false_alarms: int
    detected: int
    alerts_per_hour: float | None
    alerts_per_day: float | None
    false_alarms_per_hour: float | None
    false_alarms_per_day: float | None
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, slots=True)
class AfterDrift:
    """What the detector did with a series into which a drift was injected. Windows are normal ones
    after the prefix; above: how many of them were above the threshold.

    tick: where the drift begins; ramp_ticks: until it is complete, 0 where it is sudden; fields:
    that it moved, one that never changes stays
    before, first, later: windows before it, the first of it, and those after these
    alerts: opened since it began, outside of labelled stretches
    rejected: ticks that could no longer be used (the logarithm of what fell below 0)
    back_ticks: from its beginning until few enough are above again, None where that never was, 0
        where there never were more
    watched_ticks: from its beginning to the end of the series
    """

    drift: str
    tick: int
    ramp_ticks: int
    fields: int
    before: int
    before_above: int
    first: int
    first_above: int
    later: int
    later_above: int
    alerts: int
    rejected: int
    back_ticks: int | None
    watched_ticks: int


@dataclass(frozen=True, slots=True)
class Sketch:
    """A series small enough to be drawn. score: (bins,) the highest of each bin, NaN where there
    is none; all places in ticks.

    curves: of each scorer the precision at RECALLS, the best at that recall or more"""

    ticks: int
    score: Float64
    threshold: float
    prefix: int
    labelled: list[tuple[int, int]]
    alerts: list[int]
    curves: dict[str, Float64]


#: Where curves are compared.
RECALLS = np.linspace(0.02, 1.0, 50)


@dataclass(frozen=True, slots=True)
class SeriesResult:
    """A series. prefix: ticks at its beginning that are for learning; unused: late, duplicate and
    rejected ones; published: VUS-PR of other methods, from the manifest; left_out: scorer -> why it
    has no score; drifts: none where none was asked for.

    budget, asked: shares of normal windows, the one the threshold stands at and the one that was
    asked for (smaller where the threshold fell back, None where it was given by hand)"""

    name: str
    dataset: str | None
    ticks: int
    features: int
    prefix: int
    labelled: int
    unused: int
    vus_width: int
    rankings: list[Ranking]
    at_threshold: AtThreshold
    budget: float
    asked: float | None
    published: dict[str, float] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    budgets: list[AtBudget] = field(default_factory=list)
    drifts: list[AfterDrift] = field(default_factory=list)
    seconds: float = 0.0

    @property
    def fell_back(self) -> bool:
        return self.asked is not None and self.budget > self.asked

    def ranking(self, name: str) -> Ranking | None:
        return next((one for one in self.rankings if one.name == name), None)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A series that could not be run, and why."""

    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Judged:
    """A series with what is drawn of it, which goes into no JSON."""

    result: SeriesResult
    sketch: Sketch
