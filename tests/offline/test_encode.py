"""Encodings to a file and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.data.encodings import FORMS, Encodings, read_encodings, write_encodings
from detector.errors import DataError, UsageError

WINDOWS = Encodings(
    vectors=np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32),
    series=("a", "b, quoted", "a"),
    time_ns=np.array([1_700_000_001_616_221_189, 0, -1]),
    ticks=np.array([8, 8, 8]),
    label=np.array([0.0, 1.0, np.nan]),
    score=np.array([1 / 3, 2.0, 1e-9]),
    anomalous=np.array([False, True, False]),
)
SEQUENCES = Encodings(
    WINDOWS.vectors, WINDOWS.series, WINDOWS.time_ns, np.array([3, 500, 1]), None, None, None
)


@pytest.mark.parametrize("ending", FORMS)
@pytest.mark.parametrize("found", [WINDOWS, SEQUENCES], ids=["windows", "sequences"])
def test_what_is_read_is_what_was_written_to_the_last_digit(
    tmp_path: Path, found: Encodings, ending: str
) -> None:
    if ending == ".parquet":
        pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    path = tmp_path / f"e{ending}"
    write_encodings(found, path)
    again = read_encodings(path)
    assert again.series == found.series
    for name in ("vectors", "time_ns", "ticks", "label", "score", "anomalous"):
        expected, stored = getattr(found, name), getattr(again, name)
        if expected is None:
            assert stored is None, name
        else:
            np.testing.assert_array_equal(stored, expected, err_msg=name)
            assert stored.dtype == expected.dtype, name
    assert [p.name for p in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("name", [*(f"e{ending}" for ending in FORMS), "e.txt"])
def test_another_file_is_refused(tmp_path: Path, name: str) -> None:
    if name.endswith("parquet"):
        pytest.importorskip("pyarrow", reason="pyarrow is not installed (an extra)")
    with pytest.raises(DataError, match=name):
        read_encodings(tmp_path / name)
    (tmp_path / name).write_text("series,value\na,1\n")
    with pytest.raises(DataError, match=name):
        read_encodings(tmp_path / name)


def test_an_unknown_ending_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\.parquet, \.csv or \.npz"):
        write_encodings(WINDOWS, tmp_path / "e.json")
