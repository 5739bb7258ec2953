"""Figures over series, and what is said of them."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from detector.evaluate.evaluating import Outcome
from detector.evaluate.report import make_report, markdown
from detector.evaluate.results import (
    RECALLS,
    AtThreshold,
    Judged,
    Ranking,
    SeriesResult,
    Sketch,
    Skipped,
)
from detector.evaluate.totals import groups, sentences, totals


def at(**changes: Any) -> AtThreshold:
    given: dict[str, Any] = {
        "threshold": 1.0, "events": 2, "detected": 1, "alerts": 3, "false_alarms": 1,
        "precision": 2 / 3, "recall": 0.5, "f1": 4 / 7, "delays_ticks": [4], "delays_s": [8.0],
        "hours": 2.0, "alerts_per_hour": 1.5, "alerts_per_day": 36.0, "false_alarms_per_hour": 0.5,
        "normal_windows": 1000, "normal_above": 1,
        "share_above": 0.001, "nab_windows": 2, "nab": 1.0, "nab_every_tick": -2.0,
    }  # fmt: skip
    return AtThreshold(**given | changes)


def series(
    name: str, detector: float | None, pca: float | None = None, *, dataset: str | None = None,
    found: AtThreshold | None = None, budget: float = 1e-3, asked: float | None = 1e-3,
    unused: int = 0, **published: float,
) -> SeriesResult:  # fmt: skip
    rankings = [Ranking("detector", "detector", detector, detector)]
    if pca is not None:
        rankings.append(Ranking("window PCA", "baseline", pca, pca))
    return SeriesResult(
        name,
        dataset,
        100,
        3,
        20,
        5,
        unused,
        10,
        rankings,
        found or at(),
        budget,
        asked,
        published=dict(published),
    )


def judged(result: SeriesResult) -> Judged:
    curves = {one.name: np.linspace(1, 0, len(RECALLS)) for one in result.rankings}
    drawn = Sketch(100, np.linspace(0, 2, 50), 1.0, 20, [(40, 45)], [41], curves)
    return Judged(result, drawn)


def test_events_of_all_series_count_together() -> None:
    quiet = at(alerts=0, false_alarms=0, detected=0, delays_ticks=[], delays_s=[], nab=-2.0)
    found = totals("all", [series("a", 0.5), series("b", 0.1, found=quiet)])
    assert (found.events, found.detected, found.alerts, found.false_alarms) == (4, 1, 3, 1)
    assert found.precision.value == pytest.approx(2 / 3)
    assert found.recall.value == 0.25
    assert found.f1.value == pytest.approx(2 * (2 / 3) * 0.25 / (2 / 3 + 0.25))
    assert (found.false_alarms_per_hour.value, found.false_alarms_per_series.value) == (0.25, 0.5)
    assert (found.delay_ticks.value, found.median_delay_s) == (4.0, 8.0)
    assert found.nab.value == pytest.approx(100 * (1 - 2 + 4) / 8)
    assert found.recall.interval == (0.0, 0.5)


def test_one_series_has_no_interval_and_what_is_unknown_is_none() -> None:
    nothing = at(
        events=0, detected=0, alerts=0, false_alarms=0, normal_windows=0, normal_above=0,
        delays_ticks=[], delays_s=[], hours=0.0, nab_windows=0, nab=0.0, nab_every_tick=0.0,
    )  # fmt: skip
    found = totals("all", [series("a", None, found=nothing)])
    for mean in (found.precision, found.recall, found.f1, found.share_above, found.nab,
                 found.delay_s, found.false_alarms_per_hour, found.scorers[0].vus_pr):  # fmt: skip
        assert (mean.value, mean.interval) == (None, None)
    assert totals("all", [series("a", 0.5)]).f1.interval is None


def test_others_are_compared_on_the_series_they_share_with_the_detector() -> None:
    results = [series("a", 0.5, 0.6, CNN=0.9), series("b", 0.1, 0.4), series("c", 0.7)]
    whole, pca, cnn = totals("all", results).scorers
    assert whole.vus_pr.value == pytest.approx(1.3 / 3)
    assert (pca.vus_pr.series, pca.vus_pr.value) == (2, 0.5)
    assert pca.ahead.value == pytest.approx(0.2)
    assert (cnn.kind, cnn.vus_pr.series, cnn.vus_pr.value) == ("published", 1, 0.9)
    assert cnn.ahead.value == pytest.approx(0.4)


def test_it_is_said_when_a_part_or_baseline_beats_the_whole() -> None:
    better = totals("all", [series("a", 0.5, 0.6), series("b", 0.1, 0.4)])
    text = "\n".join(sentences(better))
    assert "The baseline window PCA alone beats the whole: VUS-PR 0.500, 0.200 more" in text
    assert "0.100% of normal windows are above the threshold, 0.100% were allowed" in text
    results = [series("a", 0.5, 0.2, budget=1e-4), series("b", 0.4, 0.1, budget=1e-4)]
    worse = totals("all", results)
    text = "\n".join(sentences(worse))
    assert "No view and no baseline alone ranks better than the whole." in text
    assert "10 times the budget" in text
    assert "No baseline was run" in "\n".join(sentences(totals("a", [series("a", 1)])))


def test_datasets_have_means_of_their_own_where_there_are_several() -> None:
    one = [series("a", 0.5, dataset="SMD"), series("b", 0.1, dataset="SMD")]
    assert [found.group for found in groups(one)] == ["all"]
    two = [*one, series("c", 0.9, dataset="MSL")]
    assert [(f.group, f.series) for f in groups(two)] == [
        ("MSL", 1), ("SMD", 2), ("all", 3),
    ]  # fmt: skip


def test_what_fell_back_is_said_beside_what_was_asked() -> None:
    some = at(normal_windows=3000, normal_above=3)
    results = [series("a", 0.5, budget=1e-2, asked=1e-4), series("b", 0.1, found=some, asked=1e-4)]
    found = totals("all", results)
    assert found.fell_back == 2
    assert found.asked == pytest.approx(1e-4)
    assert found.budget == pytest.approx((1000 * 1e-2 + 3000 * 1e-3) / 4000)
    said = "\n".join(sentences(found))
    assert "0.325% were allowed: within the budget" in said
    assert "2 of 2 series have a history that carries no budget of 0.010%" in said
    by_hand = totals("all", [series("a", 0.5, asked=None)])
    assert (by_hand.fell_back, by_hand.asked) == (0, None)


def test_ticks_that_are_not_used_are_said() -> None:
    outcomes = [judged(series("a", 0.5, unused=7)), judged(series("b", 0.5))]
    report = make_report(outcomes, about={})
    assert "7 ticks of 1 of 2 series are not used" in "\n".join(report.sentences)


def test_the_report_is_json_without_nan_and_tables_without_holes() -> None:
    outcomes: list[Outcome] = [judged(series("a", 0.5, CNN=0.25)), Skipped("b", "constant"),
                judged(series("c", None))]  # fmt: skip
    report = make_report(outcomes, about={"what": "w", "baselines": "none"})
    found = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert [one["name"] for one in found["series"]] == ["a", "c"]
    assert found["skipped"] == [{"name": "b", "reason": "constant"}]
    text = markdown(report)
    assert "| a | 100 | 5 | 0.500 | 0.571 | 1 | 0.100% | 0.250 |" in text
    assert "| c | 100 | 5 | - | 0.571 | 1 | 0.100% | - |" in text
    assert "| b | constant |" in text
    assert "1 of 3 series could not be run" in text
    assert "nan" not in text
    empty = make_report([Skipped("b", "constant")], about={})
    assert json.dumps(empty.to_json(), allow_nan=False)
    assert "No series could be evaluated." in markdown(empty)
