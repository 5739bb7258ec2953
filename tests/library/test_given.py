"""Ticks as callers give them: by position, by name, one or many; and what is none."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

import detector
from detector import Outcome
from tests.library.test_api import START_S, equal, model, new

ONE = {"series": "a", "timestamp": START_S, "bid": 1.5, "ask": 2.5}


@pytest.mark.parametrize(
    "arguments",
    [
        (ONE,),
        ({**ONE, "volume": 1, "note": "text"},),
        (pd.Series(ONE),),
        (pd.DataFrame([ONE]),),
        ("a", START_S, {"ask": 2.5, "bid": 1.5}),
        ("a", START_S, pd.Series({"ask": 2.5, "bid": 1.5})),
        ("a", START_S, pd.DataFrame([{"ask": 2.5, "bid": 1.5}])),
        ("a", START_S, [1.5, 2.5]),
        ("a", [START_S], [1.5, 2.5]),
        (np.array(["a"]), np.array([START_S]), np.array([[1.5, 2.5]])),
    ],
    ids=lambda arguments: f"{len(arguments)}-{type(arguments[-1]).__name__}",
)
def test_one_tick_in_any_form_is_the_same_tick(arguments: tuple[Any, ...]) -> None:
    found, plain = new(), new()
    result = found.update(*arguments)
    assert result.outcome.tolist() == [Outcome.WARMING]
    plain.update("a", START_S, np.array([[1.5, 2.5]]))
    assert found.save() == plain.save()


def test_the_unit_of_a_table_is_that_which_is_given() -> None:
    in_ms, in_s = new(), new()
    table = {"bid": [1.0, 2.0], "ask": [1.0, 2.0]}
    in_ms.update({"timestamp": [5000, 5010], **table}, unit="ms")
    in_s.update({"timestamp": [5.0, 5.01], **table})
    assert in_ms.save() == in_s.save()
    text = {"timestamp": ["1970-01-01 00:00:05", "1970-01-01 00:00:05.010"], **table}
    found = new()
    found.update(text, unit="iso8601")
    assert found.save() == in_s.save()


@pytest.mark.parametrize(
    "times",
    [
        [Decimal("1700000000.25"), Decimal("1700000000.75")],
        np.array([1700000000.25, 1700000000.75], object),
        pa.array([Decimal("1700000000.25"), Decimal("1700000000.75")]),
        np.array(["2023-11-14T22:13:20.250", "2023-11-14T22:13:20.750"], "datetime64[ms]"),
    ],
    ids=["decimals", "objects", "arrow", "datetimes"],
)
def test_no_part_of_a_second_is_lost(times: Any) -> None:
    found, plain = new(), new()
    values = [[1.0, 1.0], [2.0, 2.0]]
    found.update("a", times, values)
    plain.update("a", [1700000000.25, 1700000000.75], values)
    assert found.save() == plain.save()


@pytest.mark.parametrize(
    "times",
    [
        np.array(["3000-01-01"], "datetime64[D]"),
        pd.Series(np.array(["2400-01-01"], "datetime64[s]")),
        [pd.Timestamp("3000-01-01")],
        pa.array([32503680000], pa.timestamp("s")),
        [np.datetime64("3000-01-01")],
        np.array(["NaT"], "datetime64[ns]"),
    ],
    ids=["days", "pandas", "timestamp", "arrow", "datetime64", "none"],
)
def test_a_time_beyond_64_bits_is_refused_not_another_one(times: Any) -> None:
    found = new()
    with pytest.raises(detector.DataError):
        found.update("a", times, [[1.0, 1.0]])
    with pytest.raises(detector.DataError):
        found.update({"timestamp": times, "bid": [1.0], "ask": [1.0]})
    assert found.series == []


@pytest.mark.parametrize(
    "empty", [([], [], []), ("a", [], []), ({"timestamp": [], "bid": [], "ask": []},)]
)
def test_nothing_in_any_form_is_nothing(empty: tuple[Any, ...]) -> None:
    assert len(new().update(*empty)) == 0


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("a", [1], [[1.0, 1.0], [1.0]]), "values: rows of different lengths"),
        (("a", [1, 2], [1.0, 2.0, 3.0, 4.0]), r"are \(4,\)"),
        (("a", [1], np.array([[1j, 2j]])), "complex"),
        (([None], [1], [[1, 1]]), "series: None at 0 names no series"),
        (([""], [1], [[1, 1]]), "names no series"),
        ((["x" * 1001], [1], [[1, 1]]), "names no series"),
        ((["\ud800"], [1], [[1, 1]]), "names no series"),
        ((pd.array(["a", pd.NA]), [1, 2], [[1, 1], [1, 1]]), "at 1 names no series"),
        (({"series": [np.nan], "timestamp": [1], "bid": [1], "ask": [1]},), "row 1: series = nan"),
        ((pd.Series([1.0, 2.0]),), "a table is a mapping of columns"),
    ],
    ids=lambda given: given if isinstance(given, str) else "",
)
def test_what_is_no_tick_is_refused(arguments: tuple[Any, ...], says: str) -> None:
    found = new()
    with pytest.raises(detector.DataError, match=says):
        found.update(*arguments)
    assert found.series == []


def test_a_unit_or_a_configuration_that_is_none_is_refused() -> None:
    with pytest.raises(detector.DataError, match="unit: 'min' is none of s, ms"):
        new().update("a", [1], [[1, 1]], unit="min")  # type: ignore[arg-type]  # that is the test
    with pytest.raises(detector.ConfigError, match="a file or a mapping, not list"):
        detector.load(model(), config=[1])  # type: ignore[arg-type]  # that is the test
    with pytest.raises(detector.DataError, match="no table to train on"):
        detector.train([])


def test_one_name_is_a_name_and_not_its_letters() -> None:
    found = new()
    found.update("EURUSD", [1, 2], [[1, 1], [2, 2]])
    assert found.save("EURUSD") == found.save(["EURUSD"]) == found.save()
    found.forget("EURUSD")
    assert found.series == []


def test_series_stay_unless_it_is_asked_for() -> None:
    """Nobody knows here when a tick came: one from the far future would take all others along."""
    found = new()
    for name in ("a", "b"):
        found.update(name, [START_S], [[1, 1]])
    found.update("wrong", [START_S + 100 * 86400], [[1, 1]])
    assert found.series == ["a", "b", "wrong"]
    asked = new(limits={"forget_after_s": 2 * 86400})
    asked.update("a", [START_S], [[1, 1]])
    asked.update("b", [START_S + 5 * 86400], [[1, 1]])
    assert asked.series == ["b"]


def test_series_restored_into_a_running_detector_fall_silent_as_they_would_have() -> None:
    """Those that were heard longest ago are looked for again."""

    def run(*, restored: bool) -> list[tuple[str, int]]:
        found = new(window={"silence_s": 10})
        other = new(window={"silence_s": 10})
        (other if restored else found).update("late", [START_S], [[1, 1]])
        saved = other.save()
        opened = []
        for second in range(1, 40):
            if restored and second == 5:
                found.restore(saved)
            result = found.update("steady", [START_S + second], [[1, 1]])
            opened += [(a.series, second) for a in result.alerts if a.kind == "silence"]
        return opened

    assert run(restored=True) == run(restored=False) == [("late", 11)]


def test_an_update_that_ended_in_its_middle_leaves_no_detector_that_says_wrong_things(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = new()
    times, values = START_S + np.arange(12.0), np.ones((12, 2))
    first = found.update("a", times[:6], values[:6])
    saved = found.save()

    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("detector.core.scores.mean.all_errors", interrupt)
        with pytest.raises(KeyboardInterrupt):
            found.update("a", times[6:], values[6:])
    for ask in (lambda: found.update("a", times[6:], values[6:]), found.save):
        with pytest.raises(detector.StateError, match="ended in its middle"):
            ask()
    again, whole = new(), new()
    again.restore(saved)
    expected = whole.update("a", times, values)
    np.testing.assert_array_equal(first.score, expected.score[:6])
    np.testing.assert_array_equal(
        again.update("a", times[6:], values[6:]).score, expected.score[6:]
    )


def test_it_says_what_it_is() -> None:
    found = new()
    found.update("a", [1], [[1, 1]])
    assert repr(found).startswith("<Detector: model random-0, windows of 4 ticks of bid, ask, thr")
    assert repr(found).endswith(", 1 series>")


def test_a_column_whose_rows_have_names_is_a_column() -> None:
    """Only a single tick can be a row."""
    found, plain = new(), new()
    frame = pd.DataFrame({"bid": [1.0, 2.0], "ask": [3.0, 4.0]}, index=["monday", "tuesday"])
    found.update("a", [1, 2], frame)
    plain.update("a", [1, 2], [[1.0, 3.0], [2.0, 4.0]])
    assert found.save() == plain.save()
    with pytest.raises(detector.DataError, match=r"must be \(2, 2\)"):
        found.update("a", [3, 4], frame["bid"])


def test_a_table_and_its_columns_are_the_same_ticks() -> None:
    frame = pd.DataFrame(
        {"series": ["a", "b"] * 8, "timestamp": START_S + np.arange(16), "bid": 1.0, "ask": 2.0}
    )
    whole = new().update(frame)
    equal(new().update(pa.table(frame)), whole)
    equal(new().update(frame["series"], frame["timestamp"], frame[["bid", "ask"]]), whole)
