"""Labelled stretches and the windows they say something of."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.config import Config, parse_config
from detector.data.labels import LabelledStretch, read_labels
from detector.data.sources import DataFile
from detector.errors import DataError
from detector.model.directory import Artifact
from detector.offline.classify import draw, split_in_time
from detector.offline.labelled import LabelledWindows, label_windows, stretch_of
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
    return parse_config({"features": {"value": "value"}, "window": {"length_ticks": LENGTH}})


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


def ticks_of(found: LabelledWindows, rows: np.ndarray[Any, Any]) -> set[tuple[int, int]]:
    """(series, second) of every tick of the windows; there is one a second."""
    return {
        (series, second)
        for series, first, last in zip(
            found.series[rows].tolist(),
            (found.first_ns[rows] // SECOND).tolist(),
            (found.last_ns[rows] // SECOND).tolist(),
            strict=True,
        )
        for second in range(first, last + 1)
    }


def stretches_of(found: LabelledWindows, rows: np.ndarray[Any, Any]) -> set[int]:
    return set(found.stretch[rows][found.kind[rows] > 0].tolist())


def test_the_last_stretches_and_normal_windows_are_held_out(
    artifact: Artifact, data: DataFile
) -> None:
    # Not in order of time: 44 is the last.
    found = labelled(artifact, data, *(fault("a", t, t + 1) for t in (20, 44, 8, 32)))
    training, held_out = split_in_time(found)
    assert stretches_of(found, held_out) == {1}
    assert stretches_of(found, training) == {0, 2, 3}
    normal = [rows[found.kind[rows] == 0] for rows in (training, held_out)]
    assert found.last_ns[normal[0]].max() < found.first_ns[normal[1]].min()
    drawn = draw(found, training, 6, seed=1)
    assert len(set(drawn.tolist())) == 6
    assert np.bincount(found.kind[drawn]).tolist() == [3, 3]


@given(
    starts=st.lists(st.tuples(st.sampled_from("ab"), st.integers(0, 57)), min_size=2, max_size=12)
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # both are only read
)
def test_no_tick_is_learnt_from_and_measured_with(
    artifact: Artifact, data: DataFile, starts: list[tuple[str, int]]
) -> None:
    """However close the stretches lie, those of other kinds and series too."""
    labels = [fault(s, t, t + 1, "xy"[i % 2]) for i, (s, t) in enumerate(starts)]
    try:
        found = labelled(artifact, data, *labels)
        training, held_out = split_in_time(found)
    except DataError as error:
        assert "two are needed" in str(error) or "is left to" in str(error)  # noqa: PT017
        return
    assert not ticks_of(found, training) & ticks_of(found, held_out)
    assert not stretches_of(found, training) & stretches_of(found, held_out)


def test_a_fault_that_flaps_may_leave_nothing_to_learn_from_and_says_so(
    artifact: Artifact, data: DataFile
) -> None:
    found = labelled(artifact, data, *(fault("a", t, t + 1) for t in (40, 43, 46, 49)))
    training, _ = split_in_time(found)
    assert stretches_of(found, training) == {0, 1}, "the third touches the one held out"
    found = labelled(artifact, data, fault("a", 40, 41), fault("a", 43, 44))
    with pytest.raises(DataError, match="no window of kind spike is left to learn from"):
        split_in_time(found)


def test_one_incident_on_two_series_is_held_out_together(
    artifact: Artifact, data: DataFile
) -> None:
    found = labelled(artifact, data, *(fault(s, t, t + 1) for s in "ab" for t in (10, 50)))
    training, held_out = split_in_time(found)
    assert stretches_of(found, held_out) == {1, 3}, "a third of four would be one"
    assert stretches_of(found, training) == {0, 2}


def test_a_stretch_as_long_as_all_others_together_does_not_swallow_them(
    artifact: Artifact, data: DataFile
) -> None:
    """All at the same time would be one incident: then each stretch stands for itself."""
    short = [fault("b", t, t + 1) for t in (8, 20, 32, 44)]
    found = labelled(artifact, data, fault("a", 5, 55), *short)
    training, held_out = split_in_time(found)
    assert stretches_of(found, training) == {0, 1, 2}
    assert stretches_of(found, held_out) == {3, 4}


def test_times_before_1970_are_times(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    rows = [f"a,{second},{second}" for second in range(-90, -30)]
    path.write_text("\n".join(["series,timestamp,value", *rows]) + "\n")
    found = labelled(
        artifact, DataFile(path, "x"), *(fault("a", t, t + 1) for t in (-80, -68, -56, -44))
    )
    training, held_out = split_in_time(found)
    assert (stretches_of(found, training), stretches_of(found, held_out)) == ({0, 1, 2}, {3})


def test_a_label_under_a_later_one_is_not_without_windows(
    artifact: Artifact, data: DataFile
) -> None:
    labels = fault("a", 10, 11), fault("a", 10, 11), fault("a", 30, 31)
    assert labelled(artifact, data, *labels).unmatched == ()
    covered = fault("a", 10, 11, "x"), fault("a", 40, 41, "x"), fault("a", 9, 42), fault("b", 9, 9)
    with pytest.raises(DataError, match=r"0 of 2 labels of kind x .* does a later label cover"):
        labelled(artifact, data, *covered)


def test_of_many_windows_of_a_kind_some_are_drawn(
    artifact: Artifact, data: DataFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detector.offline.labelled._MOST_OF_A_KIND", 6)
    monkeypatch.setattr("detector.offline.labelled._MOST_NORMAL", 9)
    found = labelled(artifact, data, fault("a", 10, 20), fault("a", 40, 50))
    assert np.bincount(found.kind).tolist() == [9, 6]
    assert np.bincount(found.stretch[found.kind > 0]).tolist() == [3, 3], "each its share"
    again = labelled(artifact, data, fault("a", 10, 20), fault("a", 40, 50))
    np.testing.assert_array_equal(found.windows, again.windows)


def test_labels_without_a_window_are_named(artifact: Artifact, data: DataFile) -> None:
    labels = fault("a", 10, 11), fault("a", 900, 901), fault("a", 30, 31), fault("a", 0, 1)
    # The first full window ends at 3 s: an alert might still have opened for the last of them.
    assert labelled(artifact, data, *labels, recent=1).unmatched == (1, 3)


def test_stretches_that_overlap_and_windows_beside_them() -> None:
    first = np.arange(0, 100, 10) * SECOND
    labels = {4: fault("a", 20, 40), 9: fault("a", 40, 41)}
    found, matched = stretch_of(first, first + 8 * SECOND, first + 9 * SECOND, labels)
    assert matched == {4}, "of 9 no window holds a newest tick"
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
    marked = b"\xef\xbb\xbf" + (tmp_path / "labels.csv").read_bytes()  # as Excel writes it
    (tmp_path / "labels.csv").write_bytes(marked)
    assert read_labels(tmp_path / "labels.csv") == expected


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("l.json", "[", r"l\.json: is no JSON \(.*line 1"),
        ("l.json", "[]", "holds no label"),
        ("l.json", "[" * 200_000, "is no JSON"),
        ("l.csv", "series,kind,start,end\n" + "a" * 200_000, "is no CSV"),
        ("l.json", '[{"series": "a", "kind": " normal"}]', "label 1: kind ' normal'"),
        ("l.json", '{"a": 1}', "must be a list of labels"),
        ("l.json", "[7]", "label 1 is no object"),
        ("l.json", '[{"series": "a"}]', "label 1: kind must be a text, is None"),
        ("l.json", '[{"series": "a", "kind": null}]', "label 1: kind must be a text, is None"),
        ("l.json", '[{"series": "a", "kind": "x", "start_ns": Infinity}]', "nanoseconds .* is inf"),
        ("l.json", '[{"series": "a", "kind": "x", "start_ns": true}]', "nanoseconds .* is True"),
        (
            "l.json",
            '[{"series": "a", "kind": "x", "start_ns": 1, "end_ns": 1' + 30 * "0" + "}]",
            "label 1: end_ns must be nanoseconds",
        ),
        ("l.csv", "", "has no column series, kind, start, end"),
        ("l.csv", "series,kind,start\na,x,2014-01-01\n", "has no column end"),
        (
            "l.csv",
            "series,kind,start,end\na,x,2014-01-01,2014-01-02\na,x,2014-01-01\n",
            "line 3: end must be a time in ISO 8601, is None",
        ),
        ("l.csv", "series,kind,start,end\na,x,2014-01-01,9999-01-02\n", "line 2: end must be"),
        ("l.json", '[{"series": "a", "kind": "normal", "start_ns": 1, "end_ns": 1}]', "normal"),
        ("l.json", '[{"series": "a", "kind": "x", "start_ns": 2, "end_ns": 1}]', "ends before"),
        ("l.csv", "series,kind,start,end\na,x,noon,noon\n", "line 2: start .* is 'noon'"),
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


def test_data_without_a_usable_tick_has_no_series(artifact: Artifact, tmp_path: Path) -> None:
    path = tmp_path / "nothing.csv"
    path.write_text("series,timestamp,value\na,1,nan\na,2,nan\n")
    with pytest.raises(DataError, match="does not have: a; the data has none"):
        labelled(artifact, DataFile(path, "x"), fault("a", 1, 2))


@pytest.mark.parametrize(
    ("labels", "says"),
    [
        ([fault("c", 10, 11), fault("a", 10, 11)], "series that the data does not have: c; .*a, b"),
        (
            [fault("a", 10, 11)],
            "1 of 1 labels of kind spike have full windows of their own",
        ),
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
