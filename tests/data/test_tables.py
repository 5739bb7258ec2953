"""Tables in memory and lines as they arrive."""

from __future__ import annotations

import gzip
import io
import os
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.moments import parse_moment
from detector.core.tick_format import TickFormat
from detector.data import tables
from detector.data.cells import moments
from detector.data.chunks import Columns, auto_fields, read_chunks
from detector.data.sources import DataTable
from detector.data.tables import columns_of, refuse, stream_objects
from detector.errors import DataError

COLUMNS = Columns(TickFormat("json", "field", "series", "timestamp", "s", 1000), "label")
ROWS: dict[str, list[Any]] = {
    "series": ["a", "b", "a"],
    "timestamp": [1700000000.5, 1700000001.0, 1700000002.25],
    "bid": [1.5, 1.25, -3e-9],
    "ask": [2, 3, 4],
}
TIMES_NS = [1700000000500000000, 1700000001000000000, 1700000002250000000]


@pytest.mark.parametrize(
    "make",
    [
        lambda: ROWS,
        lambda: {name: np.array(cells) for name, cells in ROWS.items()},
        lambda: pd.DataFrame(ROWS),
        lambda: pd.DataFrame(ROWS).convert_dtypes(),
        lambda: pa.table(ROWS),
        lambda: pa.table(ROWS).to_reader(),
    ],
    ids=["lists", "arrays", "pandas", "pandas, own types", "pyarrow", "an Arrow stream"],
)  # fmt: skip
@pytest.mark.parametrize("rows", [2, 65_536])
def test_a_table_in_memory_is_read_like_a_file(
    make: Callable[[], Any], rows: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "CHUNK_ROWS", rows)
    source = DataTable(columns_of(make()))
    chunks = list(read_chunks(source, COLUMNS, ["bid", "ask"]))
    assert [n for c in chunks for n in c.series] == ROWS["series"]
    assert [t for c in chunks for t in c.time_ns.tolist()] == TIMES_NS
    values = np.concatenate([c.values for c in chunks])
    np.testing.assert_array_equal(values, np.column_stack([ROWS["bid"], ROWS["ask"]]))
    assert auto_fields(source, COLUMNS).fields == ("bid", "ask")
    assert len(source.sha256()) == 64


@pytest.mark.parametrize(
    "column",
    [
        pd.to_datetime(["2024-05-02 12:30:00.123456789", "2024-05-02 13:00:00.0"]),
        pd.to_datetime(["2024-05-02 12:30:00.123456789", "2024-05-02 13:00:00.0"]).tz_localize(
            "UTC"
        ),
        pd.to_datetime(["2024-05-02 14:30:00.123456789", "2024-05-02 15:00:00.0"]).tz_localize(
            "Europe/Paris"
        ),
        np.array(["2024-05-02T12:30:00.123456789", "2024-05-02T13:00:00.0"], "datetime64[ns]"),
    ],
    ids=["no zone", "UTC", "Paris", "NumPy"],
)
@pytest.mark.parametrize("as_arrow", [False, True])
def test_a_column_of_times_is_one_whatever_the_unit(column: Any, as_arrow: bool) -> None:
    table: Any = pd.DataFrame({"timestamp": column, "bid": [1.0, 2.0]})
    source = DataTable(columns_of(pa.Table.from_pandas(table) if as_arrow else table))
    (chunk,) = read_chunks(source, COLUMNS, ["bid"])
    first = parse_moment("2024-05-02T12:30:00.123456789", "iso8601")
    assert chunk.time_ns.tolist() == [first, parse_moment("2024-05-02T13:00", "iso8601")]
    assert list(chunk.series) == ["series", "series"]


