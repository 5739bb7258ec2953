"""A track takes the place of another at any tick, in any split into batches."""

from __future__ import annotations

import itertools
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.build import make_pipeline, make_track
from detector.config import parse_config
from detector.core.exchange import exchange
from detector.core.habits import OpenAlerts
from detector.core.pipeline import Beside, Pipeline
from detector.core.ticks import Outcome, TickBatch
from detector.core.track import Track
from detector.model.directory import Artifact
from tests.artifacts import make_artifact

CONFIG = parse_config(
    {
        "window": {"length_ticks": "auto", "max_gap_s": 20.0, "silence_s": 30.0},
        "threshold": {"method": "fixed", "value": 1.0, "cold_windows": 4},
        "alerts": {"open_after": 1, "of_last": 2, "resolve_after": 2},
    }
)
SAME = {"x": "value(x)", "d": "diff(y)"}


@cache
def artifact(seed: int, length: int = 3) -> Artifact:
    path = Path(mkdtemp()) / "m"
    return make_artifact(path, SAME, length=length, seed=seed, evidence=True)


def track(seed: int, length: int = 3) -> Track:
    return make_track(CONFIG, artifact(seed, length))


def ticks(count: int, seed: int, *, fields: int = 2) -> TickBatch:
    random = np.random.default_rng(seed)
    at = np.arange(count)
    scale = np.where((at // 20) % 3 == 2, 6.0, 1.0)[:, None]
    return TickBatch(
        series=[f"s{i}" for i in random.integers(0, 3, count).tolist()],
        time_ns=at * 10**9 + np.cumsum(random.random(count) < 0.02) * 25 * 10**9,
        values=random.normal(0, 1, (count, fields)) * scale,
        partition=np.zeros(count, np.int32),
        offset=at,
        index=np.zeros(count, np.int32),
        received_ms=at * 1000,
    )


def run(pipeline: Pipeline, batch: TickBatch, cuts: list[int]) -> list[object]:
    """Everything that was said, but for how it was cut."""
    edges = sorted({0, len(batch), *(c for c in cuts if c < len(batch))})
    found: list[object] = []
    for begin, end in itertools.pairwise(edges):
        result = pipeline.process(batch.part(slice(begin, end)))
        found += [*zip(result.outcome.tolist(), result.score.view(np.int64).tolist(), strict=True)]
        found += [repr(alert) for alert in result.alerts]
    return sorted(found, key=repr)


def state(pipeline: Pipeline) -> dict[str, bytes]:
    names = [f"s{i}" for i in range(3)]
    slots = [s for n in names if (s := pipeline.stream.series.find(0, n)) >= 0]
    return {
        name: column.tobytes()
        for name, column in pipeline.snapshot(np.array(slots, np.int64)).columns.items()
    }


@given(
    seed=st.integers(0, 50),
    at=st.integers(0, 120),
    cuts=st.lists(st.integers(1, 119), max_size=8),
    after=st.sampled_from([(2, 3), (3, 4), (1, 3)]),
)
@settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
def test_any_split_gives_the_same_around_a_change_at_the_same_place(
    seed: int, at: int, cuts: list[int], after: tuple[int, int]
) -> None:
    batch, outcomes = ticks(120, seed), []
    for split in ([], cuts):
        pipeline = make_pipeline(CONFIG, artifact(1))
        found = run(pipeline, batch.part(slice(0, at)), split)
        exchange(pipeline, track(*after))
        found += run(pipeline, batch.part(slice(at, 120)), [c - at for c in split if c > at])
        outcomes.append((found, state(pipeline)))
    assert outcomes[0] == outcomes[1]


def test_where_the_features_are_the_same_nothing_warms_up_and_nobody_gets_cold() -> None:
    pipeline = make_pipeline(CONFIG, artifact(1))
    pipeline.process(ticks(300, 1))
    assert pipeline.acquaintance().cold == 0
    found = exchange(pipeline, track(2))
    assert (found.windows, found.previous, found.score) == (True, True, False)
    assert (pipeline.warming_series(), pipeline.acquaintance().cold) == (0, 0)
    more = ticks(400, 1).part(slice(300, 400))
    outcomes = pipeline.process(more).counts()
    # A gap restarts windows for whatever model.
    alone = make_pipeline(CONFIG, artifact(2))
    alone.process(ticks(300, 1))
    assert outcomes == alone.process(more).counts()


def test_another_length_warms_up_and_says_so() -> None:
    pipeline = make_pipeline(CONFIG, artifact(1))
    pipeline.process(ticks(300, 1))
    found = exchange(pipeline, track(3, 4))
    assert not found.windows
    assert "windows have 4 ticks, not 3" in found.words()
    assert pipeline.warming_series() == 3
    later = pipeline.process(ticks(301, 1).part(slice(300, 301)))
    assert later.outcome.tolist() == [Outcome.WARMING]


def test_an_open_alert_stays_open_and_the_new_model_resolves_it() -> None:
    pipeline = make_pipeline(CONFIG, artifact(1))
    opened = [a for a in pipeline.process(ticks(60, 1)).alerts if a.kind != "silence"]
    still = {a.alert_id for a in opened if a.state.name == "OPENED"} - {
        a.alert_id for a in opened if a.state.name == "RESOLVED"
    }
    assert still
    exchange(pipeline, track(2))
    assert pipeline.open_by_kind()["reconstruction_error"] == len(still)
    later = pipeline.process(ticks(200, 1).part(slice(60, 200))).alerts
    ended = {a.alert_id: a.model_version for a in later if a.state.name == "RESOLVED"}
    assert still <= ended.keys()
    assert {ended[name] for name in still} == {"random-2"}


def test_the_same_model_under_other_rules_keeps_everything() -> None:
    one, other = (make_pipeline(CONFIG, artifact(1)) for _ in range(2))
    for pipeline in (one, other):
        pipeline.process(ticks(100, 4))
    assert exchange(one, track(1)).score
    assert state(one) == state(other)
    more = ticks(200, 4).part(slice(100, 200))
    assert run(one, more, []) == run(other, more, [])


@pytest.mark.parametrize("at", [150, 300])
def test_a_model_from_the_shadow_goes_on_as_if_it_had_run_alone(at: int) -> None:
    pipeline, alone = make_pipeline(CONFIG, artifact(1)), make_pipeline(CONFIG, artifact(2))
    beside = track(2)
    pipeline.beside.append(Beside(beside, OpenAlerts()))
    whole = ticks(400, 2)
    pipeline.process(whole.part(slice(0, at)))
    alone.process(whole.part(slice(0, at)))
    pipeline.beside.clear()
    exchange(pipeline, beside, warm=True)
    for name, column in state(pipeline).items():
        if name.startswith(("score.", "windows.", "intake.")):
            assert column == state(alone)[name], name
    rest = whole.part(slice(at, 400))
    one, other = pipeline.process(rest), alone.process(rest)
    assert one.score.tobytes() == other.score.tobytes()
    assert one.outcome.tolist() == other.outcome.tolist()
