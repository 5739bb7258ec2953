"""Several ways to do the same, each in turn, several rounds over, the matrix product between them:
all see the same moods of the machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detector.bench.machine import Results, matrix_product_gflops
from detector.core.ticks import Float32

#: A rate is that of so long, and of two calls at least; times of one window likewise, of ten.
_SECONDS = 0.04
_SINGLES = 300


@dataclass(frozen=True, slots=True)
class Runner:
    """call: windows in, anything out. windows: the batch its rate is measured with; one_window:
    whether the time of a single one is measured too."""

    call: Callable[[Float32], Any]
    windows: Float32
    one_window: bool = True


@dataclass(slots=True)
class Measured:
    """By round: windows a second and CPU seconds a second, of all threads; all times of one."""

    rates: list[float] = field(default_factory=list)
    cores: list[float] = field(default_factory=list)
    singles_s: list[float] = field(default_factory=list)

    @property
    def rate(self) -> float:
        return float(np.median(self.rates))

    def one_window_ms(self) -> Results:
        return {
            f"one_window_ms_p{q}": round(float(np.percentile(self.singles_s, q)) * 1e3, 4)
            for q in (50, 99)
        }


def in_rounds(
    runners: Mapping[str, Runner], rounds: int
) -> tuple[dict[str, Measured], list[float]]:
    """What was measured of each, and the matrix product's rate in each round, in GFLOP/s."""
    found = {name: Measured() for name in runners}
    for one in runners.values():  # compiled, allocated, in cache
        one.call(one.windows)
        if one.one_window:
            one.call(one.windows[:1])
    matrix = []
    for _ in range(rounds):
        matrix.append(matrix_product_gflops())
        for name, one in runners.items():
            _measure(one, found[name])
    return found, matrix


def _measure(one: Runner, found: Measured) -> None:
    calls, cpu_s, began_s = 0, time.process_time(), time.perf_counter()
    while calls < 2 or time.perf_counter() - began_s < _SECONDS:
        one.call(one.windows)
        calls += 1
    took_s = time.perf_counter() - began_s
    found.cores.append((time.process_time() - cpu_s) / took_s)
    found.rates.append(len(one.windows) * calls / took_s)
    if not one.one_window:
        return
    single, began_s = one.windows[:1], time.perf_counter()
    for n in range(_SINGLES):
        if n >= 10 and time.perf_counter() - began_s > _SECONDS:
            break
        started_s = time.perf_counter()
        one.call(single)
        found.singles_s.append(time.perf_counter() - started_s)
