"""No kind of network sees a tick before it has come: asked of the pipeline itself."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.scorer import GraphScorer
from detector.core.ticks import Float64
from tests.artifacts import make_artifact
from tests.core.making import Rules, one_a_second, pipeline_of
from tests.model.formulas import architectures

LENGTH = 5
EXPRESSIONS = {"x": "x", "y": "y"}
CASES = {n: c for n, c in architectures(LENGTH, 2).items() if c.activation == "tanh"}


@cache
def scorer(name: str) -> GraphScorer:
    options = CASES[name].to_json()
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        return make_artifact(path, EXPRESSIONS, length=LENGTH, **options).open_scorer(threads=1)


def make_pipeline(name: str) -> Pipeline:
    policy = Rules(
        topic="ticks",
        length=LENGTH,
        stride=1,
        max_gap_s=None,
        max_series=10,
        threshold=1e-9,  # every window alerts
        alerts=AlertPolicy(open_after=1, of_last=1, resolve_after=1),
        model_version="v1",
    )
    return pipeline_of(policy, FeatureSet.parse(EXPRESSIONS), scorer(name))


def process(pipeline: Pipeline, values: Float64, *, first: int = 0) -> BatchResult:
    """Ticks of one series, one a second."""
    return pipeline.process(one_a_second(values, first=first))


def series(seed: int, ticks: int) -> Float64:
    values: Float64 = np.random.default_rng(seed).normal(0, 1, (ticks, 2))
    return values


@pytest.mark.parametrize("name", CASES)
@given(
    seed=st.integers(0, 2**32 - 1),
    ticks=st.integers(LENGTH, 4 * LENGTH),
    data=st.data(),
    other=st.sampled_from([-1e9, -3.0, 0.5, 40.0]),
)
@settings(deadline=None, max_examples=25)
def test_a_later_tick_never_changes_an_earlier_score(
    name: str, seed: int, ticks: int, data: st.DataObject, other: float
) -> None:
    changed = data.draw(st.integers(0, ticks - 1))
    values = series(seed, ticks)
    one = process(make_pipeline(name), values).score
    values[changed:] = other
    two = process(make_pipeline(name), values).score
    assert one[:changed].tobytes() == two[:changed].tobytes()
    if changed >= LENGTH - 1:
        assert one[changed] != two[changed], "its own score tells of it at once"
    # A score is there as soon as its tick is: later ones may come in another batch, or never.
    alone = process(make_pipeline(name), values[: changed + 1]).score
    assert alone.tobytes() == two[: changed + 1].tobytes()


@pytest.mark.parametrize("name", [n for n, case in CASES.items() if case.kind == "prediction"])
@given(seed=st.integers(0, 2**32 - 1), other=st.sampled_from([-1e9, -3.0, 0.5, 40.0]))
@settings(deadline=None, max_examples=25)
def test_what_is_foretold_does_not_depend_on_what_comes(name: str, seed: int, other: float) -> None:
    horizon = CASES[name].horizon
    values = series(seed, LENGTH)
    (one,) = process(make_pipeline(name), values).alerts
    values[-horizon:] = other
    (two,) = process(make_pipeline(name), values).alerts
    assert one.expected.shape == (horizon, 2)
    assert one.expected.tobytes() == two.expected.tobytes()
    assert one.score != two.score


@pytest.mark.parametrize("name", CASES)
def test_an_alert_shows_what_was_expected_of_the_last_ticks(name: str) -> None:
    """The score is the difference of what the alert shows, at unit scale and squash 4."""
    case = CASES[name]
    values = series(3, LENGTH)
    (alert,) = process(make_pipeline(name), values).alerts
    assert alert.observed.shape == (LENGTH, 2)
    assert alert.expected.shape == (case.expected_ticks, 2)
    observed, expected = (
        4 * np.arcsinh(rows.astype(float) / 4) for rows in (alert.observed, alert.expected)
    )
    squared = (observed[-case.expected_ticks :] - expected) ** 2
    first = LENGTH - case.expected_ticks
    error = sum(
        t.weight * squared[t.start - first : t.start - first + t.steps].mean() for t in case.targets
    )
    assert alert.score == pytest.approx(error, rel=1e-4)
