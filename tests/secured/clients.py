"""Configurations that reach the secured broker, and what is sent to it."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from detector.config import parse_config
from detector.errors import AccessError
from detector.transport.broker import Publisher, Worker
from detector.transport.configured import make_broker, prepare_topics, topics
from tests.processes import wait_for
from tests.secured.authority import Authority
from tests.secured.node import USER, Node

LENGTH, TICKS = 8, 40


def tree(kafka: Mapping[str, Any], **sections: Any) -> dict[str, Any]:
    return {
        "transport": "kafka",
        "features": {"value": "value"},
        "window": {"length_ticks": LENGTH},
        "threshold": {"method": "fixed", "value": 0.0001, "cold_windows": 0},
        "alerts": {"open_after": 1, "of_last": 1},
        "topics": {"create": False},
        "delivery": {"retry_timeout_s": 30},
        "kafka": {"group": "detector", "transactional_id": "detector-1"} | dict(kafka),
        "http": {"port": 0},
        **sections,
    }


def by_user(node: Node, **more: Any) -> dict[str, Any]:
    return {
        "bootstrap_servers": node.by_user,
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": USER,
        "sasl_plain_password": node.password,
        "ssl_cafile": str(node.authority.cafile),
    } | more


def by_certificate(node: Node, authority: Authority, **issued: Any) -> dict[str, Any]:
    files = authority.issue(USER, **issued)
    return {
        "bootstrap_servers": node.by_certificate,
        "security_protocol": "SSL",
        "ssl_cafile": str(node.authority.cafile),
        "ssl_certfile": str(files.certificate),
        "ssl_keyfile": str(files.key),
    }


def look(kafka: Mapping[str, Any]) -> None:
    """What `detector check` asks of a broker."""
    config = parse_config(tree(kafka))
    broker = make_broker(config)
    assert broker.missing(topics(config)) == []
    assert broker.not_permitted(topics(config)) == []


def token(*, lasts_s: float = 3600.0) -> str:
    def part(value: object) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    now_s = time.time()
    claims = {"sub": USER, "iat": now_s - 7200, "exp": now_s + lasts_s}
    return f"{part({'alg': 'none'})}.{part(claims)}."


def csv(path: Path, *, series: int, first: int) -> Path:
    """Ticks that open an alert of each series, and one that cannot be used."""
    rows = ["series,timestamp,value"]
    for n in range(first, first + TICKS):
        rows += [f"s{s},{1_700_000_000 + n},{0.1 * (n % 3)}" for s in range(series)]
    rows.append(f"s0,{1_700_000_000 + first + TICKS},nothing")
    path.write_text("\n".join(rows) + "\n")
    return path


def changed(node: Node, user: str, password: str) -> None:
    """The user's password, once the broker has heard of it."""
    with node.administrator() as admin:
        said = admin.alter_user_scram_credentials(
            [UserScramCredentialUpsertion(user, ScramMechanism.SCRAM_SHA_512, password)]
        )
    assert not any(said.values()), said

    def heard() -> bool:
        kafka = by_user(node, sasl_plain_username=user, sasl_plain_password=password)
        config = parse_config(tree(kafka))
        try:
            make_broker(config).missing(topics(config))
        except AccessError:
            return False
        return True

    wait_for(heard, f"the broker knows the new password of {user}")


def publisher(node: Node) -> Publisher:
    return make_broker(
        parse_config(tree(by_user(node, sasl_plain_username="publisher")))
    ).publisher()


def work(config_tree: dict[str, Any]) -> None:
    """What a worker does, until it has written everything once."""
    config = parse_config(config_tree)
    broker = make_broker(config)
    prepare_topics(config, broker, check_state=True)
    worker = broker.worker(topics(config))
    try:
        worker.open(lambda _: None)
        wait_for(lambda: joined(worker), "the worker has joined")
    finally:
        worker.close()


def joined(worker: Worker) -> bool:
    worker.poll(max_records=1, max_bytes=1000, timeout_s=0.1)
    return worker.ready()
