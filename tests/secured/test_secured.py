"""On a real broker that allows only what docs/security.md says, and knows who comes."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kafka.admin import ACL

from detector.config import parse_config
from detector.core.records import Message
from detector.errors import AccessError, DetectorError
from detector.transport.broker import Follower
from detector.transport.configured import make_broker, prepare_topics, topics
from detector.transport.kafka import KafkaBroker
from tests.artifacts import make_artifact
from tests.processes import RunningDaemon, by_label, detector, total, wait_for, write_config
from tests.secured import permissions
from tests.secured.authority import Authority
from tests.secured.clients import (
    LENGTH,
    TICKS,
    by_certificate,
    by_user,
    changed,
    csv,
    joined,
    look,
    publisher,
    token,
    tree,
    work,
)
from tests.secured.node import USER, Node

pytestmark = pytest.mark.kafka

SERIES = 5


# -- all of it: first, on topics that nobody has used


def test_everything_works_with_the_permissions_of_the_docs_and_shows_no_secret(
    node: Node, tmp_path: Path, password_file: Path
) -> None:
    make_artifact(tmp_path / "model", length=LENGTH)
    kafka = by_user(node)
    del kafka["sasl_plain_password"]
    config = write_config(tmp_path / "config.yaml", tree(kafka, log={"level": "debug"}))
    from_file = {"DETECTOR_KAFKA__SASL_PLAIN_PASSWORD_FILE": str(password_file)}
    from_environment = {"DETECTOR_KAFKA__SASL_PLAIN_PASSWORD": node.password}
    written: list[str] = []

    def run(user: str, *command: str | Path) -> str:
        name = {"DETECTOR_KAFKA__SASL_PLAIN_USERNAME": user}
        done = detector(
            *command, "--config", config, cwd=tmp_path, environment=from_environment | name
        )
        written.append(done.stdout + done.stderr)
        assert done.returncode == 0, done.stderr  # a slow broker is waited for, and that is said
        return done.stdout

    def see(daemon: RunningDaemon) -> None:
        pages = ("/metrics", "/readyz", "/livez", "/", "/nothing")
        written.extend(daemon.get(page)[1] for page in pages)

    rows = SERIES * TICKS + 1
    assert "broker: ok" in run(USER, "check", "--model", "model")
    assert "sasl_plain_password: '***'" in run(USER, "check", "--show")
    run("publisher", "publish", "--data", csv(tmp_path / "one.csv", series=SERIES, first=0))
    with RunningDaemon(config, tmp_path / "model", cwd=tmp_path, environment=from_file) as daemon:
        daemon.wait_ready()
        first = daemon.wait_accounted(rows)
        see(daemon)
        assert daemon.terminate() == 0, daemon.log()
        written.append(daemon.log())
    opened = [json.loads(line) for line in alerts(run)]
    assert len(opened) >= SERIES
    assert len({one["id"] for one in opened}) == len(opened)

    # Another road, another way to be known: the same identity goes on from its state.
    certified = tmp_path / "certified.yaml"
    locked = by_certificate(node, node.authority, password="k3y-and-secret")
    write_config(certified, tree(locked))
    key = {"DETECTOR_KAFKA__SSL_PASSWORD": "k3y-and-secret"}
    run("publisher", "publish", "--data", csv(tmp_path / "two.csv", series=2 * SERIES, first=100))
    with RunningDaemon(certified, tmp_path / "model", cwd=tmp_path, environment=key) as daemon:
        daemon.wait_ready()
        second = daemon.wait_accounted(2 * SERIES * TICKS + 1)
        see(daemon)
        assert daemon.terminate() == 0, daemon.log()
        written.append(daemon.log())
    again = total(second, "detector_ticks_total") - (2 * SERIES * TICKS + 1)
    assert again == 0, "nothing is read twice"
    assert by_label(second, "detector_restored_series_total", "outcome") == {"resumed": SERIES}
    assert total(first, "detector_dead_letters_total") == 1
    everything = [json.loads(line) for line in alerts(run)]
    assert len({one["id"] for one in everything}) == len(everything) > len(opened)

    assert "partition" in run("operator", "dead-letters", "--json")
    kept = re.findall(r"(\d+) series", run("operator", "state", "show"))
    assert sum(map(int, kept)) == 2 * SERIES
    assert "records to ticks again" in run("operator", "dead-letters", "--republish")
    run("operator", "state", "grow")
    assert "muted none-*" in run("operator", "mute", "none-*", "--for", "2h")
    assert "begins at" in run("operator", "state", "reset", "--to", "committed")
    said = "".join(written)
    assert len(said) > 10_000
    for secret in (node.password, "k3y-and-secret"):
        assert secret not in said


def alerts(run: Callable[..., str]) -> list[str]:
    return run("reader", "alerts", "--from-beginning", "--exit", "--json").splitlines()


# -- who is let in


@pytest.mark.parametrize("mechanism", ["SCRAM-SHA-512", "SCRAM-SHA-256", "PLAIN"])
def test_a_user_is_known_by_a_password(node: Node, mechanism: str) -> None:
    look(by_user(node, sasl_mechanism=mechanism))


def test_a_user_is_known_by_a_token_of_a_file_or_a_program(node: Node, tmp_path: Path) -> None:
    path = tmp_path / "token"
    path.write_text(token())
    bearer = by_user(node, sasl_mechanism="OAUTHBEARER")
    del bearer["sasl_plain_username"], bearer["sasl_plain_password"]
    look(bearer | {"sasl_oauth_token_file": str(path)})
    look(bearer | {"sasl_oauth_token_command": ["cat", str(path)]})
    path.write_text(token(lasts_s=-60))
    with pytest.raises(AccessError, match="bearer of our token is refused by OAUTHBEARER"):
        look(bearer | {"sasl_oauth_token_file": str(path)})


def test_a_client_is_known_by_its_certificate(node: Node) -> None:
    look(by_certificate(node, node.authority))
    locked = by_certificate(node, node.authority, password="of the key")
    look(locked | {"ssl_password": "of the key"})


def test_a_password_that_changes_is_good_for_the_next_connection(
    node: Node, password_file: Path
) -> None:
    kafka = by_user(node, sasl_plain_username="publisher")
    del kafka["sasl_plain_password"]
    config = parse_config(tree(kafka | {"sasl_plain_password_file": str(password_file)}))
    publisher = make_broker(config).publisher()  # has asked, and hung up again
    changed(node, "publisher", "another one")
    try:
        password_file.write_text("another one")
        publisher.publish("ticks", [Message(b"rotated", b"{}")])
        publisher.flush()
    finally:
        publisher.close()
        changed(node, "publisher", node.password)


# -- who is not


def wrong_password(node: Node, other: Authority) -> dict[str, Any]:
    return by_user(node, sasl_plain_password="wr0ng-and-secret")


def unknown_user(node: Node, other: Authority) -> dict[str, Any]:
    return by_user(node, sasl_plain_username="nobody-knows")


def wrong_plain_password(node: Node, other: Authority) -> dict[str, Any]:
    return by_user(node, sasl_mechanism="PLAIN", sasl_plain_password="wr0ng-and-secret")


def unknown_authority(node: Node, other: Authority) -> dict[str, Any]:
    return by_user(node, ssl_cafile=str(other.cafile))


def wrong_name(node: Node, other: Authority) -> dict[str, Any]:
    return by_user(node, bootstrap_servers=node.by_wrong_name)


def no_certificate(node: Node, other: Authority) -> dict[str, Any]:
    kafka = by_certificate(node, node.authority)
    del kafka["ssl_certfile"], kafka["ssl_keyfile"]
    return kafka


def expired_certificate(node: Node, other: Authority) -> dict[str, Any]:
    return by_certificate(node, node.authority, expired=True)


def foreign_certificate(node: Node, other: Authority) -> dict[str, Any]:
    return by_certificate(node, other)


REFUSED: list[tuple[Callable[[Node, Authority], dict[str, Any]], str]] = [
    (wrong_password, "user 'detector' is refused by SCRAM-SHA-512"),
    (unknown_user, "user 'nobody-knows' is refused by SCRAM-SHA-512"),
    (wrong_plain_password, "user 'detector' is refused by PLAIN"),
    (unknown_authority, "the broker's certificate is not trusted"),
    (wrong_name, "not trusted: IP address mismatch"),
    (no_certificate, "the broker asks for a certificate of ours: kafka.ssl_certfile"),
    (expired_certificate, "kafka.ssl_certfile: .*: certificate has expired"),
    (foreign_certificate, "the broker refuses our certificate"),
]


@pytest.mark.parametrize(("make", "says"), REFUSED, ids=lambda one: getattr(one, "__name__", ""))
def test_a_refusal_ends_the_start_and_says_why(
    node: Node, tmp_path: Path, make: Callable[[Node, Authority], dict[str, Any]], says: str
) -> None:
    kafka = make(node, Authority(tmp_path / "other"))
    # Were it tried again until the start gives up, it would be no AccessError.
    with pytest.raises(AccessError, match=says) as refused:
        look(kafka)
    assert refused.value.exit_code == 77
    assert "wr0ng" not in repr(refused.value)


def test_a_broker_without_tls_is_no_refusal_and_names_the_option(node: Node) -> None:
    kafka = {
        "bootstrap_servers": node.broker.bootstrap_servers,
        "security_protocol": "SSL",
        "ssl_cafile": str(node.authority.cafile),
    }
    config = parse_config(tree(kafka, delivery={"retry_timeout_s": 1}))
    with pytest.raises(DetectorError, match=r"Handshake failed.*kafka\.security_pro") as error:
        make_broker(config).missing(topics(config))
    assert error.value.exit_code == 69


def test_a_command_that_is_refused_ends_with_77_and_one_line(node: Node, tmp_path: Path) -> None:
    make_artifact(tmp_path / "model", length=LENGTH)
    kafka = wrong_password(node, node.authority)
    config = write_config(tmp_path / "config.yaml", tree(kafka))
    done = detector("check", "--config", config, cwd=tmp_path)
    assert "is refused by SCRAM-SHA-512" in done.stderr.splitlines()[-1]
    assert done.returncode == 77
    with RunningDaemon(config, tmp_path / "model", cwd=tmp_path) as daemon:
        assert daemon.wait_ended() == 77
        assert "is refused by SCRAM-SHA-512" in daemon.log().splitlines()[-1]
    assert "wr0ng" not in done.stdout + done.stderr + daemon.log()


# -- what is permitted


DAEMON = permissions.of_user(USER)
CONFIGS = [acl for acl in DAEMON if "CONFIGS" in permissions.name(acl)]
NEEDED = [acl for acl in DAEMON if acl not in CONFIGS]


@contextmanager
def without(node: Node, acl: ACL) -> Iterator[None]:
    with node.administrator() as admin:
        permissions.revoke(admin, acl)
        try:
            yield
        finally:
            permissions.grant(admin, [acl])


@pytest.mark.parametrize("acl", NEEDED, ids=permissions.name)
def test_a_permission_that_is_missing_is_named(node: Node, acl: ACL) -> None:
    operation = acl.operation.name.capitalize()
    of = acl.resource_pattern.resource_name

    def named() -> bool:
        try:
            work(tree(by_user(node)))
        except AccessError as error:
            said = str(error)
            hidden = f"may not see {of}" in said  # without the only permission it had
            assert of in said, said
            assert hidden or f"operation {operation} on" in said, said
            assert "user 'detector'" in said
            return True
        return False  # the broker has not heard of it yet

    with without(node, acl):
        wait_for(named, f"a refusal without {permissions.name(acl)}")


@pytest.mark.parametrize("acl", CONFIGS, ids=permissions.name)
def test_without_a_look_at_a_topics_settings_a_worker_goes_on(
    node: Node, acl: ACL, caplog: pytest.LogCaptureFixture
) -> None:
    config = parse_config(tree(by_user(node)))

    def said() -> bool:
        caplog.clear()
        prepare_topics(config, make_broker(config), check_state=True)
        return "cannot be read (no permission: operation DescribeConfigs)" in caplog.text

    with without(node, acl):
        wait_for(said, "a warning without DescribeConfigs")


def test_the_bridge_follows_with_its_own_permissions(node: Node) -> None:
    config = parse_config(tree(by_user(node, sasl_plain_username="bridge")))
    broker = make_broker(config)
    prepare_topics(config, broker)
    name = f"{config.bridge.group}-somebody"

    def follower() -> Follower:
        return broker.follower(
            name,
            config.alerts.topic,
            kept_in=config.bridge.topic,
            from_beginning=True,
            create=False,
        )

    first = follower()
    try:
        ends = first.ends()
        first.commit([Message(b"key", b"value")], ends)
    finally:
        first.close()
    second = follower()
    try:
        assert second.table() == {b"key": b"value"}
        assert second.positions() == ends
    finally:
        second.close()


def test_a_topic_that_may_not_be_seen_is_not_taken_for_missing(node: Node) -> None:
    config = parse_config(tree(by_user(node, sasl_plain_username="stranger")))
    broker = make_broker(config)
    with pytest.raises(AccessError, match="'stranger' may not see ticks, alerts, dead-letters, d"):
        broker.missing(topics(config))
    creating = parse_config(tree(by_user(node), topics={"create": True}, state={"topic": "none"}))
    assert isinstance(broker, KafkaBroker)
    with pytest.raises(AccessError, match="may not see none"):
        prepare_topics(creating, make_broker(creating))


def test_a_daemon_whose_permission_is_taken_ends_and_names_it(
    node: Node, tmp_path: Path, password_file: Path
) -> None:
    [writes] = [acl for acl in DAEMON if permissions.name(acl) == "WRITE alerts"]
    make_artifact(tmp_path / "model", length=LENGTH)
    identity = {"group": "detector", "transactional_id": "detector-taken"}
    config = write_config(tmp_path / "config.yaml", tree(by_user(node, **identity)))
    producer = publisher(node)
    with RunningDaemon(config, tmp_path / "model", cwd=tmp_path) as daemon:
        daemon.wait_ready()
        with without(node, writes):
            n = 0

            def ended() -> bool:
                nonlocal n  # each series opens an alert; the broker may not have heard of it yet
                n += 1
                ticks = [
                    {"series": f"taken-{n}", "timestamp": 1.7e9 + i, "value": i % 3}
                    for i in range(3 * LENGTH)
                ]
                producer.publish("ticks", [Message(b"taken", json.dumps(ticks).encode())])
                producer.flush()
                return daemon.exit_code() is not None

            wait_for(ended, "the daemon has ended")
        assert daemon.exit_code() == 77, daemon.log()
        said = daemon.log().splitlines()[-1]
        assert "user 'detector' may not: operation Write on topic 'alerts' is missing" in said
    producer.close()


def test_a_worker_that_is_refused_a_new_connection_ends(node: Node) -> None:
    config = parse_config(tree(by_user(node)))
    worker = make_broker(config).worker(topics(config))
    worker.open(lambda _: None)  # has yet to ask who leads the group, and to go there
    try:
        changed(node, USER, "yet another one")
        with pytest.raises(AccessError, match="refused by SCRAM-SHA-512"):
            wait_for(lambda: joined(worker), "the worker is refused")
    finally:
        changed(node, USER, node.password)
        worker.close()
