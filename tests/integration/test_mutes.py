"""Mutes as an operator gives them, to daemons that are killed and share the work anew."""

from __future__ import annotations

import json
import signal
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from detector.config import load_config
from detector.core.records import Message
from detector.transport.configured import make_broker, prepare_topics
from tests.artifacts import make_artifact
from tests.integration.commands import refusal, succeeded
from tests.kafka_broker import KafkaBroker
from tests.processes import RunningDaemon, detector, total, wait_for, write_config

LENGTH = 4
START_S = 1_700_000_000
NORMAL, STRANGE = 1.0, 1e6


@dataclass
class Plant:
    """A ticks topic that somebody writes to, one series in each partition, and what is published
    of it. second: of event time, the same in all partitions."""

    directory: Path
    config: Path
    model: Path
    partitions: tuple[int, ...]
    second: int = 0
    sent: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)

    def daemon(self, number: int = 1) -> RunningDaemon:
        environment = {"DETECTOR_KAFKA__TRANSACTIONAL_ID": f"{self.config.parent.name}-{number}"}
        return RunningDaemon(self.config, self.model, cwd=self.directory, environment=environment)

    def tick(self, value: float, *, times: int = 1) -> None:
        """In every partition, a second apart."""
        config = load_config(self.config, {})
        publisher = make_broker(config).publisher()
        messages = []
        for _ in range(times):
            for partition in self.partitions:
                tick = {
                    "series": f"m-{partition}",
                    "timestamp": START_S + self.second,
                    "value": value * (1 + self.second % 3 / 100),
                }
                messages.append(
                    Message(b"%d" % partition, json.dumps(tick).encode(), partition=partition)
                )
            self.second += 1
        publisher.publish(config.input.topic, messages)
        publisher.flush()
        publisher.close()
        self.sent += len(messages)

    def command(self, *arguments: str) -> Any:
        done = detector(*arguments, "--config", str(self.config), "--json", cwd=self.directory)
        return json.loads(succeeded(done))

    def look(self) -> list[dict[str, Any]]:
        """The alerts so far, in order within each partition."""
        config = load_config(self.config, {})
        reader = make_broker(config).reader(config.alerts.topic, from_beginning=True)
        found: list[dict[str, Any]] = []
        try:
            while not reader.at_end():
                found += [json.loads(r.value or b"")["data"] for r in reader.poll(timeout_s=0.3)]
        finally:
            reader.close()
        return found

    def wait_last(self, state: str, *, muted: bool) -> None:
        """Until this is the last that is said of every series."""

        def so() -> bool:
            self.seen = self.look()
            last = {data["series"]: (data["state"], data["muted"]) for data in self.seen}
            return last == {f"m-{p}": (state, muted) for p in self.partitions}

        try:
            wait_for(so, f"{state}, muted {muted}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {shown(self.seen)}") from None

    def tick_until_last(self, value: float, state: str, *, muted: bool) -> None:
        """Like wait_last; a command is heard of between two ticks."""

        def so() -> bool:
            self.tick(value)
            self.seen = self.look()
            last = {data["series"]: (data["state"], data["muted"]) for data in self.seen}
            return last == {f"m-{p}": (state, muted) for p in self.partitions}

        try:
            wait_for(so, f"{state}, muted {muted}")
        except AssertionError as error:
            raise AssertionError(f"{error}: {shown(self.seen)}") from None


def shown(seen: Iterable[Mapping[str, Any]]) -> list[tuple[str, str, bool, int]]:
    return [(d["series"], d["state"], d["muted"], d["input"]["offset"]) for d in seen]


def make_plant(directory: Path, tree: Mapping[str, Any], partitions: tuple[int, ...]) -> Plant:
    make_artifact(directory / "model", length=LENGTH)
    config = write_config(
        directory / "config.yaml",
        {
            "features": {"value": "value"},
            "window": {"length_ticks": LENGTH},
            "threshold": {"method": "fixed", "value": 1.0},
            "alerts": {"resolve_after": 3},
            "delivery": {"commit_interval_ms": 50},
            "http": {"port": 0},
        }
        | dict(tree),
    )
    plant = Plant(directory, config, directory / "model", partitions)
    loaded = load_config(config, {})
    prepare_topics(loaded, make_broker(loaded))
    return plant


