"""What every budget would have come to, against what the daemon's own pipeline does."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.build import alert_policy, deployed_threshold
from detector.config import Config, parse_config
from detector.core.episodes import AlertPolicy
from detector.data.sources import DataFile
from detector.evaluate.budget_table import budget_table
from detector.evaluate.budgets import (
    BUDGETS,
    WHOLE_DECADES,
    at_budgets,
    f1,
    matched,
    onsets,
    pooled,
    thresholds,
)
from detector.evaluate.evaluating import evaluate_files
from detector.evaluate.events import OpenedAlert, score_events
from detector.evaluate.judging import Truth
from detector.evaluate.labelled import Event, score_labelled
from detector.evaluate.results import AtBudget, Judged, SeriesResult
from detector.model.directory import Artifact
from tests.artifacts import make_artifact

LENGTH, TICKS = 8, 1500
SECOND = 10**9


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("model") / "m", length=LENGTH, evidence=True)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> DataFile:
    """Normal ticks that grow wilder from 700 on, with spikes that are labelled and one that is
    not."""
    values = np.random.default_rng(5).normal(0, 1, TICKS)
    values[700:] *= 1.4
    values[[900, 901, 1200, 1201, 1300, 1301]] += 25
    labels = np.isin(np.arange(TICKS), [900, 901, 1200, 1201])
    path = tmp_path_factory.mktemp("data") / "a.csv"
    rows = [f"{n},{v},{int(x)}" for n, (v, x) in enumerate(zip(values, labels, strict=True))]
    path.write_text("timestamp,value,label\n" + "\n".join(rows) + "\n")
    return DataFile(path, "a")


def config(*, adaptive: bool, budget: float = 1e-2) -> Config:
    return parse_config(
        {
            "features": {"value": "value"},
            "window": {"length_ticks": LENGTH},
            "threshold": {
                "adaptive": adaptive,
                "false_alarms_per_window": budget,
                "fall_back": False,
            },
            "alerts": {"quiet_s": 20},
        }
    )


def judged(config: Config, artifact: Artifact, file: DataFile) -> SeriesResult:
    (found,) = evaluate_files(
        config, artifact, [file], train=[], prefix=300, windows=None, done=lambda _: None
    )
    assert isinstance(found, Judged)
    return found.result


def test_both_scores_come_of_one_run_each_the_one_its_own_pipeline_gives(
    artifact: Artifact, file: DataFile
) -> None:
    static, _ = score_labelled(config(adaptive=False), artifact, file)
    adaptive, _ = score_labelled(config(adaptive=True), artifact, file)
    for found in (static["a"], adaptive["a"]):
        np.testing.assert_array_equal(found.static, static["a"].score)
        np.testing.assert_array_equal(found.adaptive, adaptive["a"].score)
    assert (static["a"].score[LENGTH:] != adaptive["a"].score[LENGTH:]).any()


@pytest.mark.parametrize("adaptive", [False, True])
def test_onsets_are_the_alerts_that_the_pipeline_opens(
    artifact: Artifact, file: DataFile, adaptive: bool
) -> None:
    for budget in (1e-1, 1e-2):
        given = config(adaptive=adaptive, budget=budget)
        scored, opened = score_labelled(given, artifact, file)
        threshold = deployed_threshold(given, artifact.calibration, artifact.length).threshold
        one = scored["a"]
        at = onsets(one.time_ns, one.score, threshold, alert_policy(given, artifact, threshold), 32)
        assert one.time_ns[at].tolist() == [alert.time_ns for alert in opened]
        assert len(at) > 3


@pytest.mark.parametrize("adaptive", [False, True])
def test_at_its_own_budget_it_says_what_is_said_of_the_threshold(
    artifact: Artifact, file: DataFile, adaptive: bool
) -> None:
    result = judged(config(adaptive=adaptive), artifact, file)
    side, whole = "adaptive" if adaptive else "static", result.at_threshold
    (own,) = [p for p in result.budgets if p.score == side and p.budget == 1e-2]
    for name in (
        "threshold", "normal_above", "share_above", "alerts", "false_alarms", "detected",
        "alerts_per_hour", "alerts_per_day", "false_alarms_per_hour", "precision", "recall", "f1",
    ):  # fmt: skip
        assert getattr(own, name) == getattr(whole, name), name
    assert whole.events == 2
    assert whole.alerts_per_day == pytest.approx(24 * (whole.alerts_per_hour or 0))
    assert len(result.budgets) == 2 * len(BUDGETS)


def test_a_score_without_tails_has_one_line(tmp_path: Path, file: DataFile) -> None:
    plain = make_artifact(tmp_path / "m", length=LENGTH)
    found = judged(config(adaptive=True), plain, file).budgets
    assert {point.score for point in found} == {"static"}


def test_a_budget_the_method_cannot_meet_is_left_out(artifact: Artifact) -> None:
    given = parse_config({"threshold": {"method": "quantile", "false_alarms_per_window": 0.1}})
    windows = len(artifact.calibration.scores)
    assert set(thresholds(given, artifact.calibration)) == {
        budget for budget in BUDGETS if budget * (windows + 1) >= 1
    }
    fixed = parse_config({"threshold": {"method": "fixed", "value": 9.0}})
    found = thresholds(fixed, artifact.calibration)
    assert list(found) == list(BUDGETS)
    assert found[1e-4] == pytest.approx(4.0)
    assert sorted(found.values()) == list(found.values())


@given(
    stretches=st.lists(st.integers(1, 30), max_size=12),
    reach=st.integers(0, 15),
    alerts=st.lists(st.integers(0, 250)),
)
@settings(deadline=None)
def test_alerts_are_matched_as_those_of_the_threshold(
    stretches: Sequence[int], reach: int, alerts: Sequence[int]
) -> None:
    edges = np.cumsum(stretches).tolist()
    pairs = zip(edges[::2], edges[1::2], strict=False)
    events = [Event("s", start, end + reach) for start, end in pairs]
    times = np.sort(np.array(alerts, np.int64))
    found = score_events(events, [OpenedAlert("s", t) for t in times.tolist()], aftermath_ns=0)
    assert matched(times, events) == (found.detected, found.false_alarms)


@given(scores=st.lists(st.floats(0, 6), min_size=30, max_size=120), prefix=st.integers(0, 40))
@settings(deadline=None)
def test_a_larger_budget_never_has_less_above(scores: Sequence[float], prefix: int) -> None:
    n = len(scores)
    labels = np.zeros(n, np.bool_)
    labels[n - 5] = True
    truth = Truth("s", np.arange(n) * SECOND, labels, min(prefix, n), 4)
    asked = {budget: -float(np.log10(budget)) for budget in BUDGETS}
    found = at_budgets(truth, {"static": np.array(scores)}, asked, AlertPolicy())
    above = [point.normal_above for point in found]
    assert above == sorted(above, reverse=True)
    assert all(p.detected <= 1 and p.false_alarms <= p.alerts for p in found)


def test_a_window_without_score_is_none() -> None:
    score = np.array([np.nan, np.nan, 5.0, np.nan, 5.0, np.nan, 0.0])
    policy = AlertPolicy(open_after=2, of_last=2)
    assert onsets(np.arange(7) * SECOND, score, 1.0, policy).tolist() == [4]
    assert onsets(np.arange(7) * SECOND, np.full(7, np.nan), 1.0, policy).tolist() == []


def test_over_series_counts_are_added_and_the_median_series_stands_beside(
    artifact: Artifact, file: DataFile
) -> None:
    one = judged(config(adaptive=True), artifact, file)
    both = {(p.score, p.budget): p for p in pooled([one, one])}
    for point in one.budgets:
        of_both = both[point.score, point.budget]
        assert of_both.series == 2
        assert of_both.alerts == 2 * point.alerts
        assert (of_both.share_above, of_both.median_share) == (point.share_above,) * 2
        assert of_both.false_alarms_per_day == pytest.approx(point.false_alarms_per_day)
        assert of_both.f1 == pytest.approx(point.f1)
    assert pooled([]) == []
    table = budget_table(list(both.values()), WHOLE_DECADES)
    assert [row[0] for row in table.rows] == [
        "1e-2 (1 %)", "1e-3 (0.1 %)", "1e-4 (0.01 %)", "1e-5 (0.001 %)",
    ]  # fmt: skip
    assert budget_table(list(both.values()), [10**-2.5]).rows[0][0] == "3.2e-3 (0.32 %)"
    assert len(table.heads) == len(table.rows[0]) == 11


def test_without_events_there_is_no_f1_and_without_alerts_it_is_0() -> None:
    assert f1(0.5, None) is None
    assert f1(None, 0.0) == 0.0
    assert f1(0.5, 1.0) == pytest.approx(2 / 3)


def test_the_compact_record_has_no_hole() -> None:
    truth = Truth("s", np.zeros(0, np.int64), np.zeros(0, np.bool_), 0, 4)
    (point,) = at_budgets(truth, {"adaptive": np.zeros(0)}, {1e-2: np.inf}, AlertPolicy())
    assert isinstance(point, AtBudget)
    assert (point.threshold, point.share_above, point.recall, point.alerts) == (None, None, None, 0)
