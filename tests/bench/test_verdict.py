"""What is counted as found, as a false alarm, and as one in a burst of news."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.bench.verdict import Found, judge, with_aftermath
from detector.config import parse_config
from detector.core.alerts import Alert, State
from detector.data.faults import Fault, FaultKind
from detector.data.market import News
from detector.data.simulate import Simulation
from tests.core.test_cloudevents import make_alert

CONFIG = parse_config({"window": {"length_ticks": 8}, "alerts": {"open_after": 1, "of_last": 2}})
TICKS = 100
MS = 10**6


def fault(series: str, kind: FaultKind, begin: int, end: int, strength: float) -> Fault:
    """From the tick at `begin` to that at `end`, in milliseconds."""
    return Fault(series, kind, begin * MS, end * MS, strength)


def stream(*faults: Fault, news: tuple[News, ...] = ()) -> Simulation:
    """Two series of 100 ticks: A with one a millisecond, B with one every ten."""
    time_ns = np.concatenate([np.arange(TICKS), np.arange(TICKS) * 10]) * MS
    order = np.argsort(time_ns, kind="stable")
    return Simulation(
        ("A", "B"),
        np.repeat([0, 1], TICKS)[order],
        time_ns[order],
        np.ones((2 * TICKS, 3)),
        np.zeros(2 * TICKS, np.int64),
        faults,
        news,
    )


def opened(series: str, time_ms: int, state: State = State.OPENED) -> tuple[Alert, float]:
    return make_alert(series=series, time_ns=time_ms * MS, state=state, received_ms=1000), 1.25


def test_a_fault_is_in_a_window_until_so_many_ticks_of_its_own_series_have_passed() -> None:
    a, b = fault("A", "spike", 20, 21, 1.0), fault("B", "spike", 200, 210, 1.0)
    assert [f.end_ns // MS for f in with_aftermath(stream(a, b), 10)] == [31, 310]
    late = fault("A", "spike", 95, 97, 1.0)
    assert with_aftermath(stream(late), 10)[0].end_ns // MS == 99, "no further than the ticks go"


def test_recall_is_told_by_kind_and_strength() -> None:
    live = stream(
        fault("A", "spike", 20, 21, 1.0),
        fault("A", "spike", 60, 61, 2.0),
        fault("B", "frozen", 200, 210, 2.0),
    )
    verdict = judge(
        live, [opened("A", 63), opened("B", 300)], CONFIG, length=8, windows=150, wall_s=1.04
    )
    assert verdict.by_kind["spike"] == {"1": Found(0, 1), "2": Found(1, 1)}
    assert verdict.by_kind["frozen"] == {"2": Found(1, 1)}
    assert verdict.by_kind["dropout"] == {}
    assert verdict.by_strength == {"1": Found(0, 1), "2": Found(2, 2)}
    assert verdict.recall == pytest.approx(2 / 3)
    assert verdict.precision == 1.0
    assert verdict.wall_s == 1.0
    assert verdict.tick_to_alert_ms == {"p50": 250.0, "p99": 250.0}


def test_false_alarms_stand_beside_their_budget_and_those_in_news_are_told() -> None:
    live = stream(fault("A", "spike", 20, 21, 1.0), news=(News(50 * MS, 60 * MS),))
    seen = [
        opened("A", 19),  # too early
        opened("A", 31),
        opened("A", 32),  # the fault has left the window
        opened("B", 20),  # another series
        opened("B", 55),  # news, which is normal
        opened("B", 56, State.RESOLVED),  # counted once
    ]
    verdict = judge(live, seen, CONFIG, length=8, windows=200, wall_s=1.0)
    assert (verdict.alerts_opened, verdict.false_alarms, verdict.false_alarms_in_news) == (5, 4, 1)
    assert verdict.news == 1
    assert verdict.precision == pytest.approx(1 / 5)
    assert verdict.false_alarms_per_100k_windows == 2000
    assert verdict.budget_per_100k_windows == pytest.approx(10), "the default, 1e-4 a window"


def test_without_alerts_there_is_no_precision_and_without_windows_no_rate() -> None:
    verdict = judge(stream(), [], CONFIG, length=8, windows=0, wall_s=1.0)
    assert verdict.precision is verdict.recall is verdict.false_alarms_per_100k_windows is None
    assert verdict.tick_to_alert_ms == {"p50": None, "p99": None}


def test_an_alert_at_the_first_tick_is_right_though_its_time_went_through_a_float() -> None:
    live = stream(fault("A", "spike", 20, 21, 1.0))
    alert, seen_s = opened("A", 20)
    told = replace(alert, time_ns=alert.time_ns - 240)
    assert judge(live, [(told, seen_s)], CONFIG, length=8, windows=200, wall_s=1.0).detected == 1
