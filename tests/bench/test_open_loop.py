"""What a load that waits for nobody sends when, and what its delays are counted from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.bench.load import SERIES
from detector.bench.machine import LENGTH
from detector.bench.open_loop import Plan, Seen, Sent, delays_ms, send
from detector.core.records import Message

PLANS = st.builds(
    Plan, first=st.integers(0, 10_000), ticks=st.integers(1, 3_000), rate=st.floats(10, 100_000)
)


class Clock:
    """Time that moves with sleeping, and with what publishing takes."""

    def __init__(self) -> None:
        self.now_s = 1000.0

    def sleep(self, seconds: float) -> None:
        assert seconds > 0
        self.now_s += seconds


@settings(deadline=None)
@given(PLANS, st.data())
def test_every_tick_is_sent_once_in_order_and_none_before_its_time(
    plan: Plan, data: st.DataObject
) -> None:
    clock = Clock()
    messages = [Message(b"", b"%d" % (plan.first + i)) for i in range(plan.ticks)]
    sent: list[tuple[bytes | None, float]] = []
    stalls = data.draw(st.lists(st.floats(1e-6, 0.5), max_size=3))

    def publish(part: Sequence[Message]) -> None:
        sent.extend((message.value, clock.now_s) for message in part)
        clock.now_s += stalls.pop() if stalls else 1e-6

    start_s, late_ms = send(
        plan, messages, publish, monotonic_s=lambda: clock.now_s, sleep=clock.sleep
    )
    assert [value for value, _ in sent] == [message.value for message in messages]
    intended_s = start_s + plan.intended_s(range(plan.first, plan.first + plan.ticks))
    assert (np.array([at_s for _, at_s in sent]) >= intended_s - 1e-9).all()
    assert min(late_ms) >= 0


def test_a_stall_makes_all_its_ticks_late_whenever_they_were_sent() -> None:
    """One tick a millisecond; everything stands still for a second: half of the ticks are late, by
    half a second in the mean. Counted from the sending, one was."""
    plan, clock = Plan(0, 2_000, 1000.0), Clock()
    seen: list[tuple[int, float]] = []

    def publish(part: Sequence[Message]) -> None:
        if len(seen) >= 500 and clock.now_s < 1001.0:
            clock.now_s += 1.0
        seen.extend((int(message.value or b""), clock.now_s) for message in part)

    messages = [Message(b"", b"%d" % i) for i in range(plan.ticks)]
    start_s, late_ms = send(
        plan, messages, publish, monotonic_s=lambda: clock.now_s, sleep=clock.sleep
    )
    delays = delays_ms(plan, Sent(start_s, 2.0, 0.0, np.array(late_ms)), Seen(seen, 0.0))
    late = delays[delays > 10]
    assert len(late) == pytest.approx(1000, abs=20)
    assert late.mean() == pytest.approx(500, abs=10)
    assert delays.max() == pytest.approx(1000, abs=5)


@given(PLANS)
@settings(deadline=None)
def test_a_series_has_forgotten_a_spike_when_its_next_one_comes(plan: Plan) -> None:
    last: dict[int, int] = {}
    for number in sorted(plan.spikes()):
        assert plan.first <= number < plan.first + plan.ticks
        series = number % SERIES
        if series in last:
            # The window that held it has passed, and eight that resolve the alert.
            assert (number - last[series]) // SERIES > LENGTH + 8
        last[series] = number


@given(PLANS, st.floats(0, 10))
@settings(deadline=None)
def test_what_is_due_is_what_was_meant_to_be_sent_by_then(plan: Plan, after_s: float) -> None:
    intended_s = plan.intended_s(range(plan.first, plan.first + plan.ticks))
    due = plan.due(after_s)
    assert (intended_s[:due] <= after_s + 1e-9).all()
    assert (intended_s[due:] > after_s - 1e-9).all()


def test_without_alerts_there_are_no_delays() -> None:
    found = delays_ms(Plan(0, 10, 1.0), Sent(0.0, 1.0, 0.0, np.zeros(1)), Seen([], 0.0))
    assert found.shape == (0,)
