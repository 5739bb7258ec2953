"""Files of several kinds, good and damaged: ticks, or a DataError that names file and place."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.moments import TimestampUnit, parse_moment
from detector.core.tick_format import TickFormat
from detector.data import tables
from detector.data.chunks import Chunk, Columns, auto_fields, read_chunks, to_batch
from detector.data.sources import DataFile, parse_data_argument
from detector.errors import DataError

TICKS: list[dict[str, Any]] = [
    {"series": "a", "timestamp": 1700000000.5, "bid": 1.5, "ask": 2, "label": 0},
    {"series": "b", "timestamp": 1700000001, "bid": 1.25, "ask": None, "label": 1},
    {"series": "a", "timestamp": 1700000002.25, "bid": -3e-9, "ask": 4, "label": 0},
]
TIMES_NS = [1700000000500000000, 1700000001000000000, 1700000002250000000]
ENDINGS = [".csv", ".csv.gz", ".jsonl", ".jsonl.gz", ".ndjson", ".json", ".parquet"]


def form(unit: TimestampUnit = "s") -> TickFormat:
    return TickFormat("json", "field", "series", "timestamp", unit, 1000)


def write(path: Path, ticks: Sequence[dict[str, Any]]) -> DataFile:
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(list(ticks)), path)
        return DataFile(path, "file")
    if ".csv" in path.suffixes:
        lines = [",".join(ticks[0])]
        lines += [",".join("" if v is None else str(v) for v in t.values()) for t in ticks]
        text = "\n".join(lines) + "\n"
    else:
        text = "".join(json.dumps(t) + "\n" for t in ticks)
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return DataFile(path, "file")


def read(
    file: DataFile, fields: Sequence[str] = ("bid", "ask"), unit: TimestampUnit = "s"
) -> list[Chunk]:
    return list(read_chunks(file, Columns(form(unit), "label"), fields))


def text_file(path: Path, content: str | bytes) -> DataFile:
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return DataFile(path, "file")


@pytest.mark.parametrize("ending", ENDINGS)
def test_every_kind_of_file_gives_the_same_ticks(tmp_path: Path, ending: str) -> None:
    (chunk,) = read(write(tmp_path / f"data{ending}", TICKS))
    assert list(chunk.series) == ["a", "b", "a"]
    assert chunk.time_ns.tolist() == TIMES_NS
    np.testing.assert_array_equal(chunk.values, [[1.5, 2], [1.25, math.nan], [-3e-9, 4]])
    assert chunk.label is not None
    assert chunk.label.tolist() == [0, 1, 0]
    assert (len(chunk), chunk.first_row) == (3, 0)


@pytest.mark.parametrize("ending", ENDINGS)
def test_without_a_series_column_the_file_is_one_series(tmp_path: Path, ending: str) -> None:
    ticks = [{"timestamp": t["timestamp"], "bid": t["bid"]} for t in TICKS]
    (chunk,) = read(write(tmp_path / f"data{ending}", ticks), ["bid"])
    assert list(chunk.series) == ["file"] * 3
    assert chunk.label is None


@pytest.mark.parametrize("ending", ENDINGS)
def test_the_numeric_columns_are_found(tmp_path: Path, ending: str) -> None:
    ticks = [t | {"note": "text", "flag": None} for t in TICKS]
    found = auto_fields(write(tmp_path / f"data{ending}", ticks), Columns(form(), "label"))
    assert (found.fields, found.labels) == (("bid", "ask"), ())


@pytest.mark.parametrize("ending", ENDINGS)
def test_a_missing_column_is_named(tmp_path: Path, ending: str) -> None:
    file = write(tmp_path / f"data{ending}", TICKS)
    with pytest.raises(DataError, match=rf"data{ending}: has no column 'size'; it has series, ti"):
        read(file, ["bid", "size"])


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize("rows", [1, 2, 3])
def test_chunks_of_any_size_give_the_same(
    tmp_path: Path, ending: str, rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = write(tmp_path / f"data{ending}", TICKS)
    monkeypatch.setattr(tables, "CHUNK_ROWS", rows)
    chunks = read(file)
    assert [c.first_row for c in chunks] == list(range(0, 3, rows))
    assert [t for c in chunks for t in c.time_ns.tolist()] == TIMES_NS
    assert [s for c in chunks for s in c.series] == ["a", "b", "a"]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ({"limit": 0}, []),
        ({"limit": 2}, [0, 1]),
        ({"limit": 3}, [0, 1, 2]),
        ({"limit": 9}, [0, 1, 2]),
        ({"since_ns": TIMES_NS[1]}, [1, 2]),
        ({"until_ns": TIMES_NS[1]}, [0]),
        ({"since_ns": TIMES_NS[1], "until_ns": TIMES_NS[2]}, [1]),
        ({"since_ns": TIMES_NS[1], "limit": 2}, [1]),
        ({"since_ns": TIMES_NS[2] + 1}, []),
    ],
)
@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_part_of_a_file_can_be_read(
    tmp_path: Path,
    part: dict[str, int],
    expected: list[int],
    rows: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", rows)
    file = replace(write(tmp_path / "data.csv", TICKS), **part)  # type: ignore[arg-type]
    chunks = read(file)
    assert [t for c in chunks for t in c.time_ns.tolist()] == [TIMES_NS[i] for i in expected]
    # The offset of a tick is its row in the file, whatever part is read.
    assert [o for c in chunks for o in to_batch(c).offset.tolist()] == expected


def test_a_chunk_becomes_a_batch(tmp_path: Path) -> None:
    (chunk,) = read(write(tmp_path / "data.csv", TICKS))
    batch = to_batch(chunk)
    assert list(batch.series) == ["a", "b", "a"]
    assert batch.received_ms.tolist() == [t // 10**6 for t in TIMES_NS]
    assert set(batch.partition.tolist()) == set(batch.index.tolist()) == {0}


# -- how CSV may look


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_csv_may_look_as_spreadsheets_write_it(
    tmp_path: Path, delimiter: str, end: str, mark: bytes
) -> None:
    lines = [["timestamp", " bid", "ask"], ["1", '"2"', "nan"], ["2", "-inf", ""], []]
    text = end.join(delimiter.join(line) for line in lines)
    (chunk,) = read(text_file(tmp_path / "data.csv", mark + text.encode()))
    assert chunk.time_ns.tolist() == [10**9, 2 * 10**9]
    np.testing.assert_array_equal(chunk.values, [[2, math.nan], [-math.inf, math.nan]])


def test_blank_lines_of_a_csv_are_no_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "timestamp,bid\n\n1,5\n\n\n2,6\n\n"
    (chunk,) = read(text_file(tmp_path / "data.csv", text), ["bid"])
    assert chunk.values[:, 0].tolist() == [5, 6]
    monkeypatch.setattr(tables, "CHUNK_ROWS", 1)
    assert [float(c.values[0, 0]) for c in read(DataFile(tmp_path / "data.csv", "s"), ["bid"])] == [
        5,
        6,
    ]


@pytest.mark.parametrize(
    "text", ["", "\n", "timestamp,bid", "timestamp,bid\n", "timestamp,bid\n\n"]
)
def test_a_csv_without_rows_has_no_ticks(tmp_path: Path, text: str) -> None:
    file = text_file(tmp_path / "data.csv", text)
    assert read(file, []) == []
    with pytest.raises(DataError, match="holds no tick"):
        auto_fields(file, Columns(form(), "label"))


def test_a_row_of_another_width_is_named_by_its_line(tmp_path: Path) -> None:
    file = text_file(tmp_path / "data.csv", "timestamp,bid\n1,2\n3,4,5\n")
    with pytest.raises(DataError, match="near line 3: a row has 3 cells, the header 2"):
        read(file, ["bid"])


# -- time


@pytest.mark.parametrize(
    ("unit", "cells", "expected"),
    [
        ("s", ["1", "2.5", "-0.25"], [10**9, 25 * 10**8, -25 * 10**7]),
        ("ms", ["1700000000123", "1.5"], [1700000000123 * 10**6, 1500000]),
        ("us", ["1700000000123456"], [1700000000123456000]),
        ("ns", ["1700000000123456789", "-5"], [1700000000123456789, -5]),
        ("iso8601", ["2014-05-02T12:30:00Z", "1970-01-01"], [1399033800 * 10**9, 0]),
        ("iso8601", ["2014-05-02 12:30:00.000001+02:00"], [1399026600000001000]),
    ],
)
def test_times_of_a_csv_are_exact(
    tmp_path: Path, unit: TimestampUnit, cells: list[str], expected: list[int]
) -> None:
    text = "timestamp,bid\n" + "".join(f"{cell},1\n" for cell in cells)
    (chunk,) = read(text_file(tmp_path / "data.csv", text), ["bid"], unit)
    assert chunk.time_ns.tolist() == expected


@pytest.mark.parametrize("ending", [".csv", ".jsonl", ".parquet"])
@pytest.mark.parametrize(
    ("unit", "moment"),
    [
        ("s", 1700000000000),  # milliseconds, most likely
        ("s", -(10**11)),
        ("ms", 1700000000000000),
        ("us", 1700000000000000000),
        ("s", 1e300),
        ("s", math.nan),
        ("s", math.inf),
        ("ns", 2**63 - 0.5),
    ],
)
@pytest.mark.parametrize("others", [[], [1], [1.5]])
def test_a_time_beyond_64_bits_of_nanoseconds_is_refused(
    tmp_path: Path, ending: str, unit: TimestampUnit, moment: float, others: list[float]
) -> None:
    kind = float if any(isinstance(t, float) for t in [moment, *others]) else int
    times = [t if ending != ".parquet" else kind(t) for t in [*others, moment]]
    file = write(tmp_path / f"data{ending}", [{"timestamp": t, "bid": 1} for t in times])
    with pytest.raises(DataError, match=rf"row {len(times)}: timestamp = .* is no time in {unit}"):
        read(file, ["bid"], unit)


@pytest.mark.parametrize("cell", ["", "soon", "2014-05-02", "null", "1,", "0x10"])
def test_a_cell_that_is_no_time_is_named_by_its_row(tmp_path: Path, cell: str) -> None:
    text = f'timestamp,bid\n1,1\n2.5,1\n"{cell}",1\n'
    with pytest.raises(DataError, match=r"data\.csv: row 3: timestamp = "):
        read(text_file(tmp_path / "data.csv", text), ["bid"])


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_a_whole_number_keeps_its_digits_beside_a_float(tmp_path: Path, ending: str) -> None:
    times = [1700000000123456789, 1.25]
    file = write(tmp_path / f"data{ending}", [{"timestamp": t, "bid": 1} for t in times])
    (chunk,) = read(file, ["bid"], "ns")
    assert chunk.time_ns.tolist() == [1700000000123456789, 1]


@given(
    unit=st.sampled_from(["s", "ms", "us", "ns"]),
    data=st.data(),
)
@settings(deadline=None, max_examples=200)
def test_a_moment_of_json_lines_is_what_the_codec_makes_of_it(
    tmp_path_factory: pytest.TempPathFactory, unit: TimestampUnit, data: st.DataObject
) -> None:
    factor = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}[unit]
    reach = (2**63 - 1) // factor
    moment = (
        st.integers(-reach, reach)
        | st.integers(16 * 10**17, 18 * 10**17).map(lambda ns: ns // factor)
        | st.floats(-reach * 0.99, reach * 0.99)
    )
    times = data.draw(st.lists(moment, min_size=1, max_size=4))
    path = tmp_path_factory.getbasetemp() / "moments.jsonl"
    file = write(path, [{"timestamp": t, "bid": 1} for t in times])
    (chunk,) = read(file, ["bid"], unit)
    assert chunk.time_ns.tolist() == [parse_moment(t, unit) for t in times]


@pytest.mark.parametrize("resolution", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "Europe/Berlin"])
def test_timestamps_of_parquet_need_no_unit(
    tmp_path: Path, resolution: str, zone: str | None
) -> None:
    moment = datetime(2014, 5, 2, 12, 30, tzinfo=UTC)
    times = pa.array([moment], pa.timestamp(resolution, "UTC")).cast(pa.timestamp(resolution, zone))
    path = tmp_path / "data.parquet"
    pyarrow.parquet.write_table(pa.table({"timestamp": times, "bid": [1.0]}), path)
    for unit in ("s", "iso8601"):
        (chunk,) = read(DataFile(path, "file"), ["bid"], unit)
        assert chunk.time_ns.tolist() == [1399033800 * 10**9]


def test_nanoseconds_of_parquet_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "data.parquet"
    times = pa.array([1700000000123456789], pa.timestamp("ns"))
    pyarrow.parquet.write_table(pa.table({"timestamp": times, "bid": [1.0]}), path)
    (chunk,) = read(DataFile(path, "file"), ["bid"])
    assert chunk.time_ns.tolist() == [1700000000123456789]


# -- what is damaged


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("data.txt", b"1", r"must end in \.csv"),
        ("data", b"1", r"must end in \.csv"),
        ("data.gz", b"1", r"must end in \.csv"),
        ("data.csv", b"timestamp,bid\n1,\xff\n", "no UTF-8"),
        ("data.csv", b"timestamp,bid\n1," + b"9" * 200_000 + b"\n", "field larger"),
        ("data.csv.gz", b"timestamp,bid\n1,2\n", "[Nn]ot a gzipped file"),
        (
            "data.csv.gz",
            gzip.compress(b"timestamp,bid\n" + b"1,2\n" * 99, mtime=0)[:30],
            "end-of-stream",
        ),
        ("data.jsonl", b'{"timestamp": 1, "bid": 2}\nx\n', "line 2 is not JSON"),
        ("data.jsonl", b'{"timestamp": 1, "bid": 2}\n[1]\n', "line 2 is no object"),
        ("data.jsonl", b"\xff\xfe", "no UTF-8"),
        ("data.parquet", b"", "."),
        ("data.parquet", b"PAR1 and then nothing PAR1", "."),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, content: bytes, says: str) -> None:
    file = text_file(tmp_path / name, content)
    with pytest.raises(DataError, match=says) as refused:
        read(file, ["bid"])
    assert str(file.path) in str(refused.value)


@pytest.mark.parametrize("name", ["data.csv", "data.csv.gz", "data.jsonl", "data.parquet"])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}: .*[Nn]o such file"):
        read(DataFile(tmp_path / name, "s"))


@pytest.mark.parametrize("ending", [".csv.gz", ".jsonl.gz", ".parquet"])
def test_a_flipped_bit_is_never_more_than_a_data_error(tmp_path: Path, ending: str) -> None:
    random = np.random.default_rng(1)
    ticks = [{"timestamp": i, "bid": float(random.normal()), "ask": float(i)} for i in range(300)]
    file = write(tmp_path / f"data{ending}", ticks)
    content = file.path.read_bytes()
    refused = 0
    for place in np.linspace(0, len(content) - 1, 150).astype(int).tolist():
        damaged = bytearray(content)
        damaged[place] ^= 0x55
        file.path.write_bytes(damaged)
        try:
            read(file)
        except DataError:
            refused += 1
    assert refused > 0


@pytest.mark.parametrize(
    "cell", ["[1, 2]", "[]", "{}", '"text"', "true", "null", "1e400", "NaN", "1" + "0" * 400]
)
@pytest.mark.parametrize("field", ["bid", "timestamp"])
def test_any_cell_of_json_lines_is_a_number_or_none(tmp_path: Path, cell: str, field: str) -> None:
    tick = '{"timestamp": 1, "bid": 5, "ask": 6}\n'
    odd = tick.replace("1" if field == "timestamp" else "5", cell, 1)
    for text in (odd, tick + odd, odd + odd):
        file = text_file(tmp_path / "data.jsonl", text)
        try:
            chunks = read(file)
        except DataError as error:
            assert field == "timestamp", error  # noqa: PT017
        else:
            assert sum(map(len, chunks)) == text.count("\n")


def test_fields_that_come_and_go_are_nan_where_absent(tmp_path: Path) -> None:
    text = '{"timestamp": 1, "bid": 5}\n\n{"bid": 6, "other": 1, "timestamp": 2}\n{"timestamp": 3}'
    (chunk,) = read(text_file(tmp_path / "data.jsonl", text), ["bid"])
    np.testing.assert_array_equal(chunk.values[:, 0], [5, 6, math.nan])


# -- arguments


def test_an_argument_may_name_its_series(tmp_path: Path) -> None:
    assert parse_data_argument("a/b/eurusd.csv.gz") == DataFile(Path("a/b/eurusd.csv.gz"), "eurusd")
    assert parse_data_argument("EUR=x.csv") == DataFile(Path("x.csv"), "EUR")
    odd = tmp_path / "day=5.csv"
    odd.write_text("")
    assert parse_data_argument(str(odd)) == DataFile(odd, "day=5")
