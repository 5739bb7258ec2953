"""Quotes of a file, by series, in stretches that can be compared."""

from __future__ import annotations

from pathlib import Path

import pytest

from detector.build import columns
from detector.config import parse_config
from detector.data.recorded_quotes import RecordedQuotes, read_quotes
from detector.data.sources import DataFile
from detector.errors import DataError


def read(path: Path, text: str) -> dict[str, RecordedQuotes]:
    path.write_text(text)
    return read_quotes(DataFile(path, "X"), columns(parse_config({})))


def test_each_series_has_its_quotes_and_its_least_step(tmp_path: Path) -> None:
    found = read(
        tmp_path / "q.csv",
        "series,timestamp,bid,ask\nA,1,0.86164,0.8617\nB,1,100.5,101\nA,2,0.86166,0.8617\n"
        "B,2,101,101.5\nA,3,,0.8617\nA,4,0.86165,0.8618\n",
    )
    assert list(found) == ["A", "B"]
    assert found["A"].bid.tolist() == [0.86164, 0.86166, 0.86165]
    assert found["A"].time_ns.tolist() == [10**9, 2 * 10**9, 4 * 10**9]
    assert found["A"].tick == pytest.approx(1e-5)
    assert found["B"].tick == 0.5


def test_a_bid_that_never_moves_has_no_step(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"q\.csv: the bid of X never moves"):
        read(tmp_path / "q.csv", "timestamp,bid,ask\n1,5,6\n2,5,7\n")


def test_stretches_are_spread_over_the_whole(tmp_path: Path) -> None:
    rows = "".join(f"{i},{i},{i + 1}\n" for i in range(1, 101))
    quotes = read(tmp_path / "q.csv", "timestamp,bid,ask\n" + rows)["X"]
    parts = quotes.stretches(10, most=3)
    assert [part.bid[0] for part in parts] == [1, 41, 91]
    assert {len(part.bid) for part in parts} == {10}
    (whole,) = quotes.stretches(1000, most=3)
    assert len(whole.bid) == 100
