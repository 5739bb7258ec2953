"""NAB's score: small cases by hand, and NAB's own for its windowed Gaussian."""

from __future__ import annotations

import csv
import gzip
import json
import math
from pathlib import Path

import numpy as np
import pytest

from detector.core.ticks import Bool, Float64
from detector.evaluate.nab import NabScore, final_score, nab_score, probation

NAB = Path(__file__).resolve().parents[3] / "shared" / "data" / "nab"


def spoken(ticks: int, *places: int) -> Bool:
    detected = np.zeros(ticks, np.bool_)
    detected[list(places)] = True
    return detected


def sigmoid(position: float) -> float:
    return 2 / (1 + math.exp(5 * position)) - 1


def test_who_never_speaks_misses_every_window_and_comes_to_nothing() -> None:
    silent = nab_score(spoken(200), [(100, 109), (150, 159)])
    assert silent == NabScore(-2.0, 2)
    assert final_score([silent]) == 0.0


def test_the_first_tick_of_every_window_is_perfect() -> None:
    best = nab_score(spoken(200, 100, 150), [(100, 109), (150, 159)])
    assert best.score == pytest.approx(2.0)
    assert final_score([best]) == pytest.approx(100.0)


def test_the_first_detection_of_a_window_counts_and_the_later_the_less() -> None:
    late = nab_score(spoken(200, 105, 107, 109), [(100, 109)])
    assert late.score == pytest.approx(sigmoid(-0.5) / sigmoid(-1.0))


def test_a_false_detection_costs_more_the_farther_behind_a_window_it_is() -> None:
    window = [(100, 109)]
    missed = -1.0
    near = nab_score(spoken(200, 112), window).score
    assert near == pytest.approx(missed + 0.11 * sigmoid(3 / 9))
    assert nab_score(spoken(200, 137), window).score == pytest.approx(missed - 0.11)
    assert nab_score(spoken(200, 60), window).score == pytest.approx(missed - 0.11)


def test_the_beginning_of_a_series_counts_for_nothing() -> None:
    assert (probation(200), probation(5000), probation(90_000)) == (30, 750, 750)
    assert nab_score(spoken(200, 0, 29), []).score == 0.0
    assert nab_score(spoken(200, 30), []).score == pytest.approx(-0.11)


def test_a_corpus_without_windows_has_no_score() -> None:
    assert final_score([nab_score(spoken(50), [])]) is None


def windowed_gaussian(values: Float64) -> Float64:
    """NAB's detector of that name, for files shorter than its window of 6400 ticks."""
    scores = [0.0]
    for n in range(1, len(values)):
        deviation = float(np.std(values[:n])) or 1e-6
        z = abs(values[n] - float(np.mean(values[:n]))) / deviation
        scores.append(1 - 0.5 * math.erfc(z / math.sqrt(2)))
    return np.array(scores)


def test_the_windowed_gaussian_scores_what_nab_says() -> None:
    """Every file with a reference, and their total. The reference scores are rounded to ten digits,
    those that NAB scored to twelve, and the threshold is 1: where that matters they are computed
    again."""
    table = NAB / "reference" / "windowedGaussian_standard_scores.csv"
    if not table.exists():
        pytest.skip("no reference scores in ../shared/data/nab beside the repository")
    windows = json.loads((NAB / "windows.json").read_text())
    expected, found = [], []
    with table.open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        with gzip.open(NAB / "reference" / f"{row['File']}.gz", "rt", newline="") as file:
            ticks = list(csv.DictReader(file))
        place = {tick["timestamp"]: i for i, tick in enumerate(ticks)}
        own = [(place[a[:19]], place[b[:19]]) for a, b in windows[row["File"]]]
        scores = np.array([float(tick["anomaly_score"]) for tick in ticks])
        threshold = float(row["Threshold"])
        if (scores == threshold).any():
            with (NAB / row["File"]).open(newline="") as file:
                values = np.array([float(tick["value"]) for tick in csv.DictReader(file)])
            exact = windowed_gaussian(values)
            np.testing.assert_allclose(exact, scores, atol=1e-9)
            scores = np.round(exact, 12)
        one = nab_score(scores >= threshold, own)
        assert one.score == pytest.approx(float(row["Score"]), abs=1e-9), row["File"]
        expected.append(float(row["Score"]))
        found.append(one)
    assert len(found) == len(rows) >= 30
    count = sum(one.windows for one in found)
    assert final_score(found) == pytest.approx(100 * (sum(expected) + count) / (2 * count))
