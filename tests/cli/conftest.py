"""A model, a configuration and data for the commands."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.artifacts import make_artifact
from tests.cli.making import LENGTH, configured, write_csv


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model"
    make_artifact(path, length=LENGTH)
    return path


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return configured(tmp_path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    return write_csv(tmp_path / "data.csv")
