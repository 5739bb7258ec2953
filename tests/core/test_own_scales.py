"""A model that sees each series in a scale of its own judges it as one that sees it as it is judges
the same series moved and stretched, and tells people about the ticks that came."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.own_scales import OwnScales
from detector.core.pipeline import Pipeline
from detector.core.ticks import Float64
from detector.core.track import Track
from tests.core.agreeing import scorer
from tests.core.making import Rules
from tests.core.reference import Tick, batch_of
from tests.core.streams import cut, cuts, streams

FEATURES = FeatureSet.parse({"price": "price", "size": "value(size)"})
#: Powers of two and small whole numbers: of ticks like these nothing is rounded on the way.
SCALES = OwnScales(
    ("a", "ü"),
    np.array([[8.0, -16.0], [0.0, 32.0]], np.float32),
    np.array([[0.5, 4.0], [2.0, 0.25]], np.float32),
    np.array([1.0, -2.0], np.float32),
)
RULES = Rules(
    topic="ticks",
    length=3,
    stride=1,
    max_gap_s=5.0,
    max_series=4,
    threshold=3.0,
    alerts=AlertPolicy(open_after=1, of_last=2, resolve_after=2, critical_ratio=2.0),
    model_version="v1",
    silence_s=20.0,
)


def pipeline(scales: OwnScales | None, forget_after_s: float | None = None) -> Pipeline:
    rules = replace(RULES, forget_after_s=forget_after_s)
    plain = rules.track(FEATURES, scorer("levels"))
    track = Track(plain.policy, FEATURES, plain._score, scales=scales)
    return Pipeline(rules.stream(FEATURES), track, topic="ticks")


def seen(own: Float64, row: int) -> Float64:
    """In double precision."""
    moved: Float64 = (own - SCALES.center[row]) * SCALES.factor[row] + SCALES.common[row]
    return moved


def exact(tick: Tick) -> bool:
    """Whether moving it rounds nothing."""
    return all(math.isfinite(v) and abs(v) < 1000 and v * 64 == int(v * 64) for v in tick.values)


def moved(tick: Tick) -> Tick:
    row = SCALES.row(tick.series)
    price, size = seen(np.array(tick.values), row)
    return replace(tick, values=(float(price), float(size)))


@given(ticks=streams(), at=cuts, forget_after_s=st.sampled_from([None, 4.0, 64.0]))
@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.too_slow])
def test_it_is_as_if_the_series_had_come_moved_and_stretched(
    ticks: list[Tick], at: list[int], forget_after_s: float | None
) -> None:
    """However the stream is cut, whoever has a slot after whom, known series or not."""
    ticks = [tick for tick in ticks if exact(tick)]
    own, plain = pipeline(SCALES, forget_after_s), pipeline(None, forget_after_s)
    for part in cut(ticks, at):
        found = own.process(batch_of(own, part))
        expected = plain.process(batch_of(plain, [moved(tick) for tick in part]))
        assert found.outcome.tolist() == expected.outcome.tolist()
        assert found.score.tobytes() == expected.score.tobytes()
        for one, other in zip(found.alerts, expected.alerts, strict=True):
            assert (one.alert_id, one.state, one.score) == (
                other.alert_id,
                other.state,
                other.score,
            )
            assert one.contributions == other.contributions
            row = SCALES.row(one.series)
            for ours, theirs in ((one.observed, other.observed), (one.expected, other.expected)):
                np.testing.assert_allclose(
                    seen(np.array(ours), row), np.array(theirs), rtol=1e-5, atol=1e-4
                )


@given(
    rows=st.lists(st.tuples(*[st.floats(-1e6, 1e6, width=32)] * 2), min_size=1),
    series=st.sampled_from(["a", "ü", "never seen"]),
)
def test_what_is_moved_is_moved_back(rows: list[tuple[float, float]], series: str) -> None:
    own, row = np.array(rows, np.float32), SCALES.row(series)
    there = SCALES.seen(own, row)
    np.testing.assert_allclose(SCALES.own(there, row), own, rtol=1e-6, atol=1e-4)
    for i in range(len(own)):  # a row alone and among others: the same bits
        alone = SCALES.seen(own[i : i + 1], np.array([row]))
        assert alone.tobytes() == there[i : i + 1].tobytes()
    if series == "never seen":
        assert there.tobytes() == own.tobytes()


def test_the_largest_of_numbers_stays_a_number() -> None:
    largest = np.full((1, 2), np.finfo(np.float32).max / 4, np.float32)
    for row in range(3):
        assert np.isfinite(SCALES.seen(largest, row)).all()
        assert np.isfinite(SCALES.own(-largest, row)).all()


@pytest.mark.parametrize(
    ("names", "center", "factor"),
    [
        (("a", "a"), [[1.0], [1.0]], [[1.0], [1.0]]),
        (("a",), [[0.0]], [[0.0]]),
        (("a",), [[0.0]], [[math.nan]]),
        (("a",), [[math.inf]], [[1.0]]),
        (("a", "b"), [[1.0]], [[1.0]]),
    ],
)
def test_scales_that_contradict_themselves_are_refused(
    names: tuple[str, ...], center: list[list[float]], factor: list[list[float]]
) -> None:
    with pytest.raises(ValueError, match="factor"):
        OwnScales(
            names,
            np.array(center, np.float32),
            np.array(factor, np.float32),
            np.zeros(1, np.float32),
        )