def assert_told(seen: Sequence[Mapping[str, Any]], identities: Sequence[str]) -> None:
    """No event came twice; whoever follows an episode was told of every change of its flag by an
    update; the flags of a partition are those of one mute after the other."""
    assert len(set(identities)) == len(identities)
    last: dict[str, bool] = {}
    for data in seen:
        before = last.get(data["alert_id"])
        if data["state"] == "updated":
            assert before is not data["muted"], shown(seen)
        elif data["state"] != "opened":
            assert before is data["muted"], shown(seen)
        last[data["alert_id"]] = data["muted"]


def identities(plant: Plant) -> list[str]:
    config = load_config(plant.config, {})
    reader = make_broker(config).reader(config.alerts.topic, from_beginning=True)
    found: list[str] = []
    try:
        while len(found) < len(plant.seen):
            found += [json.loads(r.value or b"")["id"] for r in reader.poll(timeout_s=0.3)]
    finally:
        reader.close()
    return found


def times(first_s: int, last_s: int) -> tuple[str, ...]:
    """Event time, as options."""
    from detector.core.moments import rfc3339

    return (
        "--from",
        rfc3339((START_S + first_s) * 10**9),
        "--until",
        rfc3339((START_S + last_s) * 10**9),
    )


@pytest.fixture
def plant(tmp_path: Path) -> Plant:
    tree = {"transport": "embedded", "embedded": {"path": str(tmp_path / "broker.sqlite")}}
    return make_plant(tmp_path, tree, (0,))


def test_a_mute_reaches_a_running_daemon_and_outlives_a_kill(plant: Plant) -> None:
    with plant.daemon() as daemon:
        daemon.wait_ready()
        plant.tick(NORMAL, times=6)
        plant.tick(STRANGE, times=4)
        plant.wait_last("opened", muted=False)
        given = plant.command(
            "mute", "m-*", *times(0, 10**6), "--reason", "valve", "--by", "ann", "--all"
        )
        assert (given["matches"], given["notes"]) == (1, [])
        plant.tick_until_last(STRANGE, "updated", muted=True)
        wait_for(
            lambda: total(daemon.metrics(), "detector_mutes_in_force") == 1, "the gauge says so"
        )
        daemon.signal(signal.SIGKILL)
        daemon.wait_ended()
    with plant.daemon() as daemon:
        daemon.wait_ready()
        plant.tick(NORMAL, times=12)
        plant.wait_last("resolved", muted=True)
        plant.tick(STRANGE, times=4)
        plant.wait_last("opened", muted=True)
        listed = plant.command("mute", "list")
        assert [(m["id"], m["state"], m["by"]) for m in listed] == [
            (given["id"], "in force", "ann")
        ]
        plant.command("unmute", given["id"][:5])
        plant.tick_until_last(STRANGE, "updated", muted=False)
        plant.tick(NORMAL, times=12)
        plant.wait_last("resolved", muted=False)
        assert plant.command("mute", "list") == []
        assert total(daemon.metrics(), "detector_muted_alerts_total") >= 1
        assert daemon.terminate() == 0
    assert_told(plant.seen, identities(plant))
    lines = succeeded(
        detector(
            "alerts", "--from-beginning", "--exit", "--config", plant.config, cwd=plant.directory
        )
    )
    assert "(muted)" in lines
    assert "stays open" in lines


def test_what_makes_no_sense_is_refused_in_a_line(plant: Plant) -> None:
    def refused(*arguments: str, code: int = 64) -> str:
        done = detector(*arguments, "--config", str(plant.config), cwd=plant.directory)
        return refusal(done, code)

    assert "--for or --until" in refused("mute", "a")
    assert "--for or --until" in refused("mute", "a", "--for", "2h", "--until", "2030-01-01")
    assert "no duration" in refused("mute", "a", "--for", "soon")
    assert "before it begins" in refused(
        "mute", "a", "--from", "2030-01-02", "--until", "2030-01-01"
    )
    assert "no time" in refused("mute", "a", "--until", "tomorrow")
    assert "--all" in refused("mute", "*", "--for", "2h")
    assert "1 to 500" in refused("mute", "", "--for", "2h")
    assert "2262" in refused("mute", "a", "--for", "999999d")
    assert "no mute begins with" in refused("unmute", "abc", code=65)
    plant.command("mute", "a", "--for", "2h")
    plant.command("mute", "*", "--for", "2h", "--all")
    assert "several mutes" in refused("unmute", "", code=65)


