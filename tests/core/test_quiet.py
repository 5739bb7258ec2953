"""Silence that is expected does not count."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.alerts import SILENCE, State
from detector.core.features import FeatureSet
from detector.core.patterns import Pattern
from detector.core.pipeline import Pipeline
from detector.core.quiet import Calendar, Expected
from detector.core.recurring import Recurring, merged
from detector.core.stream import Stream, StreamPolicy
from detector.core.ticks import TickBatch
from tests.core.agreeing import MODELS, make_policy, scorer

MINUTE_NS = 60 * 10**9
#: 2023-11-14T00:00Z, a Tuesday.
MIDNIGHT_NS = 1_699_920_000 * 10**9


def pipeline_with(*expected: Expected, silence_s: float = 600.0) -> Pipeline:
    rules = make_policy(silence_s=silence_s, max_gap_s=None)
    features = FeatureSet.parse(MODELS["levels"].expressions)
    stream = Stream(
        StreamPolicy(fields=2, max_series=100, silence_s=silence_s, expected=tuple(expected))
    )
    return Pipeline(stream, rules.track(features, scorer("levels")), topic="ticks")


def minutes(pipeline: Pipeline, series: list[str], at: list[int], *, offset: int = 0) -> TickBatch:
    """Ticks at these minutes after midnight."""
    n = len(series)
    return TickBatch(
        series=series,
        time_ns=MIDNIGHT_NS + np.array(at, np.int64) * MINUTE_NS,
        values=np.ones((n, 2)),
        partition=np.zeros(n, np.int32),
        offset=np.arange(offset, offset + n),
        index=np.zeros(n, np.int32),
        received_ms=np.full(n, -1),
    )


def silences(pipeline: Pipeline, batch: TickBatch, size: int) -> list[tuple[str, State, int]]:
    found = []
    for first in range(0, len(batch), size):
        result = pipeline.process(batch.part(slice(first, first + size)))
        found += [
            (a.series, a.state, (a.time_ns - MIDNIGHT_NS) // MINUTE_NS)
            for a in result.alerts
            if a.kind == SILENCE
        ]
    return found


def test_the_night_does_not_count_and_the_rest_does() -> None:
    """Quiet from 01:00 to 05:00; a is heard last at 00:55, so five minutes of ten are left."""
    night = Expected(Pattern("a"), Recurring("0 1 * * *", 4 * 3600, "UTC"))
    ticks = [("a", 55), ("b", 55), *(("c", m) for m in range(56, 400))]
    for size in (1, 7, 1000):
        pipeline = pipeline_with(night)
        batch = minutes(pipeline, [s for s, _ in ticks], [m for _, m in ticks])
        found = silences(pipeline, batch, size)
        assert found == [("b", State.OPENED, 66), ("a", State.OPENED, 306)]


def test_a_series_heard_again_in_the_quiet_begins_anew() -> None:
    night = Expected(Pattern("a"), Recurring("0 1 * * *", 3600, "UTC"))
    ticks = [
        ("a", 0),
        *(("c", m) for m in range(90)),
        ("a", 90),
        *(("c", m) for m in range(91, 200)),
    ]
    pipeline = pipeline_with(night)
    batch = minutes(pipeline, [s for s, _ in ticks], [m for _, m in ticks])
    assert silences(pipeline, batch, 10) == [
        ("a", State.OPENED, 11),
        ("a", State.RESOLVED, 90),
        ("a", State.OPENED, 131),
    ]


def test_where_quiet_is_always_expected_nobody_is_silent() -> None:
    always = Expected(Pattern("*"), Recurring("0 0 * * *", 86_400, "UTC"))
    pipeline = pipeline_with(always)
    ticks = [("a", 0), *(("c", m) for m in range(0, 100_000, 500))]
    batch = minutes(pipeline, [s for s, _ in ticks], [m for _, m in ticks])
    assert silences(pipeline, batch, 50) == []


_windows = st.builds(
    Recurring,
    st.builds("{} {} * * *".format, st.integers(0, 59), st.integers(0, 23)),
    st.integers(1, 20 * 60).map(lambda minutes: 60 * minutes),
    st.sampled_from(["UTC", "Europe/Zurich", "Australia/Lord_Howe"]),
)


@given(
    windows=st.lists(_windows, max_size=3),
    heard=st.integers(0, 4 * 24 * 60),
    limit=st.integers(1, 3 * 24 * 60),
)
@settings(deadline=None, max_examples=60)
def test_the_last_moment_and_the_first_agree_with_counting(
    windows: list[Recurring], heard: int, limit: int
) -> None:
    """By counting the minutes outside of all windows. The clocks change on 2023-10-29."""
    base = 1_698_364_800 * 10**9  # 2023-10-27
    calendar = Calendar(windows)
    heard_ns, limit_ns = base + heard * MINUTE_NS, limit * MINUTE_NS
    last_ns = calendar.last_ns(heard_ns, limit_ns)

    def counted(begin_ns: int, end_ns: int) -> int:
        days = range(begin_ns // (1440 * MINUTE_NS), end_ns // (1440 * MINUTE_NS) + 1)
        quiet = merged([s for d in days for w in windows for s in w.of_day(d)])
        inside = sum(max(0, min(b, end_ns) - max(a, begin_ns)) for a, b in quiet)
        return end_ns - begin_ns - inside

    if last_ns - heard_ns > 700 * 1440 * MINUTE_NS:  # expected for ever
        return
    assert counted(heard_ns, last_ns) == limit_ns
    assert counted(heard_ns, last_ns + 1) > limit_ns
    now_ns = last_ns + 1
    first_ns = calendar.first_ns(now_ns, limit_ns)
    assert heard_ns < first_ns, "whoever was heard then is silent"
    assert calendar.first_ns(last_ns, limit_ns) <= heard_ns, "and was not a moment before"
