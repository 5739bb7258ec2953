"""A model with an encoder, a configuration and data for the commands of models."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.cli.models.making import CONFIG, LENGTH, write_ticks
from tests.processes import write_config


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    make_artifact(path, length=LENGTH)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return write_config(tmp_path / "config.yaml", CONFIG)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_ticks(tmp_path / "data.csv")
