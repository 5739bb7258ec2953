"""Webhooks and commands get each event once, in order, whatever becomes of the others."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import threading
from pathlib import Path

import msgspec
import pytest

from tests.bridge.events import escalated, opened, resolved
from tests.bridge.running import RunningBridge, Topic, embedded, over_kafka
from tests.bridge.targets import Dripping, Target
from tests.processes import total, wait_for

STORY = [opened("a"), opened("b"), escalated("a"), resolved("a"), resolved("b")]
IDS = [msgspec.json.decode(value)["id"] for value in STORY]


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def topic(request: pytest.FixtureRequest, tmp_path: Path) -> Topic:
    if request.param == "embedded":
        return embedded(tmp_path / "topic")
    kafka = request.getfixturevalue("kafka")
    return over_kafka(tmp_path / "topic", kafka.bootstrap_servers)


def test_each_comes_once_but_for_the_one_in_hand_when_the_bridge_is_killed(topic: Topic) -> None:
    with Target() as target:
        arguments = ("--webhook", target.url, "--from-beginning")
        topic.publish(*STORY[:2])
        with RunningBridge(topic.path, *arguments) as bridge:
            bridge.wait_ready()
            bridge.wait_metric("delivered_total", 2)
            target.hang = threading.Event()
            topic.publish(STORY[2])
            wait_for(lambda: len(target.taken()) == 3, "the third is in hand")
            bridge.kill()
        target.hang.set()
        target.hang = None
        topic.publish(*STORY[3:])
        with RunningBridge(topic.path, *arguments) as bridge:
            bridge.wait_ready()
            bridge.wait_metric("delivered_total", 3)
            assert bridge.terminate() == 0
        by_series: dict[str, list[str]] = {}
        for request in target.taken():
            by_series.setdefault(request.json()["subject"], []).append(request.json()["id"])
        # Kafka keeps the order of a series; of one partition there is one order for all.
        assert by_series == {"a": [IDS[0], IDS[2], IDS[2], IDS[3]], "b": [IDS[1], IDS[4]]}


def test_a_second_bridge_of_the_same_name_ends_or_ends_the_first(topic: Topic) -> None:
    with Target() as target, RunningBridge(topic.path, "--webhook", target.url) as first:
        first.wait_ready()
        with RunningBridge(topic.path, "--webhook", target.url) as second:
            topic.publish(STORY[0])

            def one_has_ended() -> bool:
                topic.publish(opened("c"))
                return 76 in (first.exit_code(), second.exit_code())

            wait_for(one_has_ended, "one ends with code 76")
            assert None in (first.exit_code(), second.exit_code()), "the other goes on"


def test_what_a_target_does_is_its_own_affair(tmp_path: Path) -> None:
    topic = embedded(tmp_path / "topic", timeout_s=5.0)
    statuses = {"well": [200], "shaky": [503, 500, 429, 408, 200], "refuses": [422]}
    with Target(302, headers={"Location": "http://127.0.0.1:9/elsewhere"}) as turned:
        targets = {name: Target(*several).start() for name, several in statuses.items()}
        targets["slow"] = Target().start()
        targets["slow"].hang = threading.Event()
        urls = [target.url for target in (*targets.values(), turned)]
        nobody = "http://127.0.0.1:9"
        with RunningBridge(topic.path, "--webhook", *urls, nobody) as bridge:
            bridge.wait_ready()
            topic.publish(*STORY)
            for name in ("well", "shaky"):
                wait_for(lambda n=name: len(set(targets[n].event_ids())) == 5, f"{name} has all")  # type: ignore[misc]  # a default binds it
            label = {name: f"webhook-127.0.0.1:{t.port}" for name, t in targets.items()}
            bridge.wait_metric("refused_total", 5, target=label["refuses"])
            bridge.wait_metric("retries_total", 1, target=label["slow"])
            bridge.wait_metric("retries_total", 1, target="webhook-127.0.0.1:9")
            bridge.wait_metric("retries_total", 1, target=f"webhook-127.0.0.1:{turned.port}")
            found = bridge.metrics()
            assert targets["well"].event_ids() == IDS
            assert targets["shaky"].event_ids() == [IDS[0]] * 5 + IDS[1:]
            assert targets["refuses"].event_ids() == IDS
            assert set(targets["slow"].event_ids()) == set(turned.event_ids()) == {IDS[0]}
            up = {n: total(found, "detector_bridge_target_up", target=t) for n, t in label.items()}
            assert up == {"well": 1, "shaky": 1, "refuses": 1, "slow": 0}
            log = bridge.log()
            for words in (
                "does not answer within 5 s", "Connection refused", "answers 422",
                "answers 302, a redirection to '127.0.0.1', which is not followed", "answers 503",
            ):  # fmt: skip
                assert words in log
            assert log.count("refused for good") == 5
            targets["slow"].hang.set()
            targets["slow"].hang = None
            wait_for(lambda: len(set(targets["slow"].event_ids())) == 5, "slow has all")
            assert bridge.get("/livez")[0] == 200
            assert bridge.terminate() == 0
        for target in targets.values():
            target.stop()


def test_an_answer_without_end_is_not_waited_for(tmp_path: Path) -> None:
    topic = embedded(tmp_path / "topic", timeout_s=5.0)
    with Dripping() as target, RunningBridge(topic.path, "--webhook", target.url) as bridge:
        bridge.wait_ready()
        topic.publish(*STORY)
        bridge.wait_metric("delivered_total", 5)
        assert total(bridge.metrics(), "detector_bridge_retries_total") == 0


def test_a_token_that_has_expired_loses_nothing(tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("Bearer sekret-old\n")
    topic = embedded(tmp_path / "topic", webhook_authorization_file=str(secret))
    with (
        Target(401, 403, 200) as target,
        RunningBridge(topic.path, "--webhook", target.url) as bridge,
    ):
        bridge.wait_ready()
        topic.publish(*STORY[:2])
        wait_for(lambda: len(target.taken()) == 4, "both are taken in the end")
        assert target.event_ids() == [IDS[0]] * 3 + [IDS[1]]
        assert {r.headers["Authorization"] for r in target.taken()} == {"Bearer sekret-old"}
        secret.write_text("Bearer sekret-new\n")
        topic.publish(STORY[2])
        wait_for(lambda: len(target.taken()) == 5, "the third is taken")
        assert target.taken()[-1].headers["Authorization"] == "Bearer sekret-new"
        told = bridge.log() + bridge.get("/metrics")[1] + bridge.get("/readyz")[1]
        assert "sekret" not in told
        assert "check its credentials" in told
        assert "password without TLS" in told


def test_one_that_starts_now_is_told_nothing_of_the_past_and_all_from_then_on(
    tmp_path: Path,
) -> None:
    topic = embedded(tmp_path / "topic")
    topic.publish(opened("past"))
    with Target() as target:
        with RunningBridge(topic.path, "--webhook", target.url) as bridge:
            bridge.wait_ready()
            wait_for(lambda: "target follows" in bridge.log(), "it follows")
            assert bridge.terminate() == 0
        topic.publish(STORY[0])  # while it is away: "now" was when it was first started
        with RunningBridge(topic.path, "--webhook", target.url) as bridge:
            bridge.wait_ready()
            bridge.wait_metric("delivered_total", 1)
        assert target.event_ids() == IDS[:1]


def test_muted_alerts_are_not_passed_on_but_for_the_end_of_one_that_was(tmp_path: Path) -> None:
    topic = embedded(tmp_path / "topic")
    muting = opened("a", muted=True, at_s=3.0)
    unmuting = opened("b", muted=False, at_s=4.0)
    with Target() as target, RunningBridge(topic.path, "--webhook", target.url) as bridge:
        bridge.wait_ready()
        topic.publish(opened("b", muted=True), opened("a"), muting, resolved("a", muted=True))
        topic.publish(unmuting, resolved("b"))
        wait_for(lambda: len(target.taken()) == 4, "four are told")
        bridge.wait_metric("left_out_total", 2, reason="muted")
        told = [(r.json()["subject"], r.json()["data"].get("muted")) for r in target.taken()]
        assert told == [("a", False), ("a", True), ("b", False), ("b", False)]


def test_a_record_that_is_no_alert_is_passed_over(tmp_path: Path) -> None:
    topic = embedded(tmp_path / "topic")
    with Target() as target, RunningBridge(topic.path, "--webhook", target.url) as bridge:
        bridge.wait_ready()
        nonsense = msgspec.json.encode({"subject": "x", "data": {"alert_id": 1}})
        topic.publish(nonsense, STORY[0])
        wait_for(lambda: target.event_ids() == IDS[:1], "the alert behind it is told")
        assert total(bridge.metrics(), "detector_bridge_left_out_total", reason="not_an_alert") == 1
        assert "no alert" in bridge.log()


def test_events_that_were_deleted_before_they_were_read_are_said_and_counted(
    tmp_path: Path,
) -> None:
    topic = embedded(tmp_path / "topic")
    with Target() as target:
        with RunningBridge(topic.path, "--webhook", target.url) as bridge:
            bridge.wait_ready()
            wait_for(lambda: "target follows" in bridge.log(), "it follows")
            assert bridge.terminate() == 0
        topic.publish(*STORY)
        file = topic.directory / "broker.sqlite"
        with contextlib.closing(sqlite3.connect(file)) as database, database:
            # As its retention would.
            which = "topic = (SELECT id FROM topics WHERE name = 'alerts')"
            database.execute(f'DELETE FROM records WHERE {which} AND "offset" < 2')
            database.execute("UPDATE topics SET first_offset = 2 WHERE name = 'alerts'")
        with RunningBridge(topic.path, "--webhook", target.url) as bridge:
            bridge.wait_ready()
            bridge.wait_metric("delivered_total", 3)
            bridge.wait_metric("left_out_total", 2, reason="deleted")
            assert "deleted before they were read" in bridge.log()
        assert target.event_ids() == IDS[2:]


def test_an_event_is_given_up_where_that_was_asked_for(tmp_path: Path) -> None:
    topic = embedded(tmp_path / "topic", give_up_after_s=0.0)
    with Target(500, 200) as target, RunningBridge(topic.path, "--webhook", target.url) as bridge:
        bridge.wait_ready()
        topic.publish(*STORY[:2])
        wait_for(lambda: target.event_ids() == IDS[:2], "the second is told")
        bridge.wait_metric("left_out_total", 1, reason="gave_up")
        assert "given up" in bridge.log()


def test_a_command_reads_the_event_and_finds_its_facts_in_the_environment(tmp_path: Path) -> None:
    topic = embedded(tmp_path / "topic", link="http://page")
    script = tmp_path / "page.sh"
    script.write_text(
        'cat > "$1/$ALERT_EVENT_ID.json"\n'
        'echo "$ALERT_SERIES|$ALERT_STATE|$ALERT_SEVERITY|$ALERT_KIND|$ALERT_SCORE|$ALERT_LINK" '
        '>> "$1/facts"\nenv | grep -c sekret >> "$1/leaks"\nexit 0\n'
    )
    hostile = "$(touch pwned)`; \n\x00ü"
    environment = {"DETECTOR_KAFKA__SASL_PLAIN_PASSWORD": "sekret"}
    command = f"sh {script} {tmp_path}"
    with RunningBridge(topic.path, "--exec", command, environment=environment) as bridge:
        bridge.wait_ready()
        topic.publish(STORY[0], opened(hostile))
        bridge.wait_metric("delivered_total", 2)
        assert bridge.terminate() == 0
    assert json.loads((tmp_path / f"{IDS[0]}.json").read_bytes()) == json.loads(STORY[0])
    facts = (tmp_path / "facts").read_text().splitlines()[0].split("|")
    assert facts[:5] == ["a", "opened", "warning", "reconstruction_error", "12.5"]
    assert facts[5].startswith("http://page/#/alerts/")
    assert (tmp_path / "leaks").read_text().split() == ["0", "0"]
    assert not list(tmp_path.rglob("pwned"))


def test_a_command_that_fails_is_run_again_one_that_hangs_is_killed(tmp_path: Path) -> None:
    topic = embedded(tmp_path / "topic", exec_timeout_s=5.0)
    script = tmp_path / "page.sh"
    script.write_text(
        'echo "$ALERT_SERIES" >> runs\ncase "$ALERT_SERIES" in\n'
        "  fails) [ $(grep -c fails runs) -ge 3 ] || exit 1;;\n"
        "  never) exit 65;;\n"
        "  hangs) [ $(grep -c hangs runs) -ge 2 ] || sleep 600;;\nesac\n"
    )
    with RunningBridge(topic.path, "--exec", f"sh {script}") as bridge:
        bridge.wait_ready()
        topic.publish(opened("fails"), opened("never"), opened("hangs"))
        bridge.wait_metric("delivered_total", 2)
        assert (topic.directory / "runs").read_text().split() == [
            *["fails"] * 3, "never", *["hangs"] * 2,
        ]  # fmt: skip
        found = bridge.metrics()
        assert total(found, "detector_bridge_refused_total") == 1
        assert total(found, "detector_bridge_retries_total") == 3
        assert "has not ended within 5 s: killed" in bridge.log()


def test_a_command_that_is_not_there_is_waited_for(tmp_path: Path) -> None:
    topic = embedded(tmp_path / "topic")
    command = tmp_path / "later"
    with RunningBridge(topic.path, "--exec", str(command)) as bridge:
        bridge.wait_ready()
        topic.publish(STORY[0])
        bridge.wait_metric("retries_total", 1)
        assert "cannot be started: No such file" in bridge.log()
        command.write_text("#!/bin/sh\nexit 0\n")
        command.chmod(0o755)
        bridge.wait_metric("delivered_total", 1)
