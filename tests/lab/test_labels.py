"""Labelled stretches and the windows they say something of."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from detector.artifact import Artifact
from detector.config import Config, parse_config
from detector.errors import DataError
from detector.lab.classify import draw, split_in_time
from detector.lab.datasets import DataFile
from detector.lab.labels import (
    LabelledStretch,
    LabelledWindows,
    label_windows,
    read_labels,
    stretch_of,
)
from tests.artifacts import make_artifact

LENGTH, TICKS, SECOND = 4, 60, 10**9


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return make_artifact(tmp_path / "model", length=LENGTH)


@pytest.fixture
def data(tmp_path: Path) -> DataFile:
    """Series a and b in turn, a tick a second each, whose value is its time."""
    path = tmp_path / "data.csv"
    rows = [f"{name},{second},{second}" for second in range(TICKS) for name in "ab"]
    path.write_text("\n".join(["series,timestamp,value", *rows]) + "\n")
    return DataFile(path, "x")


def config() -> Config:
    return parse_config({"features": {"value": "value"}, "window": {"length": LENGTH}})


def labelled(
    artifact: Artifact, data: DataFile, *labels: LabelledStretch, recent: int = 1
) -> LabelledWindows:
    return label_windows(
        artifact, config(), [data], labels, recent=recent, seed=0, read=lambda _: None
    )


def fault(series: str, start: int, end: int, kind: str = "spike") -> LabelledStretch:
    return LabelledStretch(series, start * SECOND, end * SECOND, kind)


def test_a_window_is_of_the_kind_one_of_its_newest_ticks_has(
    artifact: Artifact, data: DataFile
) -> None:
    spikes = fault("a", 10, 11), fault("a", 30, 30)
    others = fault("b", 50, 50, "x"), fault("b", 20, 20, "x")
    found = labelled(artifact, data, *spikes, *others)
    assert found.classes == ("normal", "spike", "x")
    by_kind = {
        kind: sorted((found.last_ns[found.kind == i] // SECOND).tolist())
        for i, kind in enumerate(found.classes)
    }
    # An alert may open a tick later, so that one counts; what only trails a fault is left out.
    assert by_kind["spike"] == [10, 11, 12, 30, 31]
    assert by_kind["x"] == [20, 21, 50, 51]
    trailing = {("a", t) for t in (13, 14, 32, 33)} | {("b", t) for t in (22, 23, 52, 53)}
    assert len(by_kind["normal"]) == 2 * (TICKS - LENGTH + 1) - 9 - len(trailing)
    # The windows are those of the times: the value of a tick is its second.
    np.testing.assert_array_equal(found.windows[:, -1, 0], found.last_ns / SECOND)
    np.testing.assert_array_equal(found.windows[:, 0, 0], found.first_ns / SECOND)


def test_no_tick_is_learnt_from_and_measured_with(artifact: Artifact, data: DataFile) -> None:
    faults = [fault("a", t, t + 1) for t in (8, 20, 32, 44)]
    found = labelled(artifact, data, *faults)
    training, held_out = split_in_time(found)
    assert not set(found.stretch[training][found.kind[training] > 0].tolist()) & set(
        found.stretch[held_out][found.kind[held_out] > 0].tolist()
    )
    assert set(found.stretch[held_out][found.kind[held_out] > 0].tolist()) == {3}
    normal = [rows[found.kind[rows] == 0] for rows in (training, held_out)]
    assert found.last_ns[normal[0]].max() < found.first_ns[normal[1]].min()
    drawn = draw(found, training, 6, seed=1)
    assert len(set(drawn.tolist())) == 6
    assert np.bincount(found.kind[drawn]).tolist() == [3, 3]


def test_stretches_that_overlap_and_windows_beside_them() -> None:
    first = np.arange(0, 100, 10) * SECOND
    labels = {4: fault("a", 20, 40), 9: fault("a", 40, 41)}
    found = stretch_of(first, first + 8 * SECOND, first + 9 * SECOND, labels)
    assert found.tolist() == [-1, -1, 4, 4, -2, -1, -1, -1, -1, -1]


def test_labels_are_read_from_json_and_csv(tmp_path: Path) -> None:
    expected = [fault("a", 1, 2), fault("b", 3, 3, "frozen")]
    rows = [
        {"series": o.series, "kind": o.kind, "start_ns": o.start_ns, "end_ns": o.end_ns}
        for o in expected
    ]
    (tmp_path / "labels.json").write_text(json.dumps(rows))
    assert read_labels(tmp_path / "labels.json") == expected
    (tmp_path / "labels.csv").write_text(
        "series,kind,start,end\n"
        "a,spike,1970-01-01T00:00:01Z,1970-01-01T00:00:02Z\n"
        "b,frozen,1970-01-01T00:00:03Z,1970-01-01T00:00:03Z\n"
    )
    assert read_labels(tmp_path / "labels.csv") == expected


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("l.json", "[", "no list of labels"),
        ("l.json", "[]", "holds no label"),
        ("l.json", '[{"series": "a"}]', "kind, start_ns, end_ns"),
        ("l.json", '[{"series": "a", "kind": "normal", "start_ns": 1, "end_ns": 1}]', "normal"),
        ("l.json", '[{"series": "a", "kind": "x", "start_ns": 2, "end_ns": 1}]', "ends before"),
        ("l.csv", "series,kind,start,end\na,x,noon,noon\n", "no list of labels"),
        ("l.csv", None, "No such file"),
    ],
)
def test_labels_that_cannot_be_used_are_refused(
    tmp_path: Path, name: str, content: str | None, says: str
) -> None:
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises(DataError, match=says):
        read_labels(tmp_path / name)


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([fault("c", 10, 11), fault("a", 10, 11)], "series that the data does not have: c; .*a, b"),
        ([fault("a", 10, 11)], "1 of 1 labels of kind spike have full windows, two are needed"),
        ([fault("a", 900, 911), fault("a", 990, 999)], r"0 of 2 labels .* \(UTC\)"),
        (
            [fault(s, a, b) for s in "ab" for a, b in ((0, 30), (31, TICKS))],
            "no full window is free of labels",
        ),
    ],
)
def test_labels_that_do_not_match_the_data_are_refused_with_what_is_wrong(
    artifact: Artifact, data: DataFile, labels: list[LabelledStretch], says: str
) -> None:
    with pytest.raises(DataError, match=says):
        labelled(artifact, data, *labels)
