"""A model, and a stream of ticks with all sorts of bad records."""

from __future__ import annotations

import pytest

from detector.model.directory import Artifact
from tests.artifacts import make_artifact
from tests.records import Account, Sent, stream
from tests.service.watched import (
    LENGTH,
    MAX_GAP_S,
    STRIDE,
)


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("model") / "m", length=LENGTH)


@pytest.fixture
def account() -> Account:
    return Account(LENGTH, STRIDE, MAX_GAP_S)


@pytest.fixture
def records(account: Account) -> list[Sent]:
    return stream(account, series=["a", "b", "c"], ticks=300, seed=1)
