"""Tables of series, with whatever is wrong in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.config import parse_config
from detector.errors import DataError
from detector.evaluate.manifest import Row, read_manifest
from detector.evaluate.prefixes import evaluate_row
from detector.evaluate.results import Skipped

HEAD = "file,dataset,ticks,features,prefix,vus_width,anomalous,CNN,PCA\n"


def manifest(directory: Path, *rows: str, head: str = HEAD) -> Path:
    path = directory / "manifest.csv"
    path.write_text(head + "".join(f"{row}\n" for row in rows))
    return path


def series(directory: Path, name: str, labels: str, *, value: str = "{n}") -> None:
    rows = (f"{n},{value.format(n=n)},{label}\n" for n, label in enumerate(labels))
    (directory / name).write_text("timestamp,f00,label\n" + "".join(rows))


def reason(row: Row) -> str:
    found = evaluate_row(parse_config({}), row)
    assert isinstance(found, Skipped)
    assert found.name == row.name
    return found.reason


def test_a_row_says_what_to_train_on_and_what_others_reached(tmp_path: Path) -> None:
    series(tmp_path, "a.csv", "0001")
    (row,) = read_manifest(manifest(tmp_path, "a.csv,SMD,4,1,2,10,1,0.5,"))
    assert (row.path, row.dataset, row.prefix, row.vus_width) == (tmp_path / "a.csv", "SMD", 2, 10)
    assert (row.ticks, row.anomalous, row.wrong) == (4, 1, "")
    assert row.published == {"CNN": 0.5}


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    (row,) = read_manifest(manifest(tmp_path, "gone.csv,SMD,4,1,2,10,1,,"))
    expected = f"the manifest names a file that is not there: {tmp_path / 'gone.csv'}"
    assert reason(row) == expected
    (row,) = read_manifest(manifest(tmp_path, ",SMD,4,1,2,10,1,,"))
    assert reason(row) == "the manifest names no file"


def test_cells_that_are_no_numbers_are_named(tmp_path: Path) -> None:
    series(tmp_path, "a.csv", "0001")
    (row,) = read_manifest(manifest(tmp_path, "a.csv,SMD,4,1,half,,1,good,nan"))
    text = reason(row)
    assert "prefix of the manifest is no whole number: 'half'" in text
    assert "vus_width of the manifest is no whole number: ''" in text
    assert "CNN of the manifest is no number: 'good'" in text
    assert "PCA of the manifest is no number: 'nan'" in text


def test_a_table_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has no column prefix, vus_width"):
        read_manifest(manifest(tmp_path, "a.csv", head="file\n"))
    with pytest.raises(DataError, match="names no series"):
        read_manifest(manifest(tmp_path))
    with pytest.raises(DataError, match="No such file"):
        read_manifest(tmp_path / "gone.csv")


@pytest.mark.parametrize(
    ("labels", "row", "expected"),
    [
        ("0001", "5,1,2,10,1", "holds 4 ticks, 5 by the manifest: labels and ticks do not align"),
        ("0011", "4,1,2,10,1", "2 ticks are labelled, 1 by the manifest"),
        ("0000", "4,1,2,10,0", "no tick is labelled as anomalous"),
        ("1111", "4,1,2,10,4", "every tick is labelled as anomalous"),
        ("0001", "4,1,9,10,1", "a prefix of 9 ticks leaves nothing of 4 to judge"),
        ("0001", "4,1,0,10,1", "a prefix of 0 ticks leaves nothing"),
        (("0", "", "0", "1"), ",,2,10,", "row 2 has no label"),
    ],
)
def test_series_that_cannot_be_run_say_why_before_they_cost_a_training(
    tmp_path: Path, labels: str, row: str, expected: str
) -> None:
    series(tmp_path, "a.csv", labels)
    (found,) = read_manifest(manifest(tmp_path, f"a.csv,SMD,{row},,"))
    assert reason(found).startswith(expected)


@pytest.mark.training
def test_a_history_too_short_to_learn_from_is_a_reason(tmp_path: Path) -> None:
    series(tmp_path, "a.csv", "0" * 40 + "1")
    (row,) = read_manifest(manifest(tmp_path, "a.csv,SMD,,,20,10,,,"))
    assert reason(row)
