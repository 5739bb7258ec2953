"""A second track over the same stream judges as if it ran alone, and nobody notices it."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.pipeline import Pipeline, Verdict
from detector.core.scorer import GraphScorer
from detector.core.scores import LARGEST
from detector.core.ticks import Float32, Outcome
from tests.artifacts import make_artifact
from tests.core.agreeing import Log, run
from tests.core.making import PlainScorer, Rules, pipeline_of
from tests.core.reference import LOOKING_BACK, Tick, batch_of
from tests.core.streams import START_NS, cut, cuts, streams

PRIMARY = FeatureSet.parse({"bid": "value(bid)", "ask": "signed_log(ask)"})
SECOND = FeatureSet.parse(LOOKING_BACK.expressions)
_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def rules(length: int, *, threshold: float, version: str, forget_after_s: float | None) -> Rules:
    return Rules(
        topic="ticks",
        length=length,
        stride=1,
        max_gap_s=5.0,
        max_series=4,
        threshold=threshold,
        alerts=AlertPolicy(open_after=1, of_last=2, resolve_after=2, critical_ratio=2.0),
        model_version=version,
        silence_s=20.0,
        forget_after_s=forget_after_s,
    )


@cache
def scorer(length: int, second: bool) -> GraphScorer:
    features = SECOND if second else PRIMARY
    expressions = dict(zip(features.names, features.expressions, strict=True))
    with TemporaryDirectory() as directory:
        artifact = make_artifact(Path(directory) / "m", expressions, length=length, seed=second)
        return artifact.open_scorer(threads=1)


def usable(tick: Tick) -> bool:
    """For both models: what the second cannot use interrupts its windows."""
    return LOOKING_BACK.usable(tick.values)


def judge(pipeline: Pipeline, batches: list[list[Tick]]) -> list[Verdict]:
    return [pipeline.process(batch_of(pipeline, ticks)).beside[0] for ticks in batches]


@given(ticks=streams(), at=cuts, forget_after_s=st.sampled_from([None, 4.0, 64.0]))
@settings(_SETTINGS, max_examples=150)
def test_a_track_beside_another_judges_as_if_it_ran_alone(
    ticks: list[Tick], at: list[int], forget_after_s: float | None
) -> None:
    ticks = [tick for tick in ticks if usable(tick)]
    first = rules(3, threshold=3.0, version="v1", forget_after_s=forget_after_s)
    second = rules(4, threshold=2.0, version="v2", forget_after_s=forget_after_s)
    beside = second.track(SECOND, scorer(4, True))
    both = pipeline_of(first, PRIMARY, scorer(3, False), beside=[beside])
    alone = pipeline_of(second, SECOND, scorer(4, True))
    verdicts = judge(both, cut(ticks, at))
    expected = [alone.process(batch_of(alone, part)) for part in cut(ticks, at)]
    for found, result in zip(verdicts, expected, strict=True):
        assert found.outcome.tolist() == result.outcome.tolist()
        assert found.score.tobytes() == result.score.tobytes()
    opened = [change.state.name for verdict in verdicts for change in verdict.changes]
    alerts = [a for result in expected for a in result.alerts if a.kind != "silence"]
    assert sorted(opened) == sorted(a.state.name for a in alerts if a.reason is None)


@given(ticks=streams(), at=cuts)
@settings(_SETTINGS, max_examples=100)
def test_the_primary_does_not_notice_a_track_beside_it(ticks: list[Tick], at: list[int]) -> None:
    one = rules(3, threshold=3.0, version="v1", forget_after_s=64.0)
    alone = pipeline_of(one, PRIMARY, scorer(3, False))
    beside = replace(one, length=4, threshold=0.1).track(SECOND, scorer(4, True))
    both = pipeline_of(one, PRIMARY, scorer(3, False), beside=[beside])
    assert run(both, cut(ticks, at)) == run(alone, cut(ticks, at))
    assert both.spec() == alone.spec(), "nor does what is saved"


@given(ticks=streams(), at=cuts)
@settings(_SETTINGS, max_examples=60)
def test_any_split_gives_the_same_verdicts(ticks: list[Tick], at: list[int]) -> None:
    def make() -> Pipeline:
        one = rules(3, threshold=3.0, version="v1", forget_after_s=4.0)
        beside = replace(one, length=4).track(SECOND, scorer(4, True))
        return pipeline_of(one, PRIMARY, scorer(3, False), beside=[beside])

    whole, parts = judge(make(), [ticks]), judge(make(), cut(ticks, at))
    for name in ("outcome", "score"):
        together = np.concatenate([getattr(v, name) for v in parts])
        assert together.tobytes() == getattr(whole[0], name).tobytes()


def test_a_tick_that_a_track_cannot_use_interrupts_its_windows_and_no_others() -> None:
    one = rules(3, threshold=1e9, version="v1", forget_after_s=None)
    beside = replace(one, length=2).track(SECOND, scorer(2, True))
    both = pipeline_of(one, PRIMARY, scorer(3, False), beside=[beside])
    values = [(1.0, 1.0)] * 3 + [(-3.0, 1.0)] + [(1.0, 1.0)] * 3
    ticks = [Tick("a", START_NS + i * 10**9, v, i) for i, v in enumerate(values)]
    result = both.process(batch_of(both, ticks))
    assert [Outcome(o).name for o in result.outcome] == ["WARMING"] * 2 + ["SCORED"] * 5
    names = [Outcome(o).name for o in result.beside[0].outcome]
    # The first tick of a run has no predecessor.
    assert names == ["WARMING"] * 2 + ["SCORED", "REJECTED"] + ["WARMING"] * 2 + ["SCORED"]
    assert result.rejects == [], "a track beside the primary publishes nothing"


class _Endless(PlainScorer):
    """A network without bounds, from some size of input on."""

    def errors(self, windows: Float32) -> Float32:
        errors: Float32 = windows.astype(np.float64).max(axis=1).astype(np.float32)
        errors[errors > 100] = np.nan
        errors[errors > 10] = np.inf
        return errors

    def reconstruct(self, windows: Float32) -> Float32:
        return np.full_like(windows, np.nan)


@pytest.mark.parametrize("value", [50.0, 500.0])
def test_an_error_that_is_not_finite_is_as_strange_as_can_be(value: float) -> None:
    one = rules(2, threshold=20.0, version="v1", forget_after_s=None)
    pipeline = pipeline_of(one, PRIMARY, _Endless())
    values = [(1.0, 1.0)] * 3 + [(value, 1.0)] + [(1.0, 1.0)] * 4
    ticks = [Tick("a", START_NS + i * 10**9, v, i) for i, v in enumerate(values)]
    log = Log()
    result = pipeline.process(batch_of(pipeline, ticks))
    log.add(result)
    assert result.not_finite == 2
    assert [score == LARGEST for score in result.score.tolist()] == [False] * 3 + [True] * 2 + [
        False
    ] * 3
    opened, resolved = result.alerts
    assert (opened.state.name, opened.severity.name) == ("OPENED", "CRITICAL")
    assert opened.contributions == {"bid": 1.0, "ask": 0.0}
    assert (resolved.state.name, resolved.peak_score) == ("RESOLVED", LARGEST)
