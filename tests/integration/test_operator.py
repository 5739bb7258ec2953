"""What an operator does with dead letters and saved state, on both transports."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from detector.core.records import Message
from tests.artifacts import make_artifact
from tests.faults.scene import LENGTH, START_S, Scene, make_scene
from tests.integration.commands import refusal, succeeded
from tests.processes import detector, total, wait_for, write_config

BAD = [
    b"not json",
    b'{"series": "a", "timestamp": 1700000000}',
    b'{"series": "a", "timestamp": "noon", "value": 1}',
]


@dataclass(frozen=True, slots=True)
class Operator:
    """Runs commands beside a deployment."""

    scene: Scene
    config: Path

    def __call__(self, *arguments: str, code: int = 0) -> str:
        done = detector(*arguments, "--config", self.config, cwd=self.scene.directory)
        return succeeded(done) if code == 0 else refusal(done, code)

    def lines(self, *arguments: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self(*arguments, "--json").splitlines()]

    def state(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self("state", "show", "--json"))
        return found

    def run_through(self) -> Any:
        with self.scene.worker(1) as worker:
            worker.wait_ready()
            self.scene.wait_all_committed()
            metrics = worker.metrics()
            assert worker.terminate() == 0, worker.log()
        return metrics


@pytest.fixture(params=["embedded", pytest.param("kafka", marks=pytest.mark.kafka)])
def operator(request: pytest.FixtureRequest, tmp_path: Path) -> Operator:
    servers = None
    if request.param == "kafka":
        servers = request.getfixturevalue("kafka").bootstrap_servers
    scene = make_scene(tmp_path, bootstrap_servers=servers)
    group = scene.tree["kafka"]["group"]
    config = scene.write_config("operator", kafka={"transactional_id": f"{group}-1"})
    return Operator(scene, config)


#: Where the transport makes no difference: the commands read and publish as the contracts hold.
embedded_alone = pytest.mark.parametrize("operator", ["embedded"], indirect=True)


# -- dead letters


def test_dead_letters_are_shown_with_reason_origin_and_beginning(operator: Operator) -> None:
    assert operator("dead-letters") == ""
    operator.scene.append([Message(b"a", value) for value in BAD])
    operator.run_through()
    lines = operator("dead-letters").splitlines()
    assert len(lines) == len(BAD)
    topic = operator.scene.tree["input"]["topic"]
    for reason, beginning in (
        ("not_decodable", "not json"),
        ("missing_field", '{"series": "a", "timestamp": 1700000000}'),
        ("bad_timestamp", '"noon"'),
    ):
        (line,) = [line for line in lines if reason in line]
        assert beginning in line
        assert f"{topic}/" in line
    assert len(operator("dead-letters", "--reason", "bad_timestamp").splitlines()) == 1
    assert operator("dead-letters", "--since", "2100-01-01T00:00:00Z") == ""
    found = operator.lines("dead-letters")
    assert Counter(bytes.fromhex(letter["value_hex"]) for letter in found) == Counter(BAD)
    assert {letter["key"] for letter in found} == {"a"}


def test_dead_letters_are_published_again_after_a_fix(operator: Operator) -> None:
    """A deployment that looked for the time in the wrong field."""
    scene = operator.scene
    ticks = [
        json.dumps({"series": "a", "at": START_S + n, "value": 0.1}).encode() for n in range(20)
    ]
    scene.append([Message(b"a", tick) for tick in ticks])
    metrics = operator.run_through()
    assert total(metrics, "detector_dead_letters_total") == 20
    scene.tree["input"]["timestamp_field"] = "at"
    fixed = Operator(scene, scene.write_config("fixed", kafka={"transactional_id": "operator"}))
    said = fixed("dead-letters", "--reason", "missing_field", "--republish")
    assert "20" in said
    scene.published += 20
    metrics = fixed.run_through()
    assert total(metrics, "detector_ticks_total", outcome="scored") == 20 - LENGTH + 1
    assert total(metrics, "detector_dead_letters_total") == 0
    assert len(fixed.lines("dead-letters")) == 20, "letters stay where they are"


@embedded_alone
def test_what_was_cut_off_is_not_published_again(operator: Operator) -> None:
    scene = operator.scene
    scene.tree["dead_letters"]["max_bytes"] = 10
    scene.append([Message(b"a", b"no tick at all"), Message(b"a", b"no tick")])
    operator.run_through()
    said = operator("dead-letters", "--republish")
    assert "published 1" in said
    assert "1" in said.partition("published 1")[2], said
    operator.run_through()
    assert Counter(bytes.fromhex(r["value_hex"]) for r in operator.lines("dead-letters")) == {
        b"no tick": 2,
        b"no tick at": 1,
    }


@embedded_alone
def test_letters_of_another_ticks_topic_and_late_ones_stay_where_they_are(
    operator: Operator,
) -> None:
    """A dead-letter topic may be shared."""
    scene = operator.scene
    scene.tree["dead_letters"]["late"] = True
    ticks = [{"series": "a", "timestamp": START_S + n, "value": 0.1} for n in (5, 6, 1)]
    scene.append([Message(b"a", json.dumps(tick).encode()) for tick in ticks])
    scene.append([Message(b"a", b"no tick")])
    operator.run_through()
    other = {**scene.tree, "input": {**scene.tree["input"], "topic": "somebody-elses"}}
    elsewhere = Operator(scene, write_config(scene.directory / "elsewhere.yaml", other))
    said = json.loads(elsewhere("dead-letters", "--republish", "--json"))
    assert said == {"published": 0, "cut_off": 0, "elsewhere": 2, "late": 0}
    said = json.loads(operator("dead-letters", "--republish", "--json"))
    assert said == {"published": 1, "cut_off": 0, "elsewhere": 0, "late": 1}


# -- state


def test_the_saved_state_is_shown(operator: Operator) -> None:
    scene = operator.scene
    scene.publish(600, poison=0)
    operator.run_through()
    rows = operator.state()
    assert len(rows) == len(scene.end_offsets())
    for row in rows:
        assert row["committed"] == row["state"] == row["needed_from"] == row["end"]
        assert (row["first"], row["model"]) == (0, "random-0")
    assert sum(row["series"] for row in rows) == 6
    for row in rows:
        assert row["bytes"] <= 1024 * (row["series"] + 1)
    table = operator("state").splitlines()
    assert any("random-0" in line for line in table)


@pytest.mark.parametrize(
    ("operator", "to"),
    [
        *(("embedded", to) for to in ("earliest", "latest", "committed", "state")),
        *(pytest.param("kafka", to, marks=pytest.mark.kafka) for to in ("earliest", "state")),
    ],
    indirect=["operator"],
)
def test_the_state_is_reset_on_purpose(operator: Operator, to: str) -> None:
    scene = operator.scene
    scene.publish(600, poison=0)
    operator.run_through()
    before = scene.seen()
    ends = scene.end_offsets()
    scene.publish(300, poison=0)
    said = operator("state", "reset", "--to", to)
    assert len(said.splitlines()) >= len(ends)
    rows = {row["partition"]: row for row in operator.state()}
    for partition, row in rows.items():
        expected = {"earliest": 0, "latest": row["end"]}.get(to, ends[partition])
        assert row["committed"] == row["state"] == expected
        assert to == "state" or row["series"] == 0
    metrics = operator.run_through()
    counted = {"earliest": scene.published, "latest": 0}.get(
        to, scene.published - sum(ends.values())
    )
    assert total(metrics, "detector_ticks_total") == counted
    seen = scene.seen()
    assert not before.alerts - seen.alerts, "nothing that was published goes away"
    if to == "state":
        scene.assert_exactly_golden()
    if to == "earliest":  # the ids tell a subscriber what it has seen already
        ids = {json.loads(alert)["id"] for alert in seen.alerts}
        assert len(ids) == len(scene.golden().alerts)


@embedded_alone
def test_a_reset_without_a_target_says_what_there_is_to_choose(operator: Operator) -> None:
    words = operator("state", "reset", code=64)
    for target in ("committed", "state", "earliest", "latest"):
        assert target in words


def test_a_reset_is_refused_while_a_worker_runs(operator: Operator) -> None:
    scene = operator.scene
    scene.publish(300, poison=0)
    with scene.worker(1) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        words = operator("state", "reset", "--to", "earliest", code=69)
        assert "stop" in words.lower() or "worker" in words, words
        scene.publish(300, poison=0)
        scene.wait_all_committed()
        assert worker.terminate() == 0, worker.log()
    scene.assert_exactly_golden()


@pytest.mark.kafka
def test_the_state_grows_with_the_ticks_topic(kafka: Any, tmp_path: Path) -> None:
    scene = make_scene(tmp_path, bootstrap_servers=kafka.bootstrap_servers)
    operator = Operator(scene, scene.write_config("operator"))
    assert "3" in operator("state", "grow")


def test_the_state_of_a_changed_model_is_not_mixed(operator: Operator, tmp_path: Path) -> None:
    scene = operator.scene
    scene.publish(600, poison=0)
    operator.run_through()
    other = tmp_path / "other"
    make_artifact(other, length=LENGTH, seed=1)
    shutil.rmtree(scene.model_path)  # else the new one would go on from its windows
    with scene.worker(1, model=other) as worker:
        worker.wait_ready()
        wait_for(lambda: total(worker.metrics(), "detector_warming_series") == 6, "all are warming")
        metrics = worker.metrics()
        assert worker.terminate() == 0, worker.log()
    assert total(metrics, "detector_restored_series_total", outcome="warming") == 6
    assert "warming_again" in worker.log()
    assert {row["model"] for row in operator.state()} <= {"random-0", "random-1"}
