"""Options of the brokers."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from detector.config.secret import Secret
from detector.config.section import Section, about


class TopicsConfig(Section, frozen=True):
    """How topics are created."""

    create: Annotated[bool, about("create missing topics; false: refuse to start")] = True
    partitions: Annotated[int, Meta(ge=1), about("of ticks and alerts, Kafka only")] = 4
    replication_factor: Annotated[int, Meta(ge=1)] = 1


class EmbeddedConfig(Section, frozen=True):
    """The embedded broker: one SQLite file."""

    path: str = "var/detector.sqlite"
    synchronous: Annotated[
        Literal["full", "normal"], about("full: survives a power cut; normal: survives a crash")
    ] = "full"
    retention_hours: Annotated[
        float,
        Meta(ge=0.001),
        about("Older records are deleted, but never a tick that is not committed."),
    ] = 24.0
    retention_records: Annotated[int, Meta(ge=1), about("of each topic")] = 10_000_000


class KafkaConfig(Section, frozen=True):
    """How Apache Kafka is reached."""

    bootstrap_servers: Annotated[str, about("host:port, separated by commas")] = "localhost:9092"
    group: str = "detector"
    transactional_id: Annotated[
        str,
        about(
            "One of its own for each worker, the same after a restart; {hostname} stands for the "
            "host's name."
        ),
    ] = "detector-1"
    group_instance_id: Annotated[
        str | None,
        about("static membership: a restart within the session keeps the partitions"),
    ] = None
    session_timeout_ms: Annotated[int, Meta(ge=6_000)] = 10_000
    transaction_timeout_ms: Annotated[int, Meta(ge=1_000)] = 10_000
    compression: Annotated[
        Literal["none", "gzip", "lz4", "snappy", "zstd"],
        about("the last three need their packages"),
    ] = "none"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: Annotated[
        Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"] | None,
        about("how a user is known, with SASL_SSL (docs/security.md)"),
    ] = None
    sasl_plain_username: Annotated[str | None, about("of PLAIN and SCRAM")] = None
    sasl_plain_password: Annotated[
        Secret | None, about("better: sasl_plain_password_file, or the environment")
    ] = None
    sasl_plain_password_file: Annotated[
        str | None, about("holds the password; read again for each new connection")
    ] = None
    sasl_oauth_token_file: Annotated[
        str | None, about("OAUTHBEARER: holds the token; read again for each new connection")
    ] = None
    sasl_oauth_token_command: Annotated[
        tuple[str, ...],
        about("OAUTHBEARER, instead: a program and its arguments, which prints the token"),
    ] = ()
    ssl_cafile: Annotated[
        str | None, about("PEM: who may sign the broker's certificate; null: the system's")
    ] = None
    ssl_certfile: Annotated[str | None, about("PEM: our certificate, with its chain")] = None
    ssl_keyfile: Annotated[str | None, about("PEM: its key; null: it stands in ssl_certfile")] = (
        None
    )
    ssl_password: Annotated[
        Secret | None, about("of the key; better: ssl_password_file, or the environment")
    ] = None
    ssl_password_file: Annotated[str | None, about("holds the password of the key")] = None