@pytest.mark.parametrize(
    ("table", "says"),
    [
        ({"timestamp": [1, 2], "bid": [1]}, "'bid' has 1, not 2"),
        ({"bid": [1]}, "table: has no column 'timestamp' .input.timestamp_field.; it has bid"),
        ({"timestamp": ["noon"], "bid": [1]}, "table: row 1: timestamp = 'noon' is no time in s"),
        (pd.DataFrame({"timestamp": [pd.NaT], "bid": [1]}), "row 1: timestamp = .*NaT"),
        ([1, 2], "a table is a mapping of columns, .* not list"),
        (None, "not NoneType"),
    ],
)
def test_a_table_that_is_none_is_refused(table: Any, says: str) -> None:
    with pytest.raises(DataError, match=says):
        list(read_chunks(DataTable(columns_of(table)), COLUMNS, ["bid"]))


def test_a_column_that_looks_like_a_label_is_no_feature() -> None:
    table = {"timestamp": [1, 2, 3], "cpu": [1, 0, 1], "is_anomaly": [0, 1, 0], "attack": [0, 2, 9]}
    found = auto_fields(DataTable(table), COLUMNS)
    assert (found.fields, found.labels) == (("cpu", "attack"), ("is_anomaly",))
    without = Columns(COLUMNS.form, "label", ("attack",))
    assert auto_fields(DataTable(table), without).fields == ("cpu",)
    with pytest.raises(DataError, match=r"input\.exclude names 'atack'; it has timestamp, cpu"):
        auto_fields(DataTable(table), Columns(COLUMNS.form, "label", ("atack",)))


def test_columns_without_a_number_are_told_and_whether_one_names_the_series() -> None:
    table = {"timestamp": [1, 2], "sensor": ["a", "b"], "oil": ["20,1", "20,2"], "load": [1, 2]}
    found = auto_fields(DataTable(table), COLUMNS)
    assert (found.fields, found.texts, found.named) == (("load",), ("sensor", "oil"), False)
    assert auto_fields(DataTable({**table, "series": ["a", "b"]}), COLUMNS).named
    del table["load"]
    with pytest.raises(
        DataError, match=r"no numeric column .*; sensor, oil hold no number .a decim"
    ):
        auto_fields(DataTable(table), COLUMNS)


@given(st.lists(st.integers(-(2**62), 2**62), max_size=5))
def test_times_of_an_array_are_those_of_a_list(times: list[int]) -> None:
    assert moments(np.array(times, np.int64), "ns").tolist() == times
    assert moments(times, "ns").tolist() == times


# -- lines as they arrive


class Pipe:
    """A process's standard input, written to in another thread of time."""

    def __init__(self) -> None:
        read, self._write = os.pipe()
        self.stream = os.fdopen(read, "rb")

    def send(self, data: bytes) -> None:
        os.write(self._write, data)

    def close(self) -> None:
        os.close(self._write)


@pytest.mark.parametrize(
    ("head", "first", "second"),
    [(b"", b'{"t": 1, "v": 2}\n', b'{"t": 3, "v": 4}\n'), (b"t,v\n", b"1,2\n", b"3,4\n")],
    ids=["json", "csv"],
)
@pytest.mark.timeout(120)
def test_a_line_is_given_before_the_next_is_there(head: bytes, first: bytes, second: bytes) -> None:
    pipe = Pipe()
    found = stream_objects(pipe.stream, "here", refuse)
    pipe.send(head + first + second[:2])
    assert [{k: int(v) for k, v in row.items()} for row in next(found)] == [{"t": 1, "v": 2}]
    pipe.send(second[2:])
    assert [{k: int(v) for k, v in row.items()} for row in next(found)] == [{"t": 3, "v": 4}]
    pipe.close()
    assert next(found, None) is None


def test_the_last_line_needs_no_end_and_the_first_may_carry_a_mark() -> None:
    stream = io.BufferedReader(io.BytesIO(b"\xef\xbb\xbft;v\n1;2\n\n3;4"))
    rows = [row for rows in stream_objects(stream, "here", refuse) for row in rows]
    assert rows == [{"t": "1", "v": "2"}, {"t": "3", "v": "4"}]
    assert list(stream_objects(io.BufferedReader(io.BytesIO()), "here", refuse)) == []


