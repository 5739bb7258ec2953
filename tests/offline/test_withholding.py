"""Rows taken out of what is learned from: no window spans the hole."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from detector.config import parse_config
from detector.core.features import FeatureSet
from detector.core.runs import RunCollector
from detector.core.ticks import Float32, TickBatch
from detector.offline.recordings import RowReader, Withholding

FEATURES = FeatureSet.parse({"value": "value", "step": "diff(value)"})
TICKS = 60


def batch() -> TickBatch:
    """Two series in turn, values counting up."""
    at = np.arange(TICKS)
    return TickBatch(
        series=["ab"[i % 2] for i in range(TICKS)],
        time_ns=at * 10**9,
        values=at[:, None].astype(np.float64),
        partition=np.zeros(TICKS, np.int32),
        offset=at,
        index=np.zeros(TICKS, np.int32),
        received_ms=at * 1000,
    )


def runs(withheld: list[int], cuts: list[int], **window: float) -> list[Float32]:
    config = parse_config({"window": window})
    reader, withholding, collected = RowReader(FEATURES, config), Withholding(), RunCollector()
    mask = np.zeros(TICKS, np.bool_)
    mask[withheld] = True
    whole = batch()
    for begin, end in zip([0, *cuts], [*cuts, TICKS], strict=True):
        part = replace(whole.part(slice(begin, end)))
        _, rows = reader.read(part)
        collected.add(withholding.rest(rows, mask[begin:end]))
    return collected.runs()


@pytest.mark.parametrize("cuts", [[], [30], [20, 21, 22, 31], list(range(1, TICKS))])
def test_a_hole_ends_a_run_however_the_ticks_were_batched(cuts: list[int]) -> None:
    found = runs([20, 22, 24, 41], cuts)  # three ticks of a, one of b
    values = [run[:, 0].tolist() for run in found]
    # The first tick of each series has no step.
    assert values == [
        list(range(2, 20, 2)),
        list(range(26, TICKS, 2)),
        list(range(3, 41, 2)),
        list(range(43, TICKS, 2)),
    ]
    assert all((run[:, 1] == 2).all() for run in found), "each step is to the tick before"


def test_nothing_withheld_changes_nothing() -> None:
    assert [len(run) for run in runs([], [30])] == [TICKS // 2 - 1, TICKS // 2 - 1]


def test_a_gap_inside_a_hole_is_no_second_one() -> None:
    found = runs(list(range(20, 30)), [25], max_gap_s=1000.0)
    assert len(found) == 4


def test_a_series_that_is_wholly_withheld_gives_no_run() -> None:
    found = runs(list(range(0, TICKS, 2)), [30])
    assert [run[0, 0] for run in found] == [3]
