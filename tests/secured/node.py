"""A real broker with users, TLS and permissions.

Clients reach it by user (SASL_SSL) or by certificate (SSL); both know nobody who is not known to
the broker, and allow nothing that no ACL allows. The tests themselves come by a third way, on
loopback, as an administrator.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kafka import KafkaAdminClient
from kafka.admin import (
    ScramMechanism,
    UserScramCredentialUpsertion,
)

from tests.kafka_broker import KafkaBroker, free_ports
from tests.secured.authority import Authority

#: The user of the daemon, as docs/security.md names it.
USER = "detector"
USERS = (USER, "reader", "publisher", "operator", "bridge", "stranger")
_MODULE = "org.apache.kafka.common.security"


@dataclass(frozen=True, slots=True)
class Node:
    """A broker that runs. by_user, by_certificate: its addresses; password: of all users."""

    broker: KafkaBroker
    authority: Authority
    by_user: str
    by_certificate: str
    password: str

    @property
    def by_wrong_name(self) -> str:
        """An address that its certificate does not have."""
        return self.by_user.replace("localhost", "127.0.0.1")

    @contextmanager
    def administrator(self) -> Iterator[Any]:
        admin: Any = KafkaAdminClient(bootstrap_servers=self.broker.bootstrap_servers)
        try:
            yield admin
        finally:
            admin.close()


@contextmanager
def secured_node(directory: Path) -> Iterator[Node]:
    authority = Authority(directory / "authority")
    password = f"s3cret-{secrets.token_hex(12)}"
    by_user, by_certificate = free_ports()
    properties = directory / "secured.properties"
    properties.touch(mode=0o600)
    properties.write_text(_properties(authority, by_user, by_certificate, password))
    with KafkaBroker(properties) as broker:
        node = Node(
            broker,
            authority,
            f"localhost:{by_user}",
            f"localhost:{by_certificate}",
            password,
        )
        with node.administrator() as admin:
            for mechanism in (ScramMechanism.SCRAM_SHA_256, ScramMechanism.SCRAM_SHA_512):
                said = admin.alter_user_scram_credentials(
                    [UserScramCredentialUpsertion(user, mechanism, password) for user in USERS]
                )
                assert not any(said.values()), said
        yield node


def _properties(authority: Authority, by_user: int, by_certificate: int, password: str) -> str:
    own = authority.issue("broker")
    inner = "PLAINTEXT://127.0.0.1:@PORT@"
    lines = {
        "listeners": f"{inner},CONTROLLER://127.0.0.1:@CONTROLLER_PORT@,"
        f"USERS://127.0.0.1:{by_user},CERTIFICATES://127.0.0.1:{by_certificate}",
        "advertised.listeners": f"{inner},"
        f"USERS://localhost:{by_user},CERTIFICATES://localhost:{by_certificate}",
        "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,"
        "USERS:SASL_SSL,CERTIFICATES:SSL",
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        "super.users": "User:ANONYMOUS",
        "ssl.keystore.type": "PEM",
        "ssl.keystore.location": os.fspath(own.both),
        "ssl.truststore.type": "PEM",
        "ssl.truststore.location": os.fspath(authority.cafile),
        "ssl.principal.mapping.rules": "RULE:^.*CN=([^,]+).*$/$1/",
        "listener.name.certificates.ssl.client.auth": "required",
        "sasl.enabled.mechanisms": "SCRAM-SHA-512,SCRAM-SHA-256,PLAIN,OAUTHBEARER",
    }
    for mechanism, module in {
        "scram-sha-512": "scram.ScramLoginModule required",
        "scram-sha-256": "scram.ScramLoginModule required",
        "plain": f'plain.PlainLoginModule required user_{USER}="{password}"',
        # Tokens without a signature: there is no identity provider here.
        "oauthbearer": "oauthbearer.OAuthBearerLoginModule required "
        'unsecuredLoginStringClaim_sub="broker"',
    }.items():
        lines[f"listener.name.users.{mechanism}.sasl.jaas.config"] = f"{_MODULE}.{module};"
    return "".join(f"{key}={value}\n" for key, value in lines.items())
