"""Options of the bridge: where alerts are sent to, and how."""

from __future__ import annotations

from typing import Annotated, Literal

from msgspec import Meta

from detector.config.secret import Secret
from detector.config.section import Section, about


class BridgeConfig(Section, frozen=True):
    """Where `detector alerts --bridge` sends alerts (docs/paging.md)."""

    alertmanagers: Annotated[
        tuple[str, ...], about("URLs; each gets everything, as the members of a cluster want it")
    ] = ()
    webhooks: Annotated[tuple[str, ...], about("URLs that take CloudEvents over HTTP")] = ()
    webhook_mode: Annotated[
        Literal["structured", "binary"],
        about("structured: the whole event is the body; binary: its attributes are headers"),
    ] = "structured"
    exec: Annotated[
        str | None, about("a command for each event, which it reads from standard input; no shell")
    ] = None
    link: Annotated[
        str | None,
        about("base URL of the detector's page as people reach it; alerts link to it"),
    ] = None
    labels: Annotated[
        dict[str, str], about("further labels of every alert in Alertmanager, e.g. {site: north}")
    ] = {}  # noqa: RUF012 - msgspec copies an empty one
    group: Annotated[str, about("what its offsets are kept under; one bridge process for each")] = (
        "detector-bridge"
    )
    topic: Annotated[str, about("Kafka, compacted: the alerts that are shown now")] = (
        "detector-bridge"
    )
    resolve_timeout_s: Annotated[
        float,
        Meta(ge=1, le=86_400),
        about(
            "Alertmanager takes an alert that is not sent again for so long for resolved; it is "
            "sent each third of it, at most a minute apart"
        ),
    ] = 300.0
    keep_firing_s: Annotated[
        float,
        Meta(ge=0, le=86_400),
        about(
            "an alert that resolves stays with Alertmanager at least so long: one that is shorter "
            "than its group_wait would never be told"
        ),
    ] = 60.0
    timeout_s: Annotated[float, Meta(ge=0.1, le=300), about("of a request")] = 10.0
    exec_timeout_s: Annotated[float, Meta(ge=0.1, le=3600), about("of the command")] = 30.0
    longest_wait_s: Annotated[
        float,
        Meta(ge=0.1, le=3600),
        about("from one attempt to the next; the first waits are short"),
    ] = 60.0
    give_up_after_s: Annotated[
        Annotated[float, Meta(ge=0)] | None,
        about(
            "webhooks and exec: an event that was tried for longer is left out (counted); null: "
            "tried for ever, and the later ones wait"
        ),
    ] = None
    alertmanager_username: Annotated[str | None, about("basic auth")] = None
    alertmanager_password: Annotated[
        Secret | None, about("better: DETECTOR_BRIDGE__ALERTMANAGER_PASSWORD, or a file")
    ] = None
    alertmanager_password_file: str | None = None
    webhook_authorization: Annotated[
        Secret | None,
        about(
            "the header Authorization, such as Bearer ...; better: "
            "DETECTOR_BRIDGE__WEBHOOK_AUTHORIZATION, or a file"
        ),
    ] = None
    webhook_authorization_file: str | None = None
    ca_file: Annotated[
        str | None, about("PEM: who may vouch for the targets; null: those of the system")
    ] = None
    cert_file: Annotated[str | None, about("PEM: client certificate")] = None
    key_file: Annotated[str | None, about("PEM: its key; null: in cert_file")] = None
    host: Annotated[str, about("0.0.0.0 to be scraped from elsewhere")] = "127.0.0.1"
    port: Annotated[
        int,
        Meta(ge=0, le=65535),
        about("/metrics /livez /readyz of the bridge; 0 picks a free port"),
    ] = 9465
