"""Views in the graph, fitted to normal windows, calibrated on others, and what becomes of them."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.runs import History, WindowSet
from detector.core.scaling import Scaling
from detector.core.scorer import GraphScorer
from detector.core.ticks import Float32
from detector.engines import open_graph
from detector.errors import ArtifactError, DataError
from detector.model.directory import Artifact, load_artifact
from detector.model.evidence import Network, calibrate
from detector.model.export import scorer_graph
from detector.model.family import Architecture
from detector.model.views import fit_views
from detector.model.views.view import Normal, spread_of_errors
from detector.model.weights import random_network
from tests.artifacts import make_artifact
from tests.model.formulas import architectures
from tests.model.test_directory import edit_manifest

LENGTH = 10
_NAMES = (
    "reconstruction", "sequence, one layer", "last_step", "dense",
    "prediction, horizon 1, forward, conditioned=False",
    f"prediction, horizon {LENGTH - 1}, reversed, conditioned=True",
    "composite, horizon 2, forward, conditioned=False",
    "composite, horizon 1, reversed, conditioned=True",
)  # fmt: skip
KINDS = {name: architectures(LENGTH, 3)[name] for name in _NAMES}
of_every_kind = pytest.mark.parametrize("name", KINDS)


@cache
def artifact_of(name: str) -> Artifact:
    case = KINDS[name]
    features = {f"f{i}": f"f{i}" for i in range(case.features)}
    with TemporaryDirectory() as directory:
        options = case.to_json()
        return make_artifact(
            Path(directory) / "model", features, length=LENGTH, evidence=True, **options
        )


def windows(count: int, *, features: int = 3, seed: int = 5) -> Float32:
    return np.random.default_rng(seed).normal(size=(count, LENGTH, features)).astype(np.float32)


@of_every_kind
def test_a_window_looks_the_same_to_the_last_bit_in_any_company(name: str) -> None:
    scorer, x = artifact_of(name).open_scorer(threads=1), windows(70)
    whole = scorer.look(x)
    for size in (1, 2, 3, 9, 33):
        parts = [scorer.look(x[i : i + size]) for i in range(0, len(x), size)]
        assert np.concatenate([p.views for p in parts]).tobytes() == whole.views.tobytes()
        assert np.concatenate([p.errors for p in parts]).tobytes() == whole.errors.tobytes()
    order = np.random.default_rng(0).permutation(len(x))
    assert scorer.look(x[order]).views.tobytes() == whole.views[order].tobytes()


@pytest.mark.parametrize("features", [1, 2, 5, 7, 13])
def test_nor_does_the_number_of_features_matter_for_that(features: int) -> None:
    """Sums along rows that begin anywhere in memory."""
    rows = windows(300, features=features)
    case = Architecture(LENGTH, features, (4, 3))
    network = random_network(case)
    scaling = Scaling(np.zeros(features), np.ones(features), 4.0)
    normal = Normal(scaling.apply(rows), np.abs(rows[:, -1]))
    graph = scorer_graph(case, network, scaling, np.ones((1, features)), fit_views(normal))
    scorer = GraphScorer(open_graph(graph, threads=1), scaling)
    x = windows(60, features=features, seed=6) * np.float32(3)
    whole = scorer.look(x).views
    for size in (1, 4, 7, 31):
        parts = [scorer.look(x[i : i + size]).views for i in range(0, len(x), size)]
        assert np.concatenate(parts).tobytes() == whole.tobytes()


@of_every_kind
def test_every_view_says_which_feature(name: str) -> None:
    artifact = artifact_of(name)
    scorer, x = artifact.open_scorer(threads=1), windows(20)
    x[:, -1, 1] += 50  # the second feature breaks
    for view in artifact.calibrated().views:
        shares = scorer.shares(x, view)
        assert shares.shape == (20, 3)
        assert np.isfinite(shares).all()
        assert (shares >= 0).all()
        if view != "error":  # a random network may do worse elsewhere
            assert (shares.argmax(axis=1) == 1).mean() > 0.8, view


@of_every_kind
def test_a_break_is_evidence_to_every_view_of_the_ticks_themselves(name: str) -> None:
    artifact = artifact_of(name)
    scorer = artifact.open_scorer(threads=1)
    calibrated = artifact.calibrated()
    x = windows(20)
    x[:, -1] += 50
    evidence = calibrated.evidence(scorer.look(x).views)
    for view, found in zip(calibrated.views, evidence.T, strict=True):
        if view not in ("error", "last_error"):
            assert found.min() > 4, view


def test_a_memory_knows_the_windows_it_was_taught_and_shows_them() -> None:
    artifact = artifact_of("reconstruction")
    scorer = artifact.open_scorer(threads=1)
    near = scorer.nearest(windows(5), "memory")
    assert near is not None
    assert near.shape == (5, LENGTH, 3)
    whole = scorer.nearest(near, "memory")
    assert whole is not None
    np.testing.assert_allclose(whole, near, rtol=1e-4, atol=1e-5)
    names = artifact.calibrated().views
    distance = scorer.look(near).views[:, names.index("memory")]
    assert distance.max() < 0.01 * scorer.look(windows(5)).views[:, names.index("memory")].min()
    assert scorer.nearest(windows(5), "move") is None


@of_every_kind
def test_evidence_of_new_normal_windows_is_what_it_says(name: str) -> None:
    """One normal window in ten has evidence 1 or more, by each view and by all."""
    artifact = artifact_of(name)
    scorer = artifact.open_scorer(threads=1)
    calibrated = artifact.calibrated()
    rows = np.random.default_rng(11).normal(size=(4000, 3)).astype(np.float32)
    x = np.lib.stride_tricks.sliding_window_view(rows, LENGTH, axis=0).transpose(0, 2, 1)
    evidence = calibrated.evidence(scorer.look(np.ascontiguousarray(x)).views)
    shares = (evidence > 1).mean(axis=0)
    assert shares.min() > 0.06, dict(zip(calibrated.views, shares, strict=True))
    assert shares.max() < 0.16, dict(zip(calibrated.views, shares, strict=True))


@given(errors=st.lists(st.lists(st.floats(0, 100, width=32), min_size=2, max_size=2), min_size=1))
@settings(deadline=None, max_examples=100)
def test_what_errors_are_divided_by_is_never_nothing(errors: list[list[float]]) -> None:
    found = spread_of_errors(np.array(errors, np.float32))
    assert (found >= 1e-4).all()
    high = np.quantile(np.array(errors, np.float32).astype(np.float64), 0.99, axis=0)
    assert (found >= high).all()
    if (high > 0).any():
        assert found.min() >= 0.1 * np.median(high[high > 0])


@pytest.mark.parametrize(
    "content",
    [b"{}", b"not json", b'{"views": [], "total": {}}', b"[]"],
    ids=["empty", "broken", "no views", "a list"],
)
def test_a_model_whose_evidence_is_damaged_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model"
    make_artifact(path, length=LENGTH, evidence=True)
    (path / "evidence.json").write_bytes(content)
    digest = hashlib.sha256(content).hexdigest()
    edit_manifest(path, lambda m: m["files"].update({"evidence.json": digest}))
    with pytest.raises(ArtifactError, match=r"evidence\.json"):
        load_artifact(path).open_score(threads=1)


def test_a_network_that_knows_no_bounds_on_normal_windows_is_refused() -> None:
    case = Architecture(LENGTH, 1, (4, 3), activation="relu")
    scaling = Scaling(np.zeros(1), np.ones(1), 4.0)
    network = Network(case, random_network(case, spread=1e12), scaling, np.ones((1, 1)))
    rows = np.random.default_rng(0).normal(size=(300, 1)).astype(np.float32)
    start = np.arange(300 - LENGTH)
    past = History(WindowSet(rows, start, LENGTH), 0 * start, start / 300, start > 200, start)
    with pytest.raises(DataError, match="the error of a normal window is not finite"):
        calibrate(network, past, ("series",), most=1000)
