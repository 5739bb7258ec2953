"""An old and a new model over the same recorded ticks, without training one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.build import columns, make_pipeline, tick_format
from detector.config import Config, parse_config
from detector.core.incidents import Incident, incident_of_ticks
from detector.core.ticks import Float64, TickBatch
from detector.data.chunks import read_chunks, to_batch
from detector.data.recorded import Recorder, Recording
from detector.errors import DataError
from detector.model.directory import Artifact
from detector.offline.from_topic import train_from_recordings
from detector.offline.succession import compare_models
from tests.artifacts import make_artifact

LENGTH, TICKS, FAULT = 4, 200, slice(180, 186)


def make_config(**sections: Any) -> Config:
    tree: dict[str, Any] = {
        "features": {"value": "value"},
        "threshold": {"method": "fixed", "value": 2.0},
        "training": {"calibration_fraction": 0.2},
        "window": {"length_ticks": LENGTH},
    }
    return parse_config(tree | sections)


CONFIG = make_config()


def values() -> Float64:
    """With a fault among the last fifth."""
    found = np.random.default_rng(0).normal(0, 0.1, TICKS)
    found[FAULT] = 100.0
    return found


def recording(series: str = "a", fields: tuple[str, ...] = ("value",)) -> Recording:
    return Recording(
        "ticks-0",
        tick_format(CONFIG),
        fields,
        (series,),
        np.zeros(TICKS, np.int32),
        np.arange(TICKS) * 10**9,
        values()[:, None],
    )


def incident(begin: int, end: int | None) -> Incident:
    return Incident("a", begin * 10**9, None if end is None else end * 10**9, LENGTH)


@pytest.fixture
def models(tmp_path: Path) -> tuple[Artifact, Artifact]:
    names = ("old", "new")
    old, new = (make_artifact(tmp_path / n, length=LENGTH, seed=i) for i, n in enumerate(names))
    return old, new


def test_both_are_judged_on_the_last_part_without_what_was_alerted_on(
    models: tuple[Artifact, Artifact],
) -> None:
    old, new = models
    one = recording()
    struck = [incident_of_ticks([incident(181, 190)], one.names, one.number, one.time_ns)]
    found = compare_models(CONFIG, old, new, [one], struck)
    left = 181 - LENGTH, 190  # the first and the last tick of the incident
    usual = TICKS - (left[1] - left[0] + 1)
    begin = [i for i in range(TICKS) if not left[0] <= i <= left[1]][round(usual * 0.8)]
    assert (found.ticks, found.series, found.incidents) == (TICKS - begin, 1, 1)
    assert found.days == pytest.approx((TICKS - 1 - begin) / 86400)
    assert found.budget is None
    for artifact, showing in ((old, found.old), (new, found.new)):
        pipeline = make_pipeline(CONFIG, artifact)
        result = pipeline.process(_batch(one))
        windows = [
            score
            for last, score in enumerate(result.score.tolist())
            if last >= begin and not (last - LENGTH < left[1] and last >= left[0])
        ]
        assert showing is not None
        assert showing.model_version == artifact.version
        assert showing.windows == len(windows)
        assert showing.highest_score == max(windows)
        assert showing.median_score == pytest.approx(np.median(windows))
        assert (showing.above, showing.share) == (0, 0.0)
        assert (showing.alerts, showing.alerts_per_day_and_series) == (0, 0.0)
        assert showing.incidents == 1


def _batch(one: Recording) -> TickBatch:
    (chunk,) = read_chunks(one, columns(CONFIG), ("value",))
    return to_batch(chunk)


def test_an_alert_nobody_had_raised_counts_by_day_and_series(
    models: tuple[Artifact, Artifact],
) -> None:
    one, two = recording(), recording("b")
    nothing = [np.full(TICKS, -1)] * 2
    found = compare_models(CONFIG, *models, [one, two], nothing)
    assert (found.incidents, found.series, found.new.alerts) == (0, 2, 2)
    assert found.new.above > 0
    assert found.new.alerts_per_day_and_series == pytest.approx(2 / found.days)
    assert found.days == pytest.approx(2 * 39 / 86400)


def test_the_budget_stands_beside_the_share(models: tuple[Artifact, Artifact]) -> None:
    config = make_config(threshold={"method": "quantile", "false_alarms_per_window": 0.01})
    found = compare_models(config, *models, [recording()], [np.full(TICKS, -1)])
    assert found.budget == 0.01


def test_an_old_model_of_other_features_is_refused_and_the_new_one_shown(
    tmp_path: Path, models: tuple[Artifact, Artifact]
) -> None:
    nothing = [np.full(TICKS, -1)]
    other = make_artifact(tmp_path / "other", {"v": "value"}, length=LENGTH)
    found = compare_models(CONFIG, other, models[1], [recording()], nothing)
    assert found.old is None
    assert "trained on other features" in (found.refused or "")
    assert found.new.windows > 0
    config = make_config(features="auto")
    other = make_artifact(tmp_path / "more", {"v": "pressure"}, length=LENGTH)
    found = compare_models(config, other, models[1], [recording()], nothing)
    assert "has no column 'pressure'" in (found.refused or "")


def test_a_series_that_was_wholly_alerted_on_is_not_judged(
    models: tuple[Artifact, Artifact],
) -> None:
    one, two = recording(), recording("b")
    struck = [
        incident_of_ticks([incident(0, None)], r.names, r.number, r.time_ns) for r in (one, two)
    ]
    found = compare_models(CONFIG, *models, [one, two], struck)
    assert (found.series, found.ticks, found.incidents) == (1, 40, 0)


def test_nothing_left_to_learn_from_is_said_before_training(tmp_path: Path) -> None:
    def ignore(*_: object) -> None:
        pass

    with pytest.raises(DataError, match=r"all 200 ticks lie in alerts \(1\)"):
        train_from_recordings(
            CONFIG,
            [recording()],
            [incident(0, None)],
            tmp_path / "out",
            old=None,
            auto=None,
            progress=ignore,
            read=ignore,
        )
    assert not (tmp_path / "out").exists()


def test_a_recording_is_a_source_whose_rows_are_its_ticks() -> None:
    one = recording()
    recorder = Recorder(since_ns=None, until_ns=None, limit=None)
    batch = _batch(one)
    for begin in range(0, TICKS, 7):
        recorder.add(batch.part(slice(begin, begin + 7)))
    again = recorder.recording("ticks-0", one.form, one.fields)
    assert again is not None
    assert again.sha256() == one.sha256()
    assert list(batch.series) == ["a"] * TICKS
    np.testing.assert_array_equal(batch.time_ns, one.time_ns)
    np.testing.assert_array_equal(batch.values, one.values)
