"""The measures against their definition, tick by tick and threshold by threshold."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.ticks import Bool, Float64
from detector.evaluate.measures import auc_pr, precision_recall, vus_pr


def by_definition(scores: Float64, labels: Bool, width: int) -> float:
    """Paparrizos et al. 2022, in loops."""
    n = len(labels)
    steps = np.diff(np.concatenate([[0], labels.astype(int), [0]]))
    events = list(zip(np.flatnonzero(steps == 1), np.flatnonzero(steps == -1), strict=True))
    areas = []
    for edge in range(width + 1):
        weight = labels.astype(float)
        for start, end in events:
            for distance in range(1, edge // 2 + 1):
                for place in (start - distance, end - 1 + distance):
                    if 0 <= place < n:
                        weight[place] = max(weight[place], (1 - distance / edge) ** 0.5)
        positives = (labels.sum() + weight.sum()) / 2
        area, recall = 0.0, 0.0
        for threshold in sorted(set(scores.tolist()), reverse=True):
            found = scores >= threshold
            right = (weight * found).sum()
            half = edge // 2
            met = [found[max(0, start - half) : end + half].any() for start, end in events]
            now = min(right / positives, 1.0) * float(np.mean(met))
            area += (now - recall) * right / found.sum()
            recall = now
        areas.append(area)
    return float(np.mean(areas))


@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0, 3.0]), min_size=2, max_size=40),
    labels=st.lists(st.booleans(), min_size=40, max_size=40),
    width=st.integers(0, 12),
)
@settings(deadline=None)
def test_vus_pr_is_what_its_definition_says(
    scores: list[float], labels: list[bool], width: int
) -> None:
    truth = np.array(labels[: len(scores)])
    found = vus_pr(np.array(scores), truth, width=width)
    if truth.all() or not truth.any():
        assert found is None
    else:
        assert found == pytest.approx(by_definition(np.array(scores), truth, width))


def test_a_perfect_ranking_is_near_one_and_a_random_one_near_the_share_of_anomalies() -> None:
    truth = np.zeros(20_000, np.bool_)
    truth[5000:5400] = truth[12_000:12_100] = True
    perfect = vus_pr(truth.astype(float), truth, width=32)
    guessed = vus_pr(np.random.default_rng(0).normal(size=len(truth)), truth, width=32)
    assert perfect is not None
    assert guessed is not None
    assert perfect > 0.95
    assert 0.5 * truth.mean() < guessed < 2 * truth.mean()


def test_a_score_that_tells_nothing_is_worth_the_share_of_anomalies() -> None:
    truth = np.zeros(20_000, np.bool_)
    truth[5000:5400] = True
    same = vus_pr(np.ones(len(truth)), truth, width=32)
    assert same == pytest.approx(truth.mean(), rel=0.1)
    assert vus_pr(np.full(len(truth), np.nan), truth, width=32) is None


def test_a_score_that_is_not_there_counts_as_the_lowest() -> None:
    truth = np.array([False, False, True, True, False, False])
    scores = np.array([np.nan, 0.1, 0.9, 0.8, 0.2, 0.1])
    assert vus_pr(scores, truth, width=2) == vus_pr(np.nan_to_num(scores, nan=0.1), truth, width=2)


@given(
    scores=st.lists(st.sampled_from([0.0, 0.1, 0.5, 0.7, 1.0, 3.0]), min_size=2, max_size=40),
    labels=st.lists(st.booleans(), min_size=40, max_size=40),
)
def test_auc_pr_adds_the_precision_of_every_step_in_recall(
    scores: list[float], labels: list[bool]
) -> None:
    truth = labels[: len(scores)]
    found = auc_pr(np.array(scores), np.array(truth))
    if all(truth) or not any(truth):
        assert found is None
        return
    area, before = 0.0, 0.0
    for threshold in sorted(set(scores), reverse=True):
        named = [yes for score, yes in zip(scores, truth, strict=True) if score >= threshold]
        recall = sum(named) / sum(truth)
        area += (recall - before) * sum(named) / len(named)
        before = recall
    assert found == pytest.approx(area)


def test_the_curve_ends_where_every_tick_is_named() -> None:
    truth = np.array([False, True, False, True])
    curve = precision_recall(np.array([0.1, 3.0, np.nan, 0.1]), truth)
    assert curve is not None
    assert curve[0].tolist() == [1.0, 0.5]
    assert curve[1].tolist() == [0.5, 1.0]


def test_without_any_score_or_contrast_there_is_no_auc_pr() -> None:
    assert auc_pr(np.full(4, np.nan), np.array([True, False, False, False])) is None
    assert auc_pr(np.ones(3), np.ones(3, np.bool_)) is None
