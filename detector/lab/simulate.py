"""Simulated quotes with a rhythm a network can learn, and labelled faults that break it.

Every series has bid, ask and volume. A hidden phase turns about once in 24 ticks; price,
spread and volume follow it, each with its own noise, so that each fault below contradicts
either a feature's own course or the relation between features. Seeded and reproducible.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from detector.core.ticks import Float64, Int64

FaultKind = Literal["spike", "level_shift", "volatility", "frozen", "crossed", "dropout"]
FAULT_KINDS: tuple[FaultKind, ...] = get_args(FaultKind)
FIELDS = ("bid", "ask", "volume")
FEATURES = {
    "return": "log_return(mid(bid, ask))",
    "spread": "log(ratio(ask, bid))",
    "volume": "log(volume)",
    "interarrival": "interarrival()",
}
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


@dataclass(frozen=True, slots=True)
class Fault:
    """A labelled fault: start_ns <= event time <= end_ns of the ticks it touches. For a dropout
    the ticks in between are missing, and end_ns is the first tick after it."""

    series: str
    kind: FaultKind
    start_ns: int
    end_ns: int


@dataclass(frozen=True, slots=True)
class Simulation:
    """n ticks in order of time. series: (n,) indexes into names; values: (n, 3) as FIELDS;
    fault: (n,) index + 1 into FAULT_KINDS, 0 where normal."""

    names: tuple[str, ...]
    series: Int64
    time_ns: Int64
    values: Float64
    fault: Int64
    faults: tuple[Fault, ...]

    def __len__(self) -> int:
        return len(self.series)


def simulate(
    *,
    series: int,
    ticks_per_series: int,
    faults_per_kind: int,
    seed: int,
    start_ns: int,
    kinds: Sequence[FaultKind] = FAULT_KINDS,
) -> Simulation:
    """Ticks of several series; each kind of fault faults_per_kind times in all, spread over
    the series, well apart. Raises ValueError if the series are too short for them."""
    random = np.random.default_rng(seed)
    names = tuple(f"SIM{i:03d}" for i in range(series))
    plan = _plan(series, ticks_per_series, list(kinds) * faults_per_kind, random)
    columns: list[tuple[Int64, Int64, Float64, Int64]] = []
    faults: list[Fault] = []
    for i, name in enumerate(names):
        time_ns, values = _normal(ticks_per_series, start_ns, random)
        label = np.zeros(ticks_per_series, np.int64)
        missing = np.zeros(ticks_per_series, np.bool_)
        for begin, kind in plan[i]:
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
        index = np.full(int(kept.sum()), i, np.int64)
        columns.append((index, time_ns[kept], values[kept], label[kept]))
    order = np.argsort(np.concatenate([c[1] for c in columns]), kind="stable")
    return Simulation(
        names,
        np.concatenate([c[0] for c in columns])[order],
        np.concatenate([c[1] for c in columns])[order],
        np.concatenate([c[2] for c in columns])[order],
        np.concatenate([c[3] for c in columns])[order],
        tuple(sorted(faults, key=lambda f: f.start_ns)),
    )


def rows(simulation: Simulation) -> Iterator[dict[str, object]]:
    """Each tick as a JSON-ready object; timestamp in seconds."""
    names = simulation.names
    for series, time_ns, (bid, ask, volume) in zip(
        simulation.series.tolist(),
        simulation.time_ns.tolist(),
        simulation.values.tolist(),
        strict=True,
    ):
        yield {
            "series": names[series],
            "timestamp": time_ns / 1e9,
            "bid": round(bid, 6),
            "ask": round(ask, 6),
            "volume": round(volume, 2),
        }


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
