"""Expressions: what they compute, and what is refused by name."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.features import FUNCTIONS, FeatureSet
from detector.core.ticks import Float32, Float64
from detector.errors import ConfigError


def compute(expression: str, values: dict[str, list[float]], times_s: list[float]) -> list[float]:
    """One feature over the ticks of one series that begin a run."""
    features = FeatureSet.parse({"f": expression})
    raw = np.array([values[f] for f in features.fields], np.float64).reshape(
        len(features.fields), len(times_s)
    )
    return [float(x) for x in all_rows(features, raw.T, times_s)[:, 0]]


def all_rows(features: FeatureSet, raw: Float64, times_s: list[float]) -> Float32:
    operands = features.operands(np.ascontiguousarray(raw))
    time_ns = np.rint(np.array(times_s) * 1e9).astype(np.int64)
    has_previous = np.arange(len(time_ns)) > 0
    return features.compute(
        operands, np.roll(operands, 1, axis=0), time_ns, np.roll(time_ns, 1), has_previous
    )


BID, ASK = [4.0, 9.0, 1.0], [8.0, 3.0, 1.0]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("bid", [4, 9, 1]),
        ("value(bid)", [4, 9, 1]),
        ("value('bid')", [4, 9, 1]),
        ("mid(bid, ask)", [6, 6, 1]),
        ("spread(bid, ask)", [4, -6, 0]),
        ("ratio(bid, ask)", [0.5, 3, 1]),
        ("abs(spread(bid, ask))", [4, 6, 0]),
        ("log(bid)", [math.log(4), math.log(9), 0]),
        ("sqrt(bid)", [2, 3, 1]),
        ("signed_log(spread(bid, ask))", [math.log(5), -math.log(7), 0]),
        ("diff(bid)", [math.nan, 5, -8]),
        ("diff(mid(bid, ask))", [math.nan, 0, -5]),
        ("log_return(bid)", [math.nan, math.log(9 / 4), math.log(1 / 9)]),
        ("log_return(mid(bid, ask))", [math.nan, 0, math.log(1 / 6)]),
        ("interarrival()", [math.nan, 0.25, 1.5]),
        ("abs(diff(bid))", [math.nan, 5, 8]),
        ("signed_log(diff(bid))", [math.nan, math.log(6), -math.log(9)]),
        ("abs(signed_log(diff(bid)))", [math.nan, math.log(6), math.log(9)]),
        ("signed_log(interarrival())", [math.nan, math.log(1.25), math.log(2.5)]),
        ("diff(abs(spread(bid, ask)))", [math.nan, 2, -6]),
    ],
)
def test_an_expression_means_its_formula(expression: str, expected: list[float]) -> None:
    found = compute(expression, {"bid": BID, "ask": ASK}, [0.0, 0.25, 1.75])
    assert found == pytest.approx(expected, nan_ok=True, abs=1e-6)


def test_every_function_is_tried_above() -> None:
    tried = {"abs", "diff", "interarrival", "log", "log_return", "mid", "ratio", "signed_log"}
    assert set(FUNCTIONS) == tried | {"spread", "sqrt", "value"}


def test_a_difference_is_taken_before_the_digits_are_cut() -> None:
    """float32 has 7 digits: two prices that differ in the 10th must still differ."""
    price = [123456.789, 123456.7891]
    (_, step) = compute("diff(price)", {"price": price}, [0, 1])
    assert step == pytest.approx(1e-4, rel=1e-5)


def test_features_share_fields_and_operands() -> None:
    features = FeatureSet.parse(
        {"a": "mid(bid, ask)", "b": "diff(mid(bid, ask))", "c": "ask", "d": "interarrival()"}
    )
    assert features.fields == ("bid", "ask")
    assert features.names == ("a", "b", "c", "d")
    assert features.operands(np.array([[1.0, 3.0]])).tolist() == [[2, 3]]


@pytest.mark.parametrize(
    ("expressions", "needs"),
    [
        ({"a": "log(bid)", "b": "abs(bid)"}, False),
        ({"a": "bid", "b": "diff(bid)"}, True),
        ({"a": "interarrival()"}, True),
        ({"a": "abs(log_return(bid))"}, True),
    ],
)
def test_whether_a_tick_needs_one_before_it(expressions: dict[str, str], needs: bool) -> None:
    assert FeatureSet.parse(expressions).needs_previous == needs


@pytest.mark.parametrize(
    "expression",
    [
        "", "(", "bid +", "bid + ask", "-bid", "1", "None", "bid.ask", "bid[0]", "[bid]", "b'x'",
        "f'{bid}'", "lambda: bid", "bid if ask else bid", "x\0", "unknown(bid)", "mid(bid)",
        "mid(bid, ask, bid)", "diff()", "diff(bid, ask)", "interarrival(bid)", "abs(*bid)",
        "abs(x=bid)", "mid(a, b=ask)", "bid()()", "__import__('os')", "diff(diff(bid))",
        "log(diff(bid))", "sqrt(interarrival())", "mid(diff(bid), ask)", "abs(mid(diff(a), b))",
        "diff(interarrival())", "log_return(log_return(bid))", "abs(diff(bid), ask)",
        "-" * 5000 + "bid", "bid" + ".x" * 5000,
    ],
    ids=lambda e: repr(e[:25]),
)  # fmt: skip
def test_what_is_no_expression_is_refused_by_the_features_name(expression: str) -> None:
    with pytest.raises(ConfigError, match=r"features\.shape"):
        FeatureSet.parse({"shape": expression})


_TOKENS = st.sampled_from(
    [*FUNCTIONS, "(", ")", ",", "bid", "ask", "'x y'", "1", ".", "*", "=", "\n", "[", "-", "x"]
)


@given(st.text(max_size=20) | st.lists(_TOKENS, max_size=12).map("".join))
@settings(deadline=None, max_examples=500)
def test_any_text_is_an_expression_or_refused(text: str) -> None:
    try:
        features = FeatureSet.parse({"f": text})
    except ConfigError as error:
        assert str(error).startswith("features.f: ")  # noqa: PT017  # both ways are right
        return
    row = all_rows(features, np.ones((2, len(features.fields))), [0, 1])
    assert row.shape == (2, 1)
    assert FeatureSet.parse({"f": text}).fields == features.fields


def test_no_features_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least one"):
        FeatureSet.parse({})


@given(st.lists(st.text(), unique=True, min_size=1, max_size=5))
@settings(deadline=None, max_examples=300)
def test_any_column_can_be_a_feature_as_it_is(columns: list[str]) -> None:
    features = FeatureSet.of_fields(columns)
    assert (list(features.names), list(features.fields)) == (columns, columns)
    again = FeatureSet.parse(dict(zip(features.names, features.expressions, strict=True)))
    assert again.fields == features.fields
    values = np.arange(len(columns), dtype=np.float64)[None]
    np.testing.assert_array_equal(all_rows(features, values, [0.0]), values)


@pytest.mark.parametrize("column", ["cpu.user", "class", "latency_µs", "ﬁeld", "a'b", 'a"b', "1"])
def test_a_column_keeps_its_exact_name(column: str) -> None:
    """Python would read the micro sign as the Greek letter: another name."""
    assert FeatureSet.of_fields([column]).fields == (column,)


@given(
    values=st.lists(
        st.tuples(*[st.floats(allow_nan=False, allow_infinity=False)] * 2), min_size=1, max_size=5
    ),
    function=st.sampled_from(
        ["a", "diff(a)", "abs(diff(a))", "signed_log(diff(a))", "signed_log(a)", "spread(a, b)"]
    ),
)
@settings(deadline=None, max_examples=300)
def test_what_is_finite_stays_finite(values: list[tuple[float, float]], function: str) -> None:
    features = FeatureSet.parse({"f": function})
    raw = np.array(values)[:, : len(features.fields)]
    usable = np.isfinite(features.operands(np.ascontiguousarray(raw))).all(axis=1)
    rows = all_rows(features, raw[usable], list(range(int(usable.sum()))))
    assert np.isfinite(rows[1:]).all()
    assert np.abs(rows[1:]).max(initial=0) <= np.finfo(np.float32).max / 4
