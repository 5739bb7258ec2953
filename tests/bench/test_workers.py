"""The rate of several workers is of the time in which all of them work."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.bench.stages import per_tick
from detector.bench.workers import rate_while_all_work
from detector.clients.daemon_process import by_label
from detector.errors import UsageError


@settings(deadline=None)
@given(
    rates=st.lists(st.integers(1, 50_000), min_size=1, max_size=3),
    late=st.integers(0, 20),
    together=st.integers(3, 30),
    alone=st.integers(0, 30),
)
def test_neither_joining_nor_what_one_does_alone_is_counted(
    rates: list[int], late: int, together: int, alone: int
) -> None:
    """The last worker joins late, the first one ends first."""
    seen, looks = [0] * len(rates), []
    for at in range(late + together + alone):
        for w, rate in enumerate(rates):
            joined = w < len(rates) - 1 or at >= late
            ended = w == 0 and at >= late + together
            seen[w] += rate if joined and not ended else 0
        looks.append((float(at), tuple(seen)))
    assert rate_while_all_work(looks) == pytest.approx(sum(rates))


def test_workers_that_did_not_work_together_have_no_rate() -> None:
    looks = [(0.0, (10, 0)), (1.0, (20, 0)), (2.0, (20, 5)), (3.0, (20, 10))]
    with pytest.raises(UsageError, match="raise --ticks"):
        rate_while_all_work(looks)
    with pytest.raises(UsageError, match="raise --ticks"):
        rate_while_all_work([(0.0, (10, 0)), (1.0, (20, 0))])


def test_cpu_time_outside_of_stages_is_the_rest_and_that_of_others_is_theirs() -> None:
    cost = per_tick(
        {"poll": 1.0, "process": 2.0}, {"total": 8.0, "loop": 5.0, "scoring": 1.5}, 1_000_000
    )
    assert cost == {
        "poll": 1.0, "process": 2.0, "of process: scoring": 1.5, "rest": 2.0, "other_threads": 3.0,
        "total": 8.0,
    }  # fmt: skip


def test_samples_are_added_up_by_one_label() -> None:
    text = 'x_total{a="1",b="u"} 2.0\nx_total{a="1",b="v"} 3.0\nx_total{a="2",b="u"} 4e-1\ny 7\n'
    assert by_label(text, "x_total", "a") == {"1": 5.0, "2": 0.4}
    assert by_label(text, "y", "a") == {}
