"""Series with a rhythm that a small network learns in seconds, and faults that break it plainly:
for tests and examples of everything but the worth of the detector (that is data/market.py).

A hidden phase turns about once in 24 ticks; price, spread and volume follow it, each with its own
noise, so that each fault below contradicts either a feature's own course or the relation between
features.
"""

from __future__ import annotations

import numpy as np

from detector.core.ticks import Float64, Int64
from detector.data.faults import FAULT_KINDS, Fault, FaultKind, Labelled

_DURATION_TICKS = {
    "spike": 2,
    "level_shift": 60,
    "volatility": 60,
    "frozen": 60,
    "crossed": 40,
    "dropout": 40,
}
_INTERVAL_S = 0.05
_PERIOD_TICKS = 24


def rhythm(
    *,
    names: tuple[str, ...],
    ticks: int,
    kinds: list[FaultKind],
    start_ns: int,
    random: np.random.Generator,
) -> list[Labelled]:
    """`ticks` ticks of each series less those that drop out; the kinds of faults spread over them,
    well apart. Raises ValueError if the series are too short for them."""
    plan = _plan(len(names), ticks, kinds, random)
    return [
        _labelled(name, plan[i], *_normal(ticks, start_ns, random), random)
        for i, name in enumerate(names)
    ]


def _labelled(
    name: str,
    plan: list[tuple[int, FaultKind]],
    time_ns: Int64,
    values: Float64,
    random: np.random.Generator,
) -> Labelled:
    label = np.zeros(len(time_ns), np.int64)
    missing = np.zeros(len(time_ns), np.bool_)
    faults = []
    for begin, kind in plan:
        end = begin + _DURATION_TICKS[kind]
        _break(values[begin - 1 : end], kind, random)
        label[begin:end] = FAULT_KINDS.index(kind) + 1
        last = end - 1
        if kind == "dropout":
            missing[begin:end] = True
            last = end
            label[end] = FAULT_KINDS.index(kind) + 1
        faults.append(Fault(name, kind, int(time_ns[begin]), int(time_ns[last])))
    kept = ~missing
    return Labelled(time_ns[kept], values[kept], label[kept], tuple(faults))


def _plan(
    series: int, ticks: int, kinds: list[FaultKind], random: np.random.Generator
) -> list[list[tuple[int, FaultKind]]]:
    """Where each series has which fault: equal stretches, each fault somewhere inside one."""
    random.shuffle(kinds)
    plan: list[list[tuple[int, FaultKind]]] = [[] for _ in range(series)]
    if not kinds:
        return plan
    each = -(-len(kinds) // series)
    lead, quiet = 200, 150  # ticks before the first fault, and after each
    stretch = (ticks - lead) // each
    room = stretch - max(_DURATION_TICKS.values()) - quiet
    if room <= 0:
        raise ValueError(
            f"{each} faults a series need at least "
            f"{lead + each * (max(_DURATION_TICKS.values()) + quiet + 1)} ticks a series"
        )
    for i, kind in enumerate(kinds):
        owner, position = i % series, i // series
        begin = lead + position * stretch + int(random.integers(room))
        plan[owner].append((begin, kind))
    return plan


def _normal(ticks: int, start_ns: int, random: np.random.Generator) -> tuple[Int64, Float64]:
    """(ticks,) times and (ticks, 3) values of a healthy series."""
    gaps = _INTERVAL_S * random.uniform(0.8, 1.2, ticks)
    time_ns = start_ns + np.rint(np.cumsum(gaps) * 1e9).astype(np.int64)
    turn = 2 * np.pi / _PERIOD_TICKS
    phase = random.uniform(0, 2 * np.pi) + np.cumsum(turn * random.uniform(0.9, 1.1, ticks))
    base = random.uniform(20, 200)
    drift = np.cumsum(random.normal(0, 1e-5, ticks))
    mid = base * np.exp(drift + 6e-4 * np.sin(phase) + random.normal(0, 5e-6, ticks))
    spread = 4e-4 * np.exp(0.4 * np.sin(phase + 1.0) + random.normal(0, 0.04, ticks))
    volume = 500 * np.exp(0.6 * np.sin(phase + 2.5) + random.normal(0, 0.08, ticks))
    return time_ns, np.stack([mid * (1 - spread / 2), mid * (1 + spread / 2), volume], axis=1)


def _break(values: Float64, kind: FaultKind, random: np.random.Generator) -> None:
    """Apply a fault in place. values: (ticks + 1, 3), the first row being the last good tick."""
    body = values[1:]
    if kind == "spike":
        body[:, :2] *= 1 + 0.01 * random.choice([-1, 1])
    elif kind == "level_shift":
        body[:, 2] *= 6
    elif kind == "volatility":
        body[:, :2] *= np.exp(random.normal(0, 1e-3, (len(body), 1)))
    elif kind == "frozen":
        body[:] = values[0]
    elif kind == "crossed":
        body[:, :2] = body[:, 1::-1]
