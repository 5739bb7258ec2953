"""Drifts as they are injected, and what is told of them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.config import Config, parse_config
from detector.core.ticks import Float64
from detector.data.sources import DataFile
from detector.evaluate.drift import DRIFTS, Drift, Usual, drifted, usual
from detector.evaluate.drift_table import drift_table
from detector.evaluate.drift_totals import pooled_drifts
from detector.evaluate.drifting import (
    WITHIN,
    after_drifts,
    back_after,
    judged,
    place_of_drift,
    read_series,
)
from detector.evaluate.evaluating import evaluate_files
from detector.evaluate.judging import Truth
from detector.evaluate.labelled import score_labelled
from detector.evaluate.results import AfterDrift, Judged
from detector.model.directory import Artifact
from tests.artifacts import make_artifact
from tests.evaluate.test_totals import series

LENGTH, TICKS, PREFIX = 8, 3000, 400


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("model") / "m", length=LENGTH, evidence=True)


@pytest.fixture
def config() -> Config:
    return parse_config(
        {
            "features": {"value": "value"},
            "window": {"length_ticks": LENGTH},
            "threshold": {"false_alarms_per_window": 0.01},
        }
    )


def write(path: Path, *, labelled: bool = True, ticks: int = TICKS) -> DataFile:
    values = np.random.default_rng(2).normal(0, 1, ticks)
    spikes = (1000, 1001, 2400, 2401)
    rows = [
        f"{n},{v + 20 * (n in spikes)}" + (f",{int(n in spikes)}" if labelled else "")
        for n, v in enumerate(values)
    ]
    head = "timestamp,value" + (",label" if labelled else "")
    path.write_text(head + "\n" + "\n".join(rows) + "\n")
    return DataFile(path, "a")


_columns = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60).map(
    lambda column: np.stack([np.array(column), np.full(len(column), 7.0)], axis=1)
)


@given(values=_columns, drift=st.sampled_from(DRIFTS), at=st.integers(0, 60))
@settings(deadline=None)
def test_a_drift_is_the_same_however_it_is_cut(values: Float64, drift: Drift, at: int) -> None:
    known, rest = usual(values), len(values)
    whole = drifted(values, drift, known, since=0, rest=rest, length=4)
    parts = [
        drifted(values[:at], drift, known, since=0, rest=rest, length=4),
        drifted(values[at:], drift, known, since=min(at, rest), rest=rest, length=4),
    ]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert (whole[:, 1] == 7.0).all(), "a field that never changes stays"
    if drift.kind == "none":
        assert whole is values


@given(values=_columns, amount=st.sampled_from([3.0, 10.0]), slow=st.booleans())
@settings(deadline=None)
def test_a_level_is_so_many_spreads_higher_once_it_is_complete(
    values: Float64, amount: float, slow: bool
) -> None:
    known, rest = usual(values), len(values)
    drift = Drift("level", amount, slow)
    moved = drifted(values, drift, known, since=0, rest=rest, length=4) - values
    ramp = drift.ramp_ticks(rest)
    expected = amount * known.spread[0]
    np.testing.assert_allclose(moved[ramp:, 0], expected, rtol=1e-6, atol=1e-6)
    assert (np.diff(moved[:, 0]) >= -1e-6).all()
    assert ramp <= rest / 4


@given(values=_columns, factor=st.sampled_from([2.0, 0.5]))
@settings(deadline=None)
def test_a_scale_multiplies_what_is_above_and_below_the_median(
    values: Float64, factor: float
) -> None:
    known = usual(values)
    drift = Drift("scale", factor, slow=False)
    found = drifted(values, drift, known, since=0, rest=len(values), length=4)
    if known.spread[0] > 0:
        expected = known.centre + factor * (values - known.centre)
        np.testing.assert_allclose(found[:, 0], expected[:, 0], rtol=1e-9, atol=1e-6)


def test_a_season_returns_after_ten_windows() -> None:
    still, known = np.zeros((200, 1)), Usual(np.zeros(1), np.ones(1))
    drift = Drift("season", 3.0, slow=False)
    swing = drifted(still, drift, known, since=0, rest=200, length=8)[:, 0]
    np.testing.assert_allclose(swing[80:160], swing[:80], atol=1e-9)
    assert swing.max() == pytest.approx(3.0)
    assert swing.min() == pytest.approx(-3.0)


def test_a_field_that_mostly_stands_still_has_a_spread_and_one_without_values_has_none() -> None:
    values = np.zeros((100, 2))
    values[:5, 0] = 1.0
    values[:, 1] = np.nan
    known = usual(values)
    assert known.spread[0] == pytest.approx(values[:, 0].std())
    assert known.spread[1] == 0.0


@given(
    above=st.lists(st.booleans(), min_size=1, max_size=60),
    begin=st.integers(0, 60),
    ramp=st.integers(0, 30),
    most=st.sampled_from([1e-4, 0.1]),
)
@settings(deadline=None)
def test_it_is_back_when_a_stretch_is_quiet_again(
    above: Sequence[bool], begin: int, ramp: int, most: float
) -> None:
    n = len(above)
    tick, flags = np.arange(n), np.array(above)
    share = [np.mean(flags[max(0, i + 1 - WITHIN) : i + 1]) for i in range(n)]
    over = [i for i in range(begin, n) if share[i] > most]
    expected: int | None = 0
    if over:
        later = (i for i in range(max(over[0], begin + ramp), n) if share[i] <= most)
        expected = next((i - begin for i in later), None)
    assert back_after(tick, flags, begin=begin, ramp=ramp, most=most) == expected


def test_one_burst_is_forgotten_once_it_has_left_the_stretch() -> None:
    flags = np.zeros(2000, np.bool_)
    flags[700:720] = True
    back = back_after(np.arange(2000), flags, begin=650, ramp=0, most=3e-4)
    assert back == 719 + WITHIN - 650
    assert back_after(np.arange(1000), flags[:1000], begin=650, ramp=0, most=3e-4) is None


def test_nothing_injected_is_what_the_uninterrupted_pipeline_says(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    file = write(tmp_path / "a.csv")
    scored, opened = score_labelled(config, artifact, file)
    one = scored["a"]
    truth = Truth("a", one.time_ns, one.labels, PREFIX, LENGTH)
    begin = place_of_drift(truth, one.score)
    assert begin is not None
    raw = read_series(config, artifact, file)["a"]
    found = after_drifts(config, artifact, raw, truth, DRIFTS, begin=begin)
    times_ns = np.array([a.time_ns for a in opened if a.time_ns >= one.time_ns[begin]], np.int64)
    threshold = -float(np.log10(0.01))
    assert found[0] == judged(
        truth, DRIFTS[0], one.score, threshold, times_ns, begin=begin, budget=0.01
    )
    assert found[0].alerts > 0
    again = after_drifts(config, artifact, raw, truth, DRIFTS[:3], begin=begin)
    assert again == found[:3], "a drift does not depend on its neighbours"
    level = next(f for f in found if f.drift == "level +10, sudden")
    assert level.first_above > 5 * found[0].first_above
    assert level.before_above == found[0].before_above
    assert (level.before, level.first, level.later) == (
        found[0].before, found[0].first, found[0].later,
    )  # fmt: skip


def evaluate(config: Config, artifact: Artifact, file: DataFile, **options: Any) -> Judged:
    (found,) = evaluate_files(
        config, artifact, [file], train=[], prefix=PREFIX, windows=None, done=lambda _: None,
        **options,
    )  # fmt: skip
    assert isinstance(found, Judged)
    return found


def test_a_file_without_labels_is_normal_where_drifts_are_injected(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    file = write(tmp_path / "a.csv", labelled=False)
    result = evaluate(config, artifact, file, drifts=DRIFTS[:2]).result
    assert [one.drift for one in result.drifts] == ["nothing injected", "level +3, sudden"]
    assert result.labelled == 0
    assert "no tick is labelled: nothing to rank" in result.notes


def test_a_series_that_is_too_short_is_left_as_it_is_and_this_is_said(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    file = write(tmp_path / "a.csv", ticks=1300)
    result = evaluate(config, artifact, file, drifts=DRIFTS).result
    assert result.drifts == []
    assert "no drift injected: fewer than 500 normal windows would follow" in result.notes


def after(name: str, back: int | None) -> AfterDrift:
    return AfterDrift(name, 900, 0, 4, 500, 1, 500, 50, 400, 4, 3, 0, back, 1000)


def test_over_series_it_is_told_how_many_came_back() -> None:
    found = []
    for name, back in (("a", 600), ("b", None), ("c", 0)):
        found.append(series(name, 0.5))
        found[-1].drifts.append(after("level +3, slow", back))
    (all_three,) = pooled_drifts(found)
    shares = (all_three.share_before, all_three.share_first, all_three.share_later)
    assert shares == (0.002, 0.1, 0.01)
    assert (all_three.series, all_three.disturbed, all_three.back) == (3, 2, 1)
    (row,) = drift_table([all_three]).rows
    assert row[1:6] == ("2 of 3", "0.2 %", "10 %", "1 %", "9")
    assert row[6] == "median 600; 1 of 2 not within 1,000"
    said = [drift_table(pooled_drifts([one])).rows[0][6] for one in found]
    assert said == ["600", "not within 1,000", "-"]
