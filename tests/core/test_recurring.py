"""Windows that come again, in any zone, through any change of its clocks."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo, available_timezones

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.durations import parse_duration, write_duration
from detector.core.recurring import DAY_NS, MOST_S, Recurring, merged, within

ZONES = sorted(z for z in available_timezones() if "/" in z and not z.startswith(("Etc", "posix")))
#: Where clocks change by half an hour, at midnight, twice a year the other way, or skip a day.
STRANGE = ("Australia/Lord_Howe", "America/Havana", "Europe/Dublin", "Pacific/Apia", "Asia/Tehran")
_zones = st.sampled_from(ZONES) | st.sampled_from(STRANGE) | st.just("UTC")
_days = st.integers(0, 36_500)
_MINUTE_NS = 60 * 10**9


def ns(text: str, zone: str) -> int:
    return round(datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()) * 10**9


def local(time_ns: int, zone: str) -> datetime:
    return datetime.fromtimestamp(time_ns // 10**9, UTC).astimezone(ZoneInfo(zone))


@given(
    zone=_zones,
    day=_days,
    hour=st.integers(0, 23),
    minute=st.integers(0, 59),
    lasts=st.integers(1, 3 * 24 * 60).map(lambda minutes: minutes * 60),
)
@settings(deadline=None, max_examples=100)
def test_a_window_begins_and_ends_by_the_clocks_on_the_wall(
    zone: str, day: int, hour: int, minute: int, lasts: int
) -> None:
    """A daily window, minute by minute about its edges. Wherever the clock shows a time that comes
    once, the answer is that of plain arithmetic with what the clock shows."""
    windows = Recurring(f"{minute} {hour} * * *", lasts, zone)
    start = day * DAY_NS
    for step in range(0, 24 * 60, 7):
        at = start + step * _MINUTE_NS
        shown = local(at, zone)
        if unclear(shown) or any(
            unclear(edge) for edge in edges(shown, hour=hour, minute=minute, lasts=lasts)
        ):
            continue
        naive = shown.replace(tzinfo=None)
        since = timedelta(
            seconds=(naive.hour - hour) * 3600 + (naive.minute - minute) * 60 + naive.second
        ) % timedelta(days=1)
        assert windows.inside(at) == (since < timedelta(seconds=lasts)), shown


def edges(shown: datetime, *, hour: int, minute: int, lasts: int) -> list[datetime]:
    """The beginnings, and the ends, of the windows that a moment may be in."""
    base = shown.replace(hour=hour, minute=minute, second=0, fold=0)
    begins = [base + timedelta(days=d) for d in range(-4, 2)]
    return begins + [one + timedelta(seconds=lasts) for one in begins]


def unclear(shown: datetime) -> bool:
    """Whether the clock shows it twice, or never, or skipped about then (a day, in Apia)."""
    there = shown.replace(fold=0).utcoffset() != shown.replace(fold=1).utcoffset()
    about = (shown + timedelta(hours=h) for h in (-26, -3, 3, 26))
    day_skipped = any(
        abs((one.utcoffset() or timedelta()) - (shown.utcoffset() or timedelta()))
        > timedelta(hours=3)
        for one in about
    )
    return there or day_skipped


@given(
    zone=_zones,
    day=_days,
    cron=st.sampled_from(
        ["0 2 * * *", "30 2 * * 0", "*/15 * * * *", "0 */6 * * *", "59 23 L * *", "0 0 1 1 *"]
    ),
    lasts=st.sampled_from([60, 3600, 8 * 3600, 86_400, 5 * 86_400]),
)
@settings(deadline=None, max_examples=60)
def test_days_fit_together_and_spans_are_in_order(
    zone: str, day: int, cron: str, lasts: int
) -> None:
    windows = Recurring(cron, lasts, zone)
    for one in (day - 1, day, day + 1):
        spans = windows.of_day(one)
        assert spans == merged(spans)
        assert all(one * DAY_NS <= a < b <= (one + 1) * DAY_NS for a, b in spans)
        moments = np.array([m for a, b in spans for m in (a, b - 1)], np.int64)
        assert windows.inside_of(moments).all()
        outside = [b for a, b in spans if b < (one + 1) * DAY_NS] + [
            a - 1 for a, b in spans if a > one * DAY_NS
        ]
        assert not windows.inside_of(np.array(outside, np.int64)).any()
    # A window that goes on over midnight (UTC) ends where it would have without it.
    again = Recurring(cron, lasts, zone)
    assert [again.of_day(d) for d in (day + 1, day - 1, day)] == [
        windows.of_day(d) for d in (day + 1, day - 1, day)
    ]


@pytest.mark.parametrize(
    ("begin", "end", "hours"),
    [
        ("2026-01-15T22:00", "2026-01-16T06:00", 8),
        ("2026-03-28T22:00", "2026-03-29T06:00", 7),  # an hour is skipped
        ("2026-10-24T22:00", "2026-10-25T06:00", 9),  # an hour comes twice
    ],
)
def test_a_night_ends_at_six_also_when_clocks_change(begin: str, end: str, hours: int) -> None:
    zone = "Europe/Zurich"
    windows = Recurring("0 22 * * *", 8 * 3600, zone)
    first, last = ns(begin, zone), ns(end, zone)
    assert last - first == hours * 3600 * 10**9
    assert not windows.inside(first - 1)
    assert windows.inside(first)
    assert windows.inside(last - 1)
    assert not windows.inside(last)


def test_a_beginning_that_the_clocks_skip_is_the_moment_they_skip_to() -> None:
    windows = Recurring("30 2 * * *", 3600, "Europe/Zurich")
    three = ns("2026-03-29T03:00", "Europe/Zurich")
    assert windows.inside(three)
    assert not windows.inside(three - 1)
    assert not windows.inside(three + 3600 * 10**9)


def test_a_beginning_that_comes_twice_counts_once() -> None:
    windows = Recurring("30 2 * * *", 600, "Europe/Zurich")
    first = ns("2026-10-25T02:30", "Europe/Zurich")
    assert windows.inside(first)
    assert not windows.inside(first + 3600 * 10**9)


def test_weekdays_and_fields_are_those_of_cron() -> None:
    windows = Recurring("0 9 * * 1-5", 3600, "UTC")
    inside = [windows.inside(ns(f"2026-11-{d:02}T09:30", "UTC")) for d in range(16, 23)]
    assert inside == [True] * 5 + [False] * 2


@pytest.mark.parametrize(
    ("cron", "lasts", "zone"),
    [
        ("* * * *", 3600, "UTC"),
        ("* * * * * *", 3600, "UTC"),
        ("61 * * * *", 3600, "UTC"),
        ("0 0 30 2 *", 3600, "UTC"),
        ("nonsense", 3600, "UTC"),
        ("0 0 * * *", 0, "UTC"),
        ("0 0 * * *", MOST_S + 1, "UTC"),
        ("0 0 * * *", 3600, "Mars/Olympus"),
        ("0 0 * * *", 3600, "../../etc/passwd"),
        ("0 0 * * *", 3600, ""),
    ],
)
def test_what_says_no_time_is_refused(cron: str, lasts: int, zone: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        Recurring(cron, lasts, zone)


@pytest.mark.parametrize("time_ns", [-(2**63), 2**63 - 1, 0])
def test_the_ends_of_time_are_moments_like_others(time_ns: int) -> None:
    assert Recurring("* * * * *", 3600, "Asia/Tokyo").inside(time_ns)


@given(spans=st.lists(st.tuples(st.integers(0, 50), st.integers(1, 9)), max_size=8))
def test_merged_spans_hold_the_same_moments(spans: list[tuple[int, int]]) -> None:
    whole = [(begin, begin + lasts) for begin, lasts in spans]
    together = merged(whole)
    for moment in range(70):
        assert within(together, moment) == any(a <= moment < b for a, b in whole)


@given(seconds=st.integers(1, 10**8))
def test_a_duration_is_read_as_it_is_written(seconds: int) -> None:
    assert parse_duration(write_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "0s", "2", "h", "-1h", "1h 30m", "1.5h", "1m1h", "∞"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)
