"""A model trained from a program: the very one that `detector train` makes of the same ticks."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import detector
from tests.processes import clean_environment

pytestmark = pytest.mark.training

CONFIG: dict[str, Any] = {
    "features": {"wave": "wave", "step": "diff(wave)"},
    "window": {"length_ticks": 5},
    "model": {"units": [4, 2]},
    "training": {"epochs": 2, "batch_size": 64, "xla": False},
    "threshold": {"method": "quantile", "false_alarms_per_window": 0.05},
}


def ticks() -> pd.DataFrame:
    random = np.random.default_rng(2)
    time_s = np.arange(3000, dtype=float)
    wave = np.sin(time_s / 5) + random.normal(0, 0.05, 3000)
    return pd.DataFrame({"timestamp": time_s, "wave": wave, "is_anomaly": 0})


def test_a_table_trains_the_model_that_its_file_trains(tmp_path: Path) -> None:
    table, seen = ticks(), list[int]()
    trained = detector.train(table, config=CONFIG, progress=lambda epoch, *_: seen.append(epoch))
    table.to_csv(tmp_path / "data.csv", index=False)
    again = detector.train(tmp_path / "data.csv", config=CONFIG)
    assert seen == [1, 2]
    assert trained.report.model_version == again.report.model_version
    assert trained.report.ticks == 3000
    assert trained.save(tmp_path / "model") == trained.report.model_version
    values = table[["wave"]]
    results = [
        detector.load(model, config=CONFIG).update("w", table["timestamp"], values)
        for model in (trained, tmp_path / "model")
    ]
    np.testing.assert_array_equal(results[0].score, results[1].score)
    assert results[0].counts()["scored"] == 2995
    with pytest.raises(detector.DataError, match="too few uninterrupted ticks"):
        detector.train(table[:50], config=CONFIG)


def test_features_and_the_window_can_be_left_to_the_data() -> None:
    config = CONFIG | {"window": {"length_ticks": "auto"}}
    del config["features"]
    table = ticks()
    auto = detector.train([table, table], config=config)
    assert (auto.report.features, auto.report.left_out) == (("wave",), ("is_anomaly",))
    assert auto.report.period in (31, 32)  # 10 pi
    assert auto.report.length == auto.report.period
    for length in ("auto", auto.report.length):
        again = config | {"window": {"length_ticks": length}}
        assert detector.load(auto, config=again).length == auto.report.length


def test_training_in_a_program_leaves_its_environment_alone(tmp_path: Path) -> None:
    """The command hides GPUs and TensorFlow's greetings; a host decides for itself."""
    ticks().to_csv(tmp_path / "data.csv", index=False)
    program = f"""
import os, detector
before = dict(os.environ)
try:
    detector.train({str(tmp_path / "data.csv")!r}, config={{"window": {{"length_ticks": 2999}}}})
except detector.DataError:
    pass
changed = {{k for k in os.environ if os.environ[k] != before.get(k)}}
assert not {{k for k in changed if "CUDA" in k or "KERAS" in k or "CPP_MIN_LOG" in k}}, changed
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        text=True,
        env=clean_environment(),
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
