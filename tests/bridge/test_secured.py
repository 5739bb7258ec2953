"""TLS, client certificates and basic auth, against a real Alertmanager."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bridge.alertmanager_server import AlertmanagerServer, alertmanager_program
from tests.bridge.certificates import Authority
from tests.bridge.events import opened
from tests.bridge.running import RunningBridge, embedded
from tests.bridge.targets import free_port
from tests.processes import wait_for

PASSWORD = "sekret"
#: bcrypt, four rounds, of the password.
HASHED = "$2b$04$4AIpz2gecIorR5uR2KAvl.FVs8MOcmOkjh4F5mvR9zRCBKELQgEgy"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, authority: Authority
) -> Iterator[AlertmanagerServer]:
    """Wants a client certificate of the authority, and a password."""
    alertmanager_program()
    certificate, key = authority.sign("server")
    web = {
        "tls_server_config": {
            "cert_file": str(certificate),
            "key_file": str(key),
            "client_auth_type": "RequireAndVerifyClientCert",
            "client_ca_file": str(authority.ca),
        },
        "basic_auth_users": {"detector": HASHED},
    }
    directory = tmp_path_factory.mktemp("am")
    pages = "http://127.0.0.1:9"
    with AlertmanagerServer(directory, port=free_port(), pages=pages, web=web) as server:
        yield server


def test_who_has_a_certificate_and_the_password_is_let_in(
    tmp_path: Path, server: AlertmanagerServer, authority: Authority
) -> None:
    certificate, key = authority.sign("bridge")
    secret = tmp_path / "password"
    secret.write_text(f"{PASSWORD}\n")
    topic = embedded(
        tmp_path / "topic",
        ca_file=str(authority.ca), cert_file=str(certificate), key_file=str(key),
        alertmanager_username="detector", alertmanager_password_file=str(secret),
    )  # fmt: skip
    with RunningBridge(topic.path, "--to-alertmanager", server.url) as bridge:
        bridge.wait_ready()
        topic.publish(opened("a"))
        bridge.wait_metric("delivered_total", 1)
        assert "password without TLS" not in bridge.log()
        # Its password is changed: nothing is lost, and nothing is told of either.
        secret.write_text("wrong-sekret")
        topic.publish(opened("b"))
        bridge.wait_metric("retries_total", 1)
        assert "answers 401" in bridge.log()
        secret.write_text(PASSWORD)
        bridge.wait_metric("delivered_total", 2)
        assert PASSWORD not in bridge.log() + bridge.get("/metrics")[1]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({}, "its certificate is not accepted"),
        ({"ca_file": "ca"}, "TLS|tls|reset|closed|RemoteDisconnected|ConnectionReset|alert"),
    ],
    ids=["an authority that is not known", "no client certificate"],
)
def test_who_is_not_let_in_is_told_why(
    tmp_path: Path,
    server: AlertmanagerServer,
    authority: Authority,
    options: dict[str, Any],
    words: str,
) -> None:
    given = {name: str(authority.ca) for name in options}
    topic = embedded(tmp_path / "topic", **given)
    with RunningBridge(topic.path, "--to-alertmanager", server.url) as bridge:
        bridge.wait_ready()
        bridge.wait_metric("retries_total", 1)
        wait_for(lambda: "is tried again" in bridge.log(), "it is said")
        (line, *_) = [line for line in bridge.log().splitlines() if "is tried again" in line]
        assert any(word in line for word in words.split("|")), line
        assert bridge.get("/livez")[0] == 200
