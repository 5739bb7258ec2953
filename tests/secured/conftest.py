"""One broker with users and permissions for all tests here, and what docs/security.md sets up."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.kafka_broker import kafka_unavailable_reason
from tests.secured import permissions
from tests.secured.node import Node, secured_node

_TOPIC = re.compile(r"^topic --topic (\S+) --partitions (\d+)(.*)$", re.MULTILINE)


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    reason = kafka_unavailable_reason()
    if reason is not None:
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    with secured_node(tmp_path_factory.mktemp("secured")) as started:
        with started.administrator() as admin:
            topics = _TOPIC.findall(permissions.PAGE.read_text())
            assert len(topics) == 6
            admin.create_topics(
                {
                    name: {
                        "num_partitions": int(partitions),
                        "replication_factor": 1,
                        "configs": dict(
                            option.split("=", 1) for option in re.findall(r"--config (\S+)", rest)
                        ),
                    }
                    for name, partitions, rest in topics
                },
                wait_for_metadata=True,
            )
            permissions.grant(admin, permissions.documented())
        yield started


@pytest.fixture
def password_file(node: Node, tmp_path: Path) -> Path:
    path = tmp_path / "password"
    path.touch(mode=0o600)
    path.write_text(f"{node.password}\n")
    return path
