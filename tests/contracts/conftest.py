"""Each contract is asked of both transports."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.contracts.transports import Embedded, Transport, kafka_transport, prepare


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Transport:
    """A transport without its topics."""
    if request.param == "embedded":
        return Embedded(tmp_path / "broker.sqlite")
    return kafka_transport(request.getfixturevalue("kafka"))


@pytest.fixture
def transport(bare: Transport) -> Transport:
    prepare(bare)
    return bare
