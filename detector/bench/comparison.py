"""Two runs of a benchmark beside each other: pure, from the results as --json prints them.

Machines differ, and the same one from hour to hour. Where both runs measured the matrix product, a
rate is also compared per rate of it and a time in its time: what the program became, without what
the machine became. That is fair as far as a figure is computing; waiting does not scale with it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

MATRIX = "matrix_product_gflops"
#: What a benchmark is, and what a comparison adds to its results.
NAME, AGAINST = "benchmark", "against"
#: Figures that were asked for, not measured.
_GIVEN = ("load_for_delay", "load_for_delay_ticks_per_s", "session_timeout_s", "seconds", "rounds")


@dataclass(frozen=True, slots=True)
class Compared:
    """One figure of both runs. ratio: now / baseline; normalised: the same on a machine that had
    stayed what it was; None where there is none."""

    baseline: float
    now: float
    ratio: float | None
    normalised: float | None


def compare(baseline: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Compared]:
    """Every figure that both runs have, by its name; that of a nested one with dots."""
    before, after = dict(figures(baseline)), dict(figures(now))
    faster = None
    if before.get(MATRIX) and after.get(MATRIX):
        faster = after[MATRIX] / before[MATRIX]
    found = {}
    for name, value in after.items():
        if name in before and name not in _GIVEN:
            ratio = value / before[name] if before[name] else None
            found[name] = Compared(before[name], value, ratio, _normalised(name, ratio, faster))
    return found


def figures(results: Mapping[str, Any], within: str = "") -> Iterator[tuple[str, float]]:
    """The numbers of results, those of an earlier comparison left out."""
    for name, value in results.items():
        if within or name != AGAINST:
            yield from _figures(within + name, value)


def _figures(name: str, value: Any) -> Iterator[tuple[str, float]]:
    if isinstance(value, Mapping):
        yield from figures(value, f"{name}.")
    elif isinstance(value, list):
        for i, one in enumerate(value):
            yield from _figures(f"{name}.{i}", one)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield name, float(value)


def _normalised(name: str, ratio: float | None, faster: float | None) -> float | None:
    """faster: what became of the matrix product."""
    if ratio is None or faster is None or name.startswith("matrix_product"):
        return None
    # bench delivery names a figure after its variant, which has a time of its own.
    words = re.split(r"[^a-z]+", name.rpartition(": ")[2])
    if "gflops" in words or any(pair == ("per", "s") for pair in pairwise(words)):
        return ratio / faster
    if {"s", "ms", "us", "seconds"} & set(words):
        return ratio * faster
    return None
