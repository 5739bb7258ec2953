"""Scores: of a window alone, whatever stands beside it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.contributions import contributions
from detector.core.scaling import Scaling
from detector.core.scorer import GraphScorer, all_errors
from detector.core.scores import LARGEST, MeanScore
from detector.core.scores.mean import mean_score
from detector.core.ticks import Float32
from detector.core.windows import WindowStore
from detector.engines import open_graph
from detector.model.export import scorer_graph
from detector.model.family import Architecture
from detector.model.weights import random_network
from tests.artifacts import make_artifact

LENGTH = 5


@pytest.fixture(scope="module", params=[((6, 4), 1, 1), ((32, 16), 4, 1), ((16,), 3, 2)], ids=str)
def scorer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> GraphScorer:
    units, features, threads = request.param
    expressions = {f"f{i}": f"f{i}" for i in range(features)}
    path = tmp_path_factory.mktemp("model") / "model"
    artifact = make_artifact(path, expressions, length=LENGTH, units=units)
    return artifact.open_scorer(threads=threads)


def windows_like(scorer: GraphScorer, count: int) -> Float32:
    random = np.random.default_rng(5)
    shape = (count, scorer.length, scorer.features)
    return (random.normal(size=shape) * random.lognormal(0, 3, (count, 1, 1))).astype(np.float32)


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 16, 31, 64, 255, 256, 257])
def test_a_window_scores_the_same_to_the_last_bit_in_any_company(
    scorer: GraphScorer, size: int
) -> None:
    windows = windows_like(scorer, 600)
    whole = scorer.errors(windows)
    parts = [scorer.errors(windows[i : i + size]) for i in range(0, len(windows), size)]
    np.testing.assert_array_equal(np.concatenate(parts), whole)
    assert mean_score(np.concatenate(parts)).tobytes() == mean_score(whole).tobytes()


def test_the_order_of_windows_does_not_matter(scorer: GraphScorer) -> None:
    windows = windows_like(scorer, 300)
    order = np.random.default_rng(1).permutation(300)
    np.testing.assert_array_equal(scorer.errors(windows[order]), scorer.errors(windows)[order])


@pytest.mark.parametrize("batches", [0, 1, 3])
@pytest.mark.parametrize("more", [0, 1, -1, 7])
def test_batches_give_what_one_call_gives(scorer: GraphScorer, batches: int, more: int) -> None:
    count = max(0, batches * scorer.batch + more)
    store = WindowStore(length=LENGTH, features=scorer.features, stride=1, needs_previous=False)
    ticks = count + LENGTH - 1
    rows = windows_like(scorer, ticks)[:, 0].copy()
    windows = store.push(np.zeros(ticks, np.int64), np.arange(ticks) == 0, rows)
    scored = MeanScore(scorer, features=scorer.features).of(np.zeros(count, np.int64), windows)
    scores, errors = scored.score, scored.errors
    assert (scores.shape, errors.shape) == ((count,), (count, scorer.features))
    np.testing.assert_array_equal(errors, all_errors(scorer, windows, scorer.features))
    if count:
        whole = scorer.errors(windows.cut(slice(None)))
        np.testing.assert_array_equal(errors, whole)
        np.testing.assert_array_equal(scores, mean_score(whole))


def test_errors_are_those_of_the_reconstruction(tmp_path: Path) -> None:
    """The two outputs of the graph agree: mean squared difference in the compressed scale."""
    scale, squash = 0.5, 4.0
    artifact = make_artifact(tmp_path / "m", {"a": "a", "b": "b"}, length=LENGTH, scale=scale)
    scorer = artifact.open_scorer(threads=1)
    windows = np.random.default_rng(2).normal(size=(20, LENGTH, 2)).astype(np.float32)
    expected = scorer.reconstruct(windows)
    assert expected.shape == windows.shape

    def compressed(x: Float32) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
        return squash * np.arcsinh(x.astype(np.float64) / scale / squash)

    error = ((compressed(windows) - compressed(expected)) ** 2).mean(axis=1)
    np.testing.assert_allclose(scorer.errors(windows), error, rtol=1e-4, atol=1e-6)


def test_a_larger_outlier_scores_higher(tmp_path: Path) -> None:
    scorer = make_artifact(tmp_path / "m", length=LENGTH).open_scorer(threads=1)
    windows = np.zeros((12, LENGTH, 1), np.float32)
    windows[:, -1, 0] = 10.0 ** np.arange(1, 13)
    assert (np.diff(mean_score(scorer.errors(windows))) > 0).all()


@given(
    errors=st.lists(
        st.lists(st.floats(0, 2.0**100, width=32), min_size=3, max_size=3), min_size=1, max_size=5
    )
)
@settings(deadline=None, max_examples=200)
def test_contributions_are_shares_of_the_whole(errors: list[list[float]]) -> None:
    rows = np.array(errors, np.float32)
    shares = contributions(rows)
    np.testing.assert_allclose(shares.sum(axis=1), 1)
    assert (shares >= 0).all()
    for row, share in zip(rows.astype(np.float64), shares, strict=True):
        if row.sum() > 0:
            np.testing.assert_allclose(share, row / row.sum(), rtol=1e-9)


def test_without_any_error_all_features_share_alike() -> None:
    assert contributions(np.zeros((1, 4), np.float32)).tolist() == [[0.25] * 4]


@given(st.lists(st.lists(st.floats(0, 1e6, width=32), min_size=4, max_size=4), min_size=1))
@settings(deadline=None, max_examples=100)
def test_the_score_of_a_row_does_not_depend_on_the_others(errors: list[list[float]]) -> None:
    rows = np.array(errors, np.float32)
    together = mean_score(rows)
    assert [mean_score(row[None])[0] for row in rows] == together.tolist()


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [1.0, 1e6, 1e30])
def test_an_explanation_is_finite_however_far_the_network_strays(size: float) -> None:
    """A relu network has no bound, and its output is scaled back by an exponential."""
    scaling = Scaling(np.zeros(1), np.ones(1), 4.0)
    architecture = Architecture(32, 1, (32, 16), activation="relu")
    network = random_network(architecture)
    graph = scorer_graph(architecture, network, scaling, np.ones(1))
    scorer = GraphScorer(open_graph(graph, threads=1), scaling)
    windows = np.random.default_rng(0).normal(0, size, (50, 32, 1)).astype(np.float32)
    assert np.isfinite(scorer.errors(windows)).all()
    assert np.isfinite(scorer.reconstruct(windows)).all()


def test_whatever_the_score_one_that_is_not_finite_is_above_every_threshold() -> None:
    errors = np.array([[1.0, 3.0], [np.inf, 0.0], [np.nan, 0.0]], np.float32)
    assert mean_score(errors).tolist() == [2.0, LARGEST, LARGEST]
