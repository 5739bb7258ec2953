"""Random streams of ticks that meet every rule: repeats, late ticks, gaps, NaN, outliers."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from hypothesis import strategies as st

from tests.core.reference import Tick

START_NS = 1_700_000_000_000_000_000
#: Seconds from the newest tick of the series to the next; above MAX_GAP_S is a gap.
MAX_GAP_S = 5.0
_STEPS_S = (1.0, 0.0, -1.0, 0.25, 1.0, 5.0, 5.5, 60.0)
#: Ordinary values mostly, so that windows fill; then outliers of several sizes, and none at all.
_VALUES = (
    (1.0, 1.5),
    (1.1, 1.4),
    (0.9, 1.6),
    (1.0, 1.0),
    (30.0, 1.5),
    (500.0, 800.0),
    (1e9, 2.0),
    (0.0, -0.0),
    (-3.0, 1.0),
    (math.nan, 1.0),
    (1.0, math.inf),
    (1e308, 1.7e308),
)
_SERIES = ((0, "a"), (0, "b"), (1, "a"), (1, "ü"), (2, "late"))
_CODES = len(_STEPS_S) * len(_VALUES) * len(_SERIES)

#: Odds of each choice: mostly steady ticks of few series, or nothing would ever be scored.
_STEADY = tuple(
    series + len(_SERIES) * (step + len(_STEPS_S) * value)
    for series in range(2)
    for step in (0, 3, 4)
    for value in range(6)
)


#: What the broker's clock may say of the records; -1: the broker does not tell.
RECEIVED_MS = (START_NS // 10**6, START_NS // 10**6 + 40_000, -1)
MAX_FUTURE_S = 30.0


def streams(*, max_size: int = 120) -> st.SearchStrategy[list[Tick]]:
    """Ticks of up to five series in three partitions, each partition in order of offset."""
    code = st.sampled_from(_STEADY) | st.integers(0, _CODES - 1) | st.sampled_from(_STEADY)
    return st.lists(code, max_size=max_size).map(ticks_of)


def ticks_of(codes: Sequence[int]) -> list[Tick]:
    """Ticks from numbers, each of which picks a series, a step in time and values."""
    newest: dict[tuple[int, str], int] = {}
    last: dict[int, tuple[int, int]] = {}  # offset and index of a partition's newest tick
    ticks = []
    for code in codes:
        rest, series = divmod(code, len(_SERIES))
        value, step = divmod(rest, len(_STEPS_S))
        partition, name = _SERIES[series]
        time_ns = newest.get((partition, name), START_NS) + round(_STEPS_S[step] * 1e9)
        newest[partition, name] = max(time_ns, newest.get((partition, name), time_ns))
        offset, index = last.get(partition, (39, 0))
        # Several ticks to a record now and then.
        again = partition in last and code % 3 == 0
        offset, index = (offset, index + 1) if again else (offset + 1, 0)
        last[partition] = offset, index
        received_ms = RECEIVED_MS[offset // 5 % len(RECEIVED_MS)]
        ticks.append(Tick(name, time_ns, _VALUES[value], offset, partition, index, received_ms))
    return ticks


def cut(ticks: Sequence[Tick], at: Sequence[int]) -> list[list[Tick]]:
    """A stream in batches that end at the given positions."""
    borders = [0, *sorted(min(a, len(ticks)) for a in at), len(ticks)]
    return [list(ticks[a:b]) for a, b in itertools.pairwise(borders)]


cuts = st.lists(st.integers(0, 120), max_size=12)
