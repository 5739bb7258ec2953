"""Files and a model: what is judged, what is skipped and why, and what is scored beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detector.config import Config, parse_config
from detector.core.stretches import cut
from detector.core.ticks import Float32, Float64
from detector.data.sources import DataFile
from detector.errors import DataError
from detector.evaluate import evaluating
from detector.evaluate.evaluating import Outcome, evaluate_files
from detector.evaluate.labelled import score_labelled
from detector.evaluate.recording import read_recordings
from detector.evaluate.results import Judged, Skipped
from detector.evaluate.windows_file import read_windows, windows_of_file
from detector.model.directory import Artifact
from tests.artifacts import make_artifact

LENGTH = 8


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("model") / "model", length=LENGTH)


@pytest.fixture
def config() -> Config:
    return parse_config(
        {
            "features": {"value": "value"},
            "window": {"length_ticks": LENGTH},
            "threshold": {"method": "fixed", "value": 1.0},
            "alerts": {"open_after": 1, "of_last": 1, "resolve_after": 1},
        }
    )


def write(path: Path, ticks: int = 300, *, label: Any = None, value: Any = None) -> DataFile:
    """A quiet series with a spike of three ticks at 200, labelled if label is not given."""
    values = np.random.default_rng(1).normal(0, 0.1, ticks) if value is None else value
    spike = np.zeros(ticks)
    spike[200:203] = 1.0
    labels = spike if label is None else label
    rows = [
        f"{n},{v + 50 * s if value is None else v},{'' if mark != mark else int(mark)}"
        for n, (v, s, mark) in enumerate(zip(values, spike, labels, strict=True))
    ]
    path.write_text("timestamp,value,label\n" + "\n".join(rows) + "\n")
    return DataFile(path, path.stem)


def evaluate(config: Config, artifact: Artifact, *files: DataFile, **options: Any) -> list[Outcome]:
    given: dict[str, Any] = {"train": [], "prefix": 0, "windows": None, "done": lambda _: None}
    return evaluate_files(config, artifact, list(files), **(given | options))


def reason(found: list[Outcome]) -> str:
    assert len(found) == 1
    assert isinstance(found[0], Skipped)
    return found[0].reason


def test_a_spike_is_found_and_everything_beside_the_detector_ranks_it(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    found = evaluate(config, artifact, write(tmp_path / "a.csv"), prefix=150)
    assert isinstance(found[0], Judged)
    result = found[0].result
    assert (result.name, result.ticks, result.prefix, result.labelled) == ("a", 300, 150, 3)
    names = [one.name for one in result.rankings]
    assert names[:3] == ["detector", "window PCA", "window statistics"]
    assert set(names) | set(result.left_out) >= {"last value", "isolation forest"}
    assert all(one.vus_pr is not None and one.vus_pr > 0.1 for one in result.rankings)
    assert (result.at_threshold.events, result.at_threshold.detected) == (1, 1)
    assert result.at_threshold.delays_ticks == [0]
    assert set(found[0].sketch.curves) == set(names)


def test_baselines_learn_from_the_prefix_of_every_series_of_a_file(
    tmp_path: Path, config: Config, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.csv"
    rows = [f"{'ab'[n >= 100]},{n},{n % 7},{int(n % 100 > 90)}" for n in range(200)]
    path.write_text("series,timestamp,value,label\n" + "\n".join(rows) + "\n")
    learned: list[Float32] = []

    def fit(rows: Float32) -> evaluating.Beside:
        learned.append(rows)
        return evaluating.Beside({}, {})

    monkeypatch.setattr(evaluating, "fit_baselines", fit)
    evaluate(config, artifact, DataFile(path, "x"), prefix=30)
    expected = [n % 7 for n in (*range(30), *range(100, 130))]
    assert [rows[:, 0].tolist() for rows in learned] == [expected]


def test_without_normal_ticks_there_is_no_baseline(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    found = evaluate(config, artifact, write(tmp_path / "a.csv"))
    assert isinstance(found[0], Judged)
    assert [one.name for one in found[0].result.rankings] == ["detector"]


def test_baselines_that_lack_ticks_are_named_and_the_others_go_on(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    found = evaluate(config, artifact, write(tmp_path / "a.csv"), prefix=70)
    assert isinstance(found[0], Judged)
    left_out = found[0].result.left_out
    assert left_out["window statistics"] == "needs 128 normal ticks to learn from, has 70"
    assert found[0].result.ranking("nearest windows") is not None


def test_baselines_learn_from_the_last_ticks_where_there_are_many(
    tmp_path: Path, config: Config, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [write(tmp_path / f"{name}.csv") for name in "abc"]
    whole = evaluating.normal_rows(config, artifact.features, files)
    assert len(whole) == 900
    monkeypatch.setattr(evaluating, "_MOST_NORMAL", 450)
    last = evaluating.normal_rows(config, artifact.features, files)
    np.testing.assert_array_equal(last, whole[-450:])
    assert len(evaluating.normal_rows(config, artifact.features, [])) == 0


def test_a_label_that_is_missing_is_named_by_its_row(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    label = np.zeros(300)
    label[41] = np.nan
    text = reason(evaluate(config, artifact, write(tmp_path / "a.csv", label=label)))
    assert text.startswith("row 42 has no label")
    (tmp_path / "b.csv").write_text("timestamp,value\n1,2\n")
    text = reason(evaluate(config, artifact, DataFile(tmp_path / "b.csv", "b")))
    assert text == "has no column 'label' (input.label_field)"


def test_a_series_of_anomalies_alone_is_skipped(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    found = evaluate(config, artifact, write(tmp_path / "a.csv", label=np.ones(300)))
    assert reason(found).startswith("every tick is labelled")


def test_a_series_without_anomaly_counts_at_the_threshold_and_ranks_nothing(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    found = evaluate(config, artifact, write(tmp_path / "a.csv", label=np.zeros(300)))
    assert isinstance(found[0], Judged)
    result = found[0].result
    assert result.notes == ["no tick is labelled: nothing to rank"]
    assert [one.vus_pr for one in result.rankings] == [None]
    assert result.at_threshold.false_alarms > 0


def test_ticks_of_no_use_are_noted(tmp_path: Path, config: Config, artifact: Artifact) -> None:
    file = write(tmp_path / "a.csv")
    head, *rows = file.path.read_text().splitlines()
    rows[10] = rows[10].replace(",0.", ",nan").replace(",-0.", ",nan")
    rows[190:210] = rows[190:210][::-1]  # the spike comes late
    file.path.write_text("\n".join([head, *rows]) + "\n")
    found = evaluate(config, artifact, file)
    assert isinstance(found[0], Judged)
    note = "20 of 300 ticks are not used: 19 late, 1 rejected, 3 of them labelled as anomalous"
    assert note in found[0].result.notes
    assert found[0].result.unused == 20


def test_a_constant_series_is_skipped(tmp_path: Path, config: Config, artifact: Artifact) -> None:
    found = evaluate(config, artifact, write(tmp_path / "a.csv", value=np.full(300, 4.0)))
    assert reason(found) == "constant: no feature ever changes"


def test_a_series_shorter_than_the_window_is_skipped(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("timestamp,value,label\n" + "".join(f"{n},{n},{n % 2}\n" for n in range(7)))
    text = reason(evaluate(config, artifact, DataFile(path, "a")))
    assert text == "no full window: 7 ticks in a row can be used, a window has 8"


def test_one_bad_file_does_not_end_the_others(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    gone, good = DataFile(tmp_path / "gone.csv", "gone"), write(tmp_path / "a.csv")
    seen: list[str] = []
    first, second = evaluate(config, artifact, gone, good, done=seen.append)
    assert isinstance(first, Skipped)
    assert first.name == gone.name
    assert isinstance(second, Judged)
    assert seen == [gone.name, good.name]


def test_series_of_one_name_in_two_files_are_told_apart(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    (tmp_path / "b").mkdir()
    first, second = write(tmp_path / "a.csv"), write(tmp_path / "b" / "a.csv")
    other = write(tmp_path / "c.csv")
    found = evaluate(config, artifact, first, second, other)
    names = [one.result.name for one in found if isinstance(one, Judged)]
    assert names == [f"{first.path}: a", f"{second.path}: a", "c"]


def test_windows_of_time_label_the_ticks_within_both_ends(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    file = write(tmp_path / "a.csv", label=np.zeros(300))
    table = tmp_path / "windows.json"
    table.write_text(json.dumps({"a.csv": [["1970-01-01 00:03:20", "1970-01-01 00:03:29"]]}))
    found = evaluate(config, artifact, file, windows=read_windows(table))
    assert isinstance(found[0], Judged)
    assert found[0].result.labelled == 10
    assert found[0].sketch.labelled == [(200, 210)]
    table.write_text(json.dumps({"a.csv": [["1980-01-01", "1980-01-02"]]}))
    text = reason(evaluate(config, artifact, file, windows=read_windows(table)))
    assert text == "1 of 1 windows hold no tick: labels and ticks do not align"


def test_windows_belong_to_the_file_whose_path_ends_as_they_say(tmp_path: Path) -> None:
    windows = {"x/a.csv": [(1, 2)], "y/a.csv": [(3, 4)]}
    assert windows_of_file(windows, Path("/data/y/a.csv")) == [(3, 4)]
    with pytest.raises(DataError, match="does not name it"):
        windows_of_file(windows, Path("/data/z/a.csv"))
    (tmp_path / "w.json").write_text('{"a.csv": [["now", "then"]]}')
    with pytest.raises(DataError, match="must be JSON like"):
        read_windows(tmp_path / "w.json")


def test_views_are_ranked_beside_the_whole_by_the_evidence_of_the_same_windows(
    tmp_path: Path, config: Config
) -> None:
    artifact = make_artifact(tmp_path / "model", length=LENGTH, evidence=True)
    file = write(tmp_path / "a.csv")
    found = evaluate(config, artifact, file)
    assert isinstance(found[0], Judged)
    kinds = {one.name: one.kind for one in found[0].result.rankings}
    assert kinds == {"detector": "detector"} | dict.fromkeys(artifact.calibrated().views, "view")
    one = score_labelled(config, artifact, file)[0]["a"]
    (run,) = read_recordings(config, artifact.features, file)["a"].runs
    windows = cut(run[1], np.arange(len(run[1]) - LENGTH + 1), LENGTH)
    expected = artifact.calibrated().evidence(artifact.open_scorer(threads=1).look(windows).views)
    np.testing.assert_allclose(one.views[LENGTH - 1 :], expected, rtol=1e-4)
    assert np.isnan(one.views[: LENGTH - 1]).all()


def test_recordings_and_the_pipeline_keep_the_same_ticks(
    tmp_path: Path, config: Config, artifact: Artifact
) -> None:
    """Two series in turn, with a tick that cannot be used, one late and one twice."""
    path = tmp_path / "a.csv"
    rows = [f"{'ab'[n % 2]},{n},{np.sin(n):.4f},{int(n > 150)}" for n in range(200)]
    rows[50] = "a,50,,0"
    rows[80] = "a,20,1.0,0"
    rows[91] = rows[89]
    path.write_text("series,timestamp,value,label\n" + "\n".join(rows) + "\n")
    file = DataFile(path, "x")
    scored, _ = score_labelled(config, artifact, file)
    recordings = read_recordings(config, artifact.features, file)
    assert list(scored) == list(recordings) == ["a", "b"]
    for name, one in scored.items():
        score = one.score
        recording = recordings[name]
        assert recording.ticks == len(score) == 100

        def warmed(rows: Float32) -> Float64:
            return np.where(np.arange(len(rows)) < LENGTH - 1, np.nan, 1.0)

        np.testing.assert_array_equal(np.isnan(recording.scored(warmed)), np.isnan(score))
