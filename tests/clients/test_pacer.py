"""A rate kept by waiting."""

from __future__ import annotations

import pytest

from detector.clients.pacer import Pacer


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def monotonic_s(self) -> float:
        return self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


@pytest.mark.parametrize("catch_up_s", [None, 0.1])
def test_so_many_a_second_pass(catch_up_s: float | None) -> None:
    clock = Clock()
    pacer = Pacer(50, catch_up_s=catch_up_s, monotonic_s=clock.monotonic_s, sleep=clock.sleep)
    for _ in range(11):
        pacer.wait(10)
    assert clock.now_s == pytest.approx(102.0)


@pytest.mark.parametrize(("catch_up_s", "at_once"), [(None, 6000), (0.1, 10)])
def test_what_was_idle_does_not_burst_where_it_must_not(
    catch_up_s: float | None, at_once: int
) -> None:
    clock = Clock()
    pacer = Pacer(100, catch_up_s=catch_up_s, monotonic_s=clock.monotonic_s, sleep=clock.sleep)
    pacer.wait(1)
    clock.now_s += 60.0
    before_s, passed = clock.now_s, 0
    while clock.now_s == before_s:
        pacer.wait(1)
        passed += 1
    assert passed == pytest.approx(at_once, abs=2)
