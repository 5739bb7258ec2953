"""Names with a number for every tick: a batch with them is the batch with a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from detector.core.names import Names
from detector.core.pipeline import Pipeline
from detector.core.ticks import TickBatch, names_at
from tests.core.agreeing import MODELS, Log, make_pipeline, policies, run
from tests.core.making import Rules, one_a_second
from tests.core.reference import Tick, batch_of
from tests.core.streams import cut, cuts, streams

_SETTINGS = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def numbered(pipeline: Pipeline, ticks: Sequence[Tick]) -> TickBatch:
    """As a decoder gives them: of each partition by itself, and one that has no tick here."""
    batch = batch_of(pipeline, ticks)
    keys = [f"{tick.partition}/{tick.series}" for tick in ticks]
    names = Names.of(["0/nobody", *keys])
    distinct = [name.partition("/")[2] for name in names.distinct]
    return replace(batch, series=Names(distinct, names.code[1:]))


@pytest.mark.parametrize("model", MODELS)
@given(policy=policies(), ticks=streams(), at=cuts)
@settings(_SETTINGS, max_examples=100)
def test_numbered_names_fare_as_a_list_of_them(
    model: str, policy: Rules, ticks: list[Tick], at: list[int]
) -> None:
    pipeline, log = make_pipeline(policy, model), Log()
    for some in cut(ticks, at):
        log.add(pipeline.process(numbered(pipeline, some)))
    assert log == run(make_pipeline(policy, model), cut(ticks, at))
    assert pipeline.stream.series.find(0, "nobody") == -1


@given(names=st.lists(st.sampled_from("abc"), min_size=1, max_size=12), border=st.integers(0, 12))
def test_parts_of_a_batch_and_batches_put_together_keep_the_names(
    names: list[str], border: int
) -> None:
    batch = replace(one_a_second(np.zeros((len(names), 1))), series=Names.of(names))
    parts = [batch.part(slice(0, border)), batch.part(slice(border, None))]
    whole = TickBatch.concatenate(parts, fields=1)
    assert isinstance(whole.series, Names)
    assert list(whole.series) == names
    mixed = TickBatch.concatenate([parts[0], replace(parts[1], series=names[border:])], fields=1)
    assert list(mixed.series) == names
    rows = np.arange(len(names))[::2]
    assert list(names_at(batch.series, rows)) == list(names_at(names, rows)) == names[::2]
