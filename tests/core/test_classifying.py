"""The kind of fault in the alerts of a pipeline."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from detector.build import make_pipeline
from detector.config import Config, parse_config
from detector.core.alerts import Alert, State
from detector.core.ticks import TickBatch
from detector.errors import ArtifactError
from detector.model.directory import Artifact, load_artifact
from detector.offline.classify import save_classifier
from tests.artifacts import make_artifact, with_classifier

LENGTH, TICKS = 6, 300
CLASSES = ["normal", "spike", "frozen", "crossed"]


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    plain = make_artifact(tmp_path / "model", {"x": "x", "y": "y"}, length=LENGTH)
    return with_classifier(plain, CLASSES)


def config() -> Config:
    return parse_config(
        {
            "features": {"x": "x", "y": "y"},
            "window": {"length_ticks": LENGTH, "silence_s": 50},
            "threshold": {"method": "fixed", "value": 1.5},
            "alerts": {"open_after": 1, "of_last": 1, "resolve_after": 2},
        }
    )


def alerts(artifact: Artifact, *, ticks_a_batch: int) -> list[Alert]:
    """Of four wild series, in batches of some size; the last falls silent."""
    pipeline = make_pipeline(config(), artifact)
    random = np.random.default_rng(2)
    values = random.normal(0, 1.2, (TICKS, 2)) + 6 * np.sin(np.arange(TICKS) / 25)[:, None]
    names = [f"s{n % 4}" if n < 100 else f"s{n % 3}" for n in range(TICKS)]
    found = []
    for start in range(0, TICKS, ticks_a_batch):
        rows = np.arange(start, min(start + ticks_a_batch, TICKS))
        found += pipeline.process(batch(names, values, rows)).alerts
    return found


def batch(
    names: list[str],
    values: np.ndarray[tuple[int, int], np.dtype[np.float64]],
    rows: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> TickBatch:
    return TickBatch(
        series=[names[i] for i in rows.tolist()],
        time_ns=rows * 10**9,
        values=values[rows],
        partition=np.zeros(len(rows), np.int32),
        offset=rows,
        index=np.zeros(len(rows), np.int32),
        received_ms=rows * 1000,
    )


def test_a_replay_in_other_batches_gives_the_same_kinds_to_the_last_digit(
    artifact: Artifact,
) -> None:
    found = [a for a in alerts(artifact, ticks_a_batch=TICKS) if a.state is not State.RESOLVED]
    one_by_one = {a.id: a.fault for a in alerts(artifact, ticks_a_batch=1)}
    assert len({a.fault for a in found}) > 3, "always the same would prove nothing"
    for alert in found:
        assert alert.fault == one_by_one[alert.id]
        if alert.fault:
            assert alert.fault.kind in CLASSES[1:]
            assert 0 <= alert.fault.probability <= 1


def test_neither_the_end_of_an_episode_nor_silence_looks_like_a_fault(artifact: Artifact) -> None:
    for alert in alerts(artifact, ticks_a_batch=50):
        expected = alert.kind == "reconstruction_error" and alert.state is not State.RESOLVED
        assert (alert.fault is not None) == expected


def test_a_classifier_that_does_not_fit_its_manifest_is_refused(artifact: Artifact) -> None:
    save_classifier(artifact, artifact.files["classifier.onnx"], {"classes": CLASSES[:2]})
    with pytest.raises(ArtifactError, match=r"classifier\.onnx: windows, features and classes"):
        make_pipeline(config(), load_artifact(artifact.path))
    save_classifier(artifact, b"no graph", {"classes": CLASSES})
    with pytest.raises(ArtifactError, match="detector classify train makes a new one"):
        make_pipeline(config(), load_artifact(artifact.path))


def test_teaching_again_gives_the_version_of_what_was_taught(artifact: Artifact) -> None:
    again = save_classifier(artifact, artifact.files["classifier.onnx"], {"classes": CLASSES})
    assert again == artifact.version
    assert with_classifier(artifact, CLASSES, seed=1).version != artifact.version
