"""Evidence through the pipeline: no look-ahead, no trace of how the stream was cut, state that goes
on, and alerts that say which view."""

from __future__ import annotations

from functools import cache
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from detector.core.alerts import State
from detector.core.cloudevents import decode_alert, encode_alert
from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.scores import EvidenceScore, Scored
from detector.core.ticks import Float64
from detector.model.directory import Artifact
from tests.artifacts import make_artifact
from tests.core.making import Rules, one_a_second, pipeline_of
from tests.model.formulas import architectures

LENGTH = 6
EXPRESSIONS = {"x": "x", "move": "diff(y)"}
KINDS = (
    "reconstruction", "sequence", "last_step", "dense",
    "prediction, horizon 1, forward, conditioned=False",
    "composite, horizon 2, reversed, conditioned=True",
)  # fmt: skip
FEATURES = FeatureSet.parse(EXPRESSIONS)


@cache
def artifact_of(name: str) -> Artifact:
    options = architectures(LENGTH, 2)[name].to_json()
    with TemporaryDirectory() as directory:
        path = Path(directory) / "model"
        return make_artifact(path, EXPRESSIONS, length=LENGTH, evidence=True, **options)


def make_pipeline(name: str, *, threshold: float = 3.0, stride: int = 1) -> Pipeline:
    rules = Rules(
        topic="ticks",
        length=LENGTH,
        stride=stride,
        max_gap_s=None,
        max_series=10,
        threshold=threshold,
        alerts=AlertPolicy(open_after=1, of_last=1, resolve_after=3),
        model_version="v1",
    )
    score = artifact_of(name).open_score(threads=1, stride=stride)
    assert isinstance(score, EvidenceScore)
    return pipeline_of(rules, FEATURES, score)


def normal(seed: int, ticks: int) -> Float64:
    random = np.random.default_rng(seed)
    # The second feature is the difference of two ticks: of deviation 1.
    return np.stack([random.normal(size=ticks), random.normal(size=ticks) / np.sqrt(2)], axis=1)


@pytest.mark.parametrize("name", KINDS)
@given(
    seed=st.integers(0, 2**32 - 1),
    ticks=st.integers(LENGTH + 1, 8 * LENGTH),
    data=st.data(),
    other=st.sampled_from([-1e9, -3.0, 0.5, 40.0]),
)
@settings(deadline=None, max_examples=8)
def test_a_later_tick_never_changes_an_earlier_score(
    name: str, seed: int, ticks: int, data: st.DataObject, other: float
) -> None:
    changed = data.draw(st.integers(0, ticks - 1))
    values = normal(seed, ticks)
    one = make_pipeline(name).process(one_a_second(values)).score
    values[changed:] = other
    two = make_pipeline(name).process(one_a_second(values)).score
    assert one[:changed].tobytes() == two[:changed].tobytes()
    alone = make_pipeline(name).process(one_a_second(values[: changed + 1])).score
    assert alone.tobytes() == two[: changed + 1].tobytes()


def whole(results: list[BatchResult]) -> tuple[bytes, list[bytes]]:
    scores = np.concatenate([r.score for r in results]).tobytes()
    alerts = [a for r in results for a in r.alerts]
    return scores, [encode_alert(a, source="/t", detected_ns=0) for a in alerts]


@pytest.mark.parametrize("name", KINDS)
@given(
    seed=st.integers(0, 2**32 - 1),
    cuts=st.lists(st.integers(0, 300), max_size=4).map(sorted),
    stride=st.sampled_from([1, 3]),
    again=st.integers(0, 4),
)
@settings(deadline=None, max_examples=8)
def test_however_the_stream_is_cut_and_wherever_it_starts_again_it_says_the_same(
    name: str, seed: int, cuts: list[int], stride: int, again: int
) -> None:
    """With a break in it, so that alerts are compared too."""
    values = normal(seed, 300)
    values[170:174, 0] += 30
    expected = whole([make_pipeline(name, stride=stride).process(one_a_second(values, series=3))])
    edges = [0, *cuts, 300]
    pipeline, found = make_pipeline(name, stride=stride), []
    for number, (begin, end) in enumerate(pairwise(edges)):
        if number == again:  # another process goes on with what was saved
            slots = np.arange(pipeline.active_series())
            saved, event_ns = pipeline.snapshot(slots), pipeline.event_ns(0)
            pipeline = make_pipeline(name, stride=stride)
            pipeline.restore(saved, np.full(len(slots), begin))
            if event_ns is not None:
                pipeline.set_event_ns(0, event_ns)
        found.append(pipeline.process(one_a_second(values[begin:end], first=begin, series=3)))
    assert whole(found) == expected


@pytest.mark.parametrize("name", KINDS)
def test_an_alert_says_which_view_and_which_feature(name: str) -> None:
    values = normal(1, 200)
    values[150, 0] += 30
    alerts = make_pipeline(name).process(one_a_second(values)).alerts
    (opened,) = [a for a in alerts if a.time_ns == 150 * 10**9 and a.state is State.OPENED]
    assert opened.score is not None
    assert opened.score > 3
    assert set(opened.views) == set(artifact_of(name).manifest["calibration"]["views"])
    assert opened.views["move"] > 3
    assert opened.views["tick"] > 3
    assert opened.contributions["x"] > 0.6
    assert sum(opened.contributions.values()) == pytest.approx(1)
    assert len(opened.expected) in (LENGTH, 2, 1)
    again = decode_alert(encode_alert(opened, source="/t", detected_ns=0)).alert
    assert dict(again.views) == dict(opened.views)


def test_where_a_memory_leads_its_nearest_window_is_what_was_expected() -> None:
    artifact = artifact_of("prediction, horizon 1, forward, conditioned=False")
    score, names = artifact.open_score(threads=1), artifact.manifest["calibration"]["views"]
    windows = np.random.default_rng(2).normal(size=(2, LENGTH, 2)).astype(np.float32) * 3
    evidence = np.ones((2, len(names)))
    weight = evidence.copy()
    weight[0, names.index("memory")] = 2
    weight[1, names.index("tick")] = 2
    one = np.ones(2)
    scored = Scored(one, np.ones((2, 2), np.float32), evidence, weight, one, one, np.zeros(2, bool))
    by_memory, by_tick = score.explain(scored, np.arange(2), windows)
    assert by_memory.expected.shape == (LENGTH, 2)
    assert np.abs(by_memory.expected).max() < 6, "it was normal once"
    assert by_tick.expected.shape == (1, 2), "what the network foretold"


def test_a_series_that_has_moved_for_good_is_strange_at_first_and_then_no_more() -> None:
    name = "reconstruction"
    values = normal(3, 1500)
    values[200:, 0] += 6
    score = make_pipeline(name).process(one_a_second(values)).score
    assert np.nanmax(score[200:210]) > 3
    assert np.nanmean(score[1200:]) < 1
    assert np.nanmean(score[:200]) < 1


def test_fresh_normal_windows_exceed_a_threshold_as_often_as_it_says() -> None:
    score = make_pipeline("reconstruction").process(one_a_second(normal(4, 20_000))).score
    score = score[np.isfinite(score)]
    for decade in (1, 2):
        share = np.mean(score > decade)
        assert 0.5 * 10.0**-decade < share < 2.0 * 10.0**-decade