@pytest.mark.parametrize(
    ("content", "good", "wrong"),
    [
        (
            b"t,v\n1,2\n3\n\xff,4\n5,6\n",
            2,
            ["line 3 has 1 cells, the head", "line 4 is no UTF"],
        ),
        (b't,v\n1,2\n3,"4\n5,6\n7,8\n', 3, ["line 3: unexpected end of data"]),
        (b"t,v\n1,2\n3\r,4\n5,6\n", 2, ["line 3: new-line character seen"]),
        (b't,v\n3,"' + b"4" * 200_000 + b"\n5,6\n", 1, ["line 2: field larger than"]),
        (b'\n \n{"t": 1}\n\n{"t": 2}\n7\n', 2, ["line 6 is no object"]),
        (b'{"t": 1}\nnonsense\n[1]\n{"t": 2}\n', 2, ["line 2 is not JSON", "line 3 is no object"]),
    ],
)
def test_a_row_that_is_none_is_named_and_left_out(
    content: bytes, good: int, wrong: list[str]
) -> None:
    told: list[str] = []
    stream = io.BufferedReader(io.BytesIO(content))
    assert sum(map(len, stream_objects(stream, "here", told.append))) == good
    assert [part in line for part, line in zip(wrong, told, strict=True)] == [True] * len(wrong)
    stream = io.BufferedReader(io.BytesIO(content))
    with pytest.raises(DataError, match="here: "):
        list(stream_objects(stream, "here", refuse))


def test_a_line_may_hold_several_ticks_and_the_stream_be_zipped() -> None:
    content = b'[{"t": 1}, {"t": 2}]\n{"t": 3}\n[]\n[{"t": 4}, 5]\n'
    for stream in (content, gzip.compress(content)):
        told: list[str] = []
        found = stream_objects(io.BufferedReader(io.BytesIO(stream)), "here", told.append)
        assert [row for rows in found for row in rows] == [{"t": 1}, {"t": 2}, {"t": 3}]
        assert told == ["here: line 4 is no object, and no array of them"]
    cut = io.BufferedReader(io.BytesIO(gzip.compress(content)[:-9]))
    with pytest.raises(DataError, match="here: "):
        list(stream_objects(cut, "here", refuse))


@pytest.mark.timeout(240)
def test_a_line_without_an_end_is_left_out_and_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("detector.data.arriving.LONGEST_LINE", 1 << 20)
    told: list[str] = []
    content = b"t,v\n1,2\n" + b"x" * (1 << 25) + b"\n3,4\n" + b"y" * (1 << 21)
    stream = io.BufferedReader(io.BytesIO(content))
    tracemalloc.start()
    rows = [row for rows in stream_objects(stream, "here", told.append) for row in rows]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert rows == [{"t": "1", "v": "2"}, {"t": "3", "v": "4"}]
    assert [line.split(" is ")[0] for line in told] == ["here: line 3", "here: line 5"]
    assert peak < 1 << 23


@given(st.binary(max_size=200), st.integers(1, 7))
@settings(deadline=None, max_examples=300)
def test_whatever_arrives_ends_in_rows_or_complaints(content: bytes, step: int) -> None:
    pipe, told = Pipe(), list[str]()

    def feed() -> None:
        for start in range(0, len(content), step):
            pipe.send(content[start : start + step])
        pipe.close()

    writer = threading.Thread(target=feed)
    writer.start()
    try:
        rows = [row for rows in stream_objects(pipe.stream, "here", told.append) for row in rows]
    except DataError as error:
        assert "here" in str(error)  # noqa: PT017
    else:
        assert all(isinstance(row, dict) for row in rows)
    finally:
        writer.join()
        pipe.stream.close()
