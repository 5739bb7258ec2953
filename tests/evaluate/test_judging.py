"""What is said of one series, counted by hand."""

from __future__ import annotations

import numpy as np
import pytest

from detector.core.ticks import Bool
from detector.evaluate.events import OpenedAlert
from detector.evaluate.judging import Truth, at_threshold, curve_of, in_window, rank, sketch
from detector.evaluate.results import RECALLS, Scorer

SECOND = 10**9


def truth(*labelled: int, ticks: int = 100, prefix: int = 0, length: int = 4) -> Truth:
    labels: Bool = np.zeros(ticks, np.bool_)
    labels[list(labelled)] = True
    return Truth("s", np.arange(ticks) * 2 * SECOND, labels, prefix, length)


def opened(*ticks: int) -> list[OpenedAlert]:
    return [OpenedAlert("s", tick * 2 * SECOND) for tick in ticks]


def test_events_delays_and_false_alarms_are_counted() -> None:
    score = np.zeros(100)
    found = at_threshold(truth(20, 21, 60), score, 1.0, opened(22, 23, 40))
    assert (found.events, found.detected, found.alerts, found.false_alarms) == (2, 1, 3, 1)
    assert found.precision == pytest.approx(2 / 3)
    assert found.recall == 0.5
    assert found.f1 == pytest.approx(4 / 7)
    assert (found.delays_ticks, found.delays_s) == ([2], [4.0])
    assert found.hours == pytest.approx(198 / 3600)
    assert found.false_alarms_per_hour == pytest.approx(3600 / 198)


def test_nothing_of_the_prefix_counts() -> None:
    score = np.full(100, 2.0)
    found = at_threshold(truth(20, 60, prefix=50), score, 1.0, opened(10, 20, 61))
    assert (found.events, found.alerts, found.false_alarms) == (1, 1, 0)
    assert found.hours == pytest.approx(98 / 3600)
    assert found.normal_windows == 45, "50 ticks but for the one labelled and four that look back"
    assert found.share_above == 1.0


def test_windows_that_hold_or_follow_a_label_are_not_normal() -> None:
    labels = np.zeros(10, np.bool_)
    labels[3] = True
    assert np.flatnonzero(in_window(labels, 4)).tolist() == [3, 4, 5, 6]
    score = np.full(100, np.nan)
    score[4:] = 0.0
    score[[20, 23, 24, 25]] = 5.0  # the last is the first normal one again
    found = at_threshold(truth(20), score, 1.0, [])
    assert (found.normal_windows, found.normal_above) == (91, 1)
    assert found.share_above == pytest.approx(1 / 91)


def test_without_events_there_is_no_recall_and_without_normal_windows_no_share() -> None:
    found = at_threshold(truth(), np.full(100, np.nan), 1.0, [])
    assert (found.precision, found.recall, found.f1, found.share_above) == (None,) * 4
    assert (found.delays_ticks, found.nab_windows, found.nab) == ([], 0, 0.0)


def test_a_threshold_that_nothing_can_exceed_is_no_number() -> None:
    found = at_threshold(truth(20), np.zeros(100), float("inf"), [])
    assert (found.threshold, found.share_above) == (None, 0.0)


def test_nab_hears_alerts_and_beside_them_every_tick_above() -> None:
    score = np.zeros(100)
    score[[60, 62, 64]] = 2.0
    found = at_threshold(truth(60, 61, 62, 63), score, 1.0, opened(60))
    assert found.nab_windows == 1
    assert found.nab == pytest.approx(1.0)
    assert found.nab_every_tick < found.nab


def test_an_alert_at_the_time_of_a_late_tick_is_found() -> None:
    one = truth(20)
    late = one.time_ns.copy()
    late[50] = late[10]
    clock = np.maximum.accumulate(late)
    found = at_threshold(
        Truth("s", clock, one.labels, 0, 4), np.zeros(100), 1.0, opened(21)
    )  # fmt: skip
    assert (found.detected, found.delays_ticks) == (1, [1])


def test_rank_and_sketch_agree_on_who_is_perfect() -> None:
    one = truth(*range(20, 40), ticks=2000)
    score = one.labels.astype(float)
    scorer = Scorer("detector", "detector", score)
    found = rank(one, scorer, width=0)
    assert (found.vus_pr, found.auc_pr) == (1.0, 1.0)
    drawn = sketch(one, [scorer], 0.5, opened(25))
    assert (len(drawn.score), drawn.labelled, drawn.alerts) == (600, [(20, 40)], [25])
    assert drawn.score.max() == 1.0
    assert drawn.curves["detector"].tolist() == [1.0] * len(RECALLS)


def test_a_curve_is_the_best_precision_at_that_recall_or_more() -> None:
    labels = np.array([True, False, True, False])
    found = curve_of(np.array([4.0, 3.0, 2.0, 1.0]), labels)
    assert found is not None
    assert found[RECALLS <= 0.5].tolist() == [1.0] * 25
    assert found[RECALLS > 0.5] == pytest.approx(2 / 3)
