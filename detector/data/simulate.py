"""Simulated quotes with labelled faults: bid, ask and volume of some series, seeded and
reproducible. Knows how they are put together and written, not what they are like."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.core.ticks import Float64, Int64
from detector.data.faults import FAULT_KINDS, Fault, FaultKind, Labelled, break_quotes
from detector.data.market import News, market
from detector.data.rhythm import rhythm

FIELDS = ("bid", "ask", "volume")
FEATURES = {
    "return": "log_return(mid(bid, ask))",
    "spread": "log(ratio(ask, bid))",
    "volume": "log(volume)",
    "interarrival": "interarrival()",
}


@dataclass(frozen=True, slots=True)
class Simulation:
    """n ticks in order of time. series: (n,) indexes into names; values: (n, 3) as FIELDS;
    fault: (n,) index + 1 into FAULT_KINDS, 0 where normal. news: normal bursts."""

    names: tuple[str, ...]
    series: Int64
    time_ns: Int64
    values: Float64
    fault: Int64
    faults: tuple[Fault, ...]
    news: tuple[News, ...] = ()

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
    strengths: Sequence[float] = (2.0,),
) -> Simulation:
    """A market of quiet and busy series (data/market.py) with ticks_per_series on average; each
    kind of fault at each strength (data/faults.py) faults_per_kind times in all. The healthy ticks
    are those of the same seed without faults. Raises ValueError if the series are too short."""
    healthy, broken = np.random.default_rng(seed).spawn(2)
    names = _names(series)
    quotes, news = market(
        series=series, ticks=series * ticks_per_series, start_ns=start_ns, random=healthy
    )
    wanted = [(kind, strength) for kind in kinds for strength in strengths] * faults_per_kind
    return _together(names, break_quotes(quotes, names, wanted, random=broken), news)


def simulate_rhythm(
    *,
    series: int,
    ticks_per_series: int,
    faults_per_kind: int,
    seed: int,
    start_ns: int,
    kinds: Sequence[FaultKind] = FAULT_KINDS,
) -> Simulation:
    """Series of an easy rhythm (data/rhythm.py); each kind of fault faults_per_kind times in all.
    Raises ValueError if the series are too short for them."""
    names = _names(series)
    found = rhythm(
        names=names,
        ticks=ticks_per_series,
        kinds=list(kinds) * faults_per_kind,
        start_ns=start_ns,
        random=np.random.default_rng(seed),
    )
    return _together(names, found, ())


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


def write_csv(simulation: Simulation, path: Path) -> None:
    """series,timestamp,bid,ask,volume,label; label is 1 in a fault."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["series", "timestamp", *FIELDS, "label"])
        for row, fault in zip(rows(simulation), simulation.fault.tolist(), strict=True):
            writer.writerow([*row.values(), int(fault > 0)])


def _names(series: int) -> tuple[str, ...]:
    return tuple(f"SIM{i:03d}" for i in range(series))


def _together(
    names: tuple[str, ...], found: Sequence[Labelled], news: tuple[News, ...]
) -> Simulation:
    time_ns = np.concatenate([one.time_ns for one in found])
    order = np.argsort(time_ns, kind="stable")
    return Simulation(
        names,
        np.repeat(np.arange(len(found)), [len(one.time_ns) for one in found])[order],
        time_ns[order],
        np.concatenate([one.values for one in found])[order],
        np.concatenate([one.fault for one in found])[order],
        tuple(sorted((f for one in found for f in one.faults), key=lambda f: f.start_ns)),
        news,
    )
