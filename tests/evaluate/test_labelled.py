"""What labels say, and whose alert is right: each series by its own pace."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.config import parse_config
from detector.data.sources import DataTable
from detector.evaluate.labelled import label_events, measure
from tests.artifacts import make_artifact

LENGTH = 8


def test_an_event_ends_with_the_last_window_that_holds_a_labelled_tick() -> None:
    labels = np.zeros(40, np.bool_)
    labels[[10, 11, 12, 35]] = True
    time_ns = np.arange(40, dtype=np.int64) * 1000
    events = label_events("s", time_ns, labels, length=LENGTH)
    assert [(e.start_ns, e.end_ns) for e in events] == [(10_000, 19_000), (35_000, 39_000)]
    assert label_events("s", time_ns[:0], labels[:0], length=LENGTH) == []


@pytest.mark.parametrize("slow_step_s", [1, 3600])
def test_a_slow_series_forgives_no_false_alarm_in_a_fast_one(
    tmp_path: Path, slow_step_s: int
) -> None:
    """Both series have a labelled spike; the fast one has another, unlabelled, 50 ticks later."""
    artifact = make_artifact(tmp_path / "model", length=LENGTH)
    config = parse_config(
        {
            "features": {"value": "value"},
            "window": {"length_ticks": LENGTH},
            "threshold": {"method": "fixed", "value": 1.0},
            "alerts": {"open_after": 1, "of_last": 1, "resolve_after": 1},
        }
    )
    ticks = 200
    value = np.zeros(ticks)
    value[100] = 100.0
    label = (value > 0).astype(float)
    wrong = value.copy()
    wrong[150] = 100.0
    test = [
        DataTable({"timestamp": np.arange(ticks) * slow_step_s, "value": value, "label": label}),
        DataTable({"timestamp": np.arange(ticks), "value": wrong, "label": label}),
    ]
    area, f1 = measure(config, artifact, test)
    assert area is not None
    assert f1 == pytest.approx(2 * (2 / 3) / (1 + 2 / 3))  # three alerts, two of them right
