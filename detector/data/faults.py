"""Faults of six kinds in healthy quotes, each as strong as is said.

A strength of 1 is the most the same series does by itself, in all the ticks that are simulated, at
the scale the fault has; 0.5 is well within what is normal, 4 is far beyond. That is, for a

    spike        the largest move from tick to tick: bid and ask are off by it for 2 ticks
    level_shift  the largest change of mean log volume from 60 ticks to the next 60: it is added to
                 log volume for 60 ticks
    volatility   the largest root mean square of 60 moves: prices move so for 60 ticks
    frozen       the longest run of ticks that repeat bid and ask: for so many all is repeated
    crossed      the median spread: for 40 ticks the bid is so far above the ask
    dropout      the longest time between ticks: for so long there are none
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from detector.core.ticks import Bool, Float64, Int64
from detector.data.market import Quotes

FaultKind = Literal["spike", "level_shift", "volatility", "frozen", "crossed", "dropout"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
_STRETCH_TICKS = 60
_DURATION_TICKS = {
    "spike": 2,
    "level_shift": _STRETCH_TICKS,
    "volatility": _STRETCH_TICKS,
    "crossed": 40,
}
_LEAD_TICKS = 200  # before the first fault: a window, and what a threshold may need
_QUIET_TICKS = 100  # after each: the window is clean and the alert resolved


@dataclass(frozen=True, slots=True)
class Fault:
    """A labelled fault: start_ns <= event time <= end_ns of the ticks it touches. For a dropout
    the ticks in between are missing, and end_ns is the first tick after it. strength: as the
    module says; None where it is not known."""

    series: str
    kind: FaultKind
    start_ns: int
    end_ns: int
    strength: float | None = None


@dataclass(frozen=True, slots=True)
class Labelled:
    """n ticks of a series. time_ns: (n,); values: (n, 3) bid, ask, volume; fault: (n,) index + 1
    into FAULT_KINDS, 0 where normal."""

    time_ns: Int64
    values: Float64
    fault: Int64
    faults: tuple[Fault, ...]


@dataclass(frozen=True, slots=True)
class NormalMost:
    """What a series does at most by itself: the size of a fault of strength 1."""

    move: float  # of the logarithm of the middle; likewise volatility
    level_change: float  # of the logarithm of volume
    volatility: float
    standstill_ticks: int
    spread_ticks: float
    gap_ns: int


def normal_most(quotes: Quotes) -> NormalMost:
    """Of healthy quotes."""
    moves = np.diff(np.log(quotes.bid + quotes.ask))
    levels = _rolling_mean(np.log(quotes.volume), _STRETCH_TICKS)
    changes = levels[_STRETCH_TICKS:] - levels[:-_STRETCH_TICKS]
    still = (np.diff(quotes.bid) == 0) & (np.diff(quotes.ask) == 0)
    return NormalMost(
        move=float(np.abs(moves).max()),
        level_change=float(np.abs(changes).max()),
        volatility=float(np.sqrt(_rolling_mean(moves**2, _STRETCH_TICKS).max())),
        standstill_ticks=_longest_run(still),
        spread_ticks=float(np.median(quotes.ask - quotes.bid)),
        gap_ns=int(np.diff(quotes.time_ns).max()),
    )


def break_quotes(
    quotes: Sequence[Quotes],
    names: Sequence[str],
    wanted: Sequence[tuple[FaultKind, float]],
    *,
    random: np.random.Generator,
) -> list[Labelled]:
    """Each of the series with its share of the wanted (kind, strength), spread over its ticks and
    well apart. Raises ValueError if the series are too short for them."""
    wanted = [wanted[i] for i in random.permutation(len(wanted))]
    return [
        _break_one(whole, name, wanted[i :: len(quotes)], random)
        for i, (whole, name) in enumerate(zip(quotes, names, strict=True))
    ]


def _break_one(
    whole: Quotes, name: str, wanted: Sequence[tuple[FaultKind, float]], random: np.random.Generator
) -> Labelled:
    n = len(whole.time_ns)
    label = np.zeros(n, np.int64)
    if not wanted:
        return Labelled(whole.time_ns, whole.values, label, ())
    if n <= 2 * _STRETCH_TICKS:
        raise _too_short(name, n, len(wanted))
    most = normal_most(whole)
    plan = _plan(wanted, whole.time_ns, most, random)
    if plan is None:
        raise _too_short(name, n, len(wanted))
    broken = Quotes(whole.time_ns, whole.bid.copy(), whole.ask.copy(), whole.volume.copy())
    missing = np.zeros(n, np.bool_)
    faults = []
    for (kind, strength), (begin, end) in zip(wanted, plan, strict=True):
        _break(broken, slice(begin, end), kind, strength, most, random)
        if kind == "dropout":
            missing[begin:end] = True
            end += 1  # the first tick after it tells
        label[begin:end] = FAULT_KINDS.index(kind) + 1
        times = (int(whole.time_ns[begin]), int(whole.time_ns[end - 1]))
        faults.append(Fault(name, kind, *times, strength))
    kept = ~missing
    return Labelled(broken.time_ns[kept], broken.values[kept], label[kept], tuple(faults))


def _too_short(name: str, ticks: int, faults: int) -> ValueError:
    return ValueError(
        f"{name} has {ticks} ticks, too few for {faults} faults well apart: simulate more ticks or "
        "fewer faults"
    )


def _plan(
    wanted: Sequence[tuple[FaultKind, float]],
    time_ns: Int64,
    most: NormalMost,
    random: np.random.Generator,
) -> list[tuple[int, int]] | None:
    """The first tick of each fault and the one after its last, in order, with what is left of the
    ticks between them by chance. None if they do not fit."""
    cuts = np.sort(random.uniform(size=len(wanted)))
    shares = np.diff(cuts, prepend=0.0).tolist()
    n = spare = len(time_ns)
    while spare >= 1:
        spare = spare * 9 // 10  # how long a dropout is in ticks depends on where it is
        plan = []
        clean = _LEAD_TICKS
        for (kind, strength), share in zip(wanted, shares, strict=True):
            begin = clean + int(share * spare)
            # A dropout without a tick that is missing would be none: let it begin later.
            while begin < n and _end(kind, strength, begin, time_ns, most) <= begin:
                begin += 1
            if begin >= n:
                break
            end = _end(kind, strength, begin, time_ns, most)
            plan.append((begin, end))
            clean = end + _QUIET_TICKS
        else:
            if clean < n:
                return plan
    return None


def _end(kind: FaultKind, strength: float, begin: int, time_ns: Int64, most: NormalMost) -> int:
    if kind == "dropout":
        over_ns = time_ns[begin - 1] + round(strength * most.gap_ns)
        return int(np.searchsorted(time_ns, over_ns))
    if kind == "frozen":
        return begin + max(1, round(strength * most.standstill_ticks))
    return begin + _DURATION_TICKS[kind]


def _break(
    quotes: Quotes,
    where: slice,
    kind: FaultKind,
    strength: float,
    most: NormalMost,
    random: np.random.Generator,
) -> None:
    """In place."""
    bid, ask = quotes.bid, quotes.ask
    before = where.start - 1
    middle = (bid + ask) / 2
    half = (ask - bid)[where] / 2
    if kind == "spike":
        factor = np.exp(strength * most.move * random.choice([-1, 1]))
        bid[where], ask[where] = np.rint(bid[where] * factor), np.rint(ask[where] * factor)
    elif kind == "level_shift":
        factor = np.exp(strength * most.level_change)
        quotes.volume[where] = np.rint(quotes.volume[where] * factor)
    elif kind == "volatility":
        path = np.log(middle[before]) + _there_and_back(
            strength * most.volatility, float(np.log(middle[where.stop] / middle[before])), random
        )
        bid[where], ask[where] = np.rint(np.exp(path) - half), np.rint(np.exp(path) + half)
    elif kind == "frozen":
        for column in (bid, ask, quotes.volume):
            column[where] = column[before]
    elif kind == "crossed":
        depth = max(1.0, np.rint(strength * most.spread_ticks))
        bid[where] = np.rint(middle[where] + depth / 2)
        ask[where] = bid[where] - depth


def _there_and_back(size: float, onward: float, random: np.random.Generator) -> Float64:
    """(ticks,) a path from 0 whose moves have the root mean square size, and from which the next
    tick goes on to `onward`."""
    steps = random.normal(size=_STRETCH_TICKS + 1)
    steps -= steps.mean()
    steps *= size / np.sqrt((steps**2).mean())
    path: Float64 = np.cumsum(steps + onward / len(steps))[:-1]
    return path


def _rolling_mean(values: Float64, ticks: int) -> Float64:
    sums = np.concatenate([[0.0], np.cumsum(values)])
    means: Float64 = (sums[ticks:] - sums[:-ticks]) / ticks
    return means


def _longest_run(flags: Bool) -> int:
    ends = np.flatnonzero(np.diff(np.concatenate([[False], flags, [False]]).astype(np.int8)))
    return int((ends[1::2] - ends[::2]).max(initial=0))
