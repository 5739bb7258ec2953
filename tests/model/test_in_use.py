"""Who replaces the model of a running detector is told so."""

from __future__ import annotations

from pathlib import Path

from detector.model.directory import save_artifact
from detector.model.in_use import held, in_use
from tests.artifacts import make_artifact
from tests.processes import RunningDaemon, wait_for, write_config


def test_a_model_is_in_use_while_somebody_holds_it(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "model")
    assert not in_use(artifact.path)
    with held(artifact.path), held(artifact.path):
        assert in_use(artifact.path)
        save_artifact(artifact.path, artifact.manifest, artifact.files)
        assert not in_use(artifact.path), "this one is another"
    assert not in_use(artifact.path)
    assert not in_use(tmp_path / "nothing")
    with held(tmp_path / "nothing"):
        pass


def test_a_read_only_model_can_be_held(tmp_path: Path) -> None:
    artifact = make_artifact(tmp_path / "model")
    (artifact.path / "manifest.json").chmod(0o444)
    with held(artifact.path):
        assert in_use(artifact.path)


def test_the_daemon_holds_its_model_until_it_ends(tmp_path: Path) -> None:
    model = make_artifact(tmp_path / "model", length=8).path
    config = write_config(
        tmp_path / "config.yaml",
        {
            "features": {"value": "value"},
            "window": {"length_ticks": 8},
            "threshold": {"method": "fixed", "value": 1.0},
            "embedded": {"path": "broker.sqlite"},
            "http": {"port": 0},
        },
    )
    with RunningDaemon(config, model, cwd=tmp_path) as daemon:
        daemon.wait_ready()
        assert in_use(model)
        assert daemon.terminate() == 0
    wait_for(lambda: not in_use(model), "it is free")