def test_what_a_mute_does_not_meet_is_said(plant: Plant) -> None:
    with plant.daemon() as daemon:
        daemon.wait_ready()
        plant.tick(NORMAL, times=6)
        daemon.wait_accounted(plant.sent)
        assert daemon.terminate() == 0
    given = plant.command("mute", "nobody", "--for", "2h")
    assert (given["matches"], len(given["notes"])) == (0, 2)
    assert "matches no series" in given["notes"][0]
    assert "begins when the ticks get there" in given["notes"][1]
    over = plant.command("mute", "m-0", "--from", "2001-01-01", "--until", "2001-01-02")
    assert "over already" in over["notes"][0]
    states = {m["id"]: m["state"] for m in plant.command("mute", "list")}
    assert states == {given["id"]: "pending", over["id"]: "over"}


@pytest.mark.kafka
def test_two_workers_share_a_mute_through_rebalances_and_a_kill(
    kafka: KafkaBroker, tmp_path: Path
) -> None:
    name = f"mutes-{uuid.uuid4().hex[:12]}"
    tree = {
        "transport": "kafka",
        "input": {"topic": f"{name}-ticks"},
        "alerts": {"topic": f"{name}-alerts", "resolve_after": 3},
        "dead_letters": {"topic": f"{name}-dead"},
        "state": {"topic": f"{name}-state"},
        "topics": {"partitions": 2},
        "kafka": {
            "bootstrap_servers": kafka.bootstrap_servers,
            "group": name,
            "session_timeout_ms": 6000,
        },
    }
    plant = make_plant(tmp_path, tree, (0, 1))

    def holding(daemon: RunningDaemon, partitions: int) -> bool:
        found = daemon.metrics()
        held = {
            dict(labels)["partition"] for n, labels in found if n == "detector_consumer_lag_records"
        }
        return len(held) == partitions and total(found, "detector_ready") == 1

    with plant.daemon(1) as first:
        first.wait_ready()
        plant.tick(NORMAL, times=6)
        plant.tick(STRANGE, times=4)
        plant.wait_last("opened", muted=False)
        given = plant.command("mute", "m-*", *times(0, 10**6), "--all")
        plant.tick_until_last(STRANGE, "updated", muted=True)
        with plant.daemon(2) as second:  # a rebalance while the mute is in force
            second.wait_ready()
            wait_for(lambda: holding(first, 1) and holding(second, 1), "each has one")
            plant.tick(NORMAL, times=12)
            plant.wait_last("resolved", muted=True)
            plant.tick(STRANGE, times=4)
            plant.wait_last("opened", muted=True)
            first.signal(signal.SIGKILL)
            first.wait_ended()
            plant.tick(STRANGE, times=3)  # nobody reads one of the partitions now
            plant.tick(NORMAL, times=12)
            plant.wait_last("resolved", muted=True)
            wait_for(lambda: holding(second, 2), "it says that it has both")
            plant.tick(STRANGE, times=4)
            plant.wait_last("opened", muted=True)
            plant.command("unmute", given["id"])
            plant.tick_until_last(STRANGE, "updated", muted=False)
            with plant.daemon(3) as third:  # and one after it was taken back
                third.wait_ready()
                wait_for(lambda: holding(second, 1) and holding(third, 1), "each has one")
                plant.tick(NORMAL, times=12)
                plant.wait_last("resolved", muted=False)
                plant.tick(STRANGE, times=4)
                plant.wait_last("opened", muted=False)
                assert third.terminate() == 0
            assert second.terminate() == 0
    assert_told(plant.seen, identities(plant))
