"""Explanations against labels that name the guilty features."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from detector.config import parse_config
from detector.data.sources import parse_data_argument
from detector.errors import DataError
from detector.evaluate.guilt import Guilty, hit_rate, hit_rates, read_guilty
from tests.artifacts import make_artifact

NAMES = ("a", "b", "c")


def test_the_share_of_the_guilty_among_the_first() -> None:
    shares = np.array([0.1, 0.4, 0.2, 0.3])
    assert hit_rate(shares, frozenset({1, 2}), 100) == 0.5  # first 1 and 3
    assert hit_rate(shares, frozenset({1, 2}), 150) == 1.0  # 2 comes third
    assert hit_rate(shares, frozenset({0}), 100) == 0.0


def test_lines_are_read_and_what_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "interpretation.txt"
    path.write_text("3-9:1,3\n20-20:2\n")
    assert read_guilty(path) == [
        Guilty(3, 9, frozenset({0, 2})), Guilty(20, 20, frozenset({1})),
    ]  # fmt: skip
    for wrong in ("", "3-9", "9-3:1", "3-9:0", "3-9:1;2"):
        path.write_text(wrong)
        with pytest.raises(DataError, match=r"interpretation\.txt"):
            read_guilty(path)
    with pytest.raises(DataError, match="No such file"):
        read_guilty(tmp_path / "absent.txt")


def test_a_feature_that_broke_is_named(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "model", {n: n for n in NAMES}, length=10, evidence=True)
    values = np.random.default_rng(0).normal(size=(300, 3))
    values[100:104, 1] += 40
    values[200, [0, 2]] += 40
    path = tmp_path / "test.csv"
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["timestamp", *NAMES])
        writer.writerows([i, *row] for i, row in enumerate(values.tolist()))
    config = parse_config({"features": {n: n for n in NAMES}, "window": {"length_ticks": 10}})
    guilty = [Guilty(100, 103, frozenset({1})), Guilty(200, 200, frozenset({0, 2}))]
    source = parse_data_argument(str(path))
    rates = hit_rates(config, artifact, source, guilty)
    assert rates["detector"] == {100: 1.0, 150: 1.0}
    assert set(rates["network error"]) == {100, 150}
    with pytest.raises(DataError, match="1 events have no scored window"):
        hit_rates(config, artifact, source, [*guilty, Guilty(2, 5, frozenset({0}))])
    with pytest.raises(DataError, match="more features than its 3"):
        hit_rates(config, artifact, source, [Guilty(100, 103, frozenset({7}))])
