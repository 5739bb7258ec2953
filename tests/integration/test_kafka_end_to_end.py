"""The daemon as an operator runs it, on a real Kafka, fed and read by other people's clients."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition

from tests.artifacts import make_artifact
from tests.kafka_broker import KafkaBroker
from tests.processes import (
    Deadline,
    RunningDaemon,
    by_label,
    detector,
    total,
    wait_for,
    write_config,
)
from tests.records import MAX_RECORD_BYTES, START_S, Account, Sent, intact, stream

pytestmark = pytest.mark.kafka

LENGTH, STRIDE, MAX_GAP_S = 8, 2, 60.0
PARTITIONS = 3
DEAD_LETTER_BYTES = 50_000
_NULL = b"\0stands for no value\0"
SERIES = [f"machine-{n}" for n in range(6)]


@dataclass(frozen=True, slots=True)
class Stage:
    """Topics of its own, a configuration and a model."""

    servers: str
    name: str
    config: Path
    model: Path

    @property
    def ticks(self) -> str:
        return f"{self.name}-ticks"

    @property
    def alerts(self) -> str:
        return f"{self.name}-alerts"

    @property
    def dead_letters(self) -> str:
        return f"{self.name}-dead"

    @property
    def directory(self) -> Path:
        return self.config.parent

    def daemon(self) -> RunningDaemon:
        return RunningDaemon(self.config, self.model, cwd=self.directory)


@pytest.fixture
def stage(kafka: KafkaBroker, tmp_path: Path) -> Stage:
    name = f"e2e-{uuid.uuid4().hex[:12]}"
    make_artifact(tmp_path / "model", length=LENGTH)
    config = write_config(
        tmp_path / "config.yaml",
        {
            "transport": "kafka",
            "features": {"value": "value"},
            "input": {"topic": f"{name}-ticks", "max_record_bytes": MAX_RECORD_BYTES},
            "alerts": {"topic": f"{name}-alerts"},
            "dead_letters": {"topic": f"{name}-dead", "max_bytes": DEAD_LETTER_BYTES},
            "state": {"topic": f"{name}-state"},
            "topics": {"partitions": PARTITIONS},
            "window": {"length_ticks": LENGTH, "stride_ticks": STRIDE, "max_gap_s": MAX_GAP_S},
            "threshold": {"method": "fixed", "value": 1.0},
            "delivery": {"commit_interval_ms": 50, "max_poll_records": 200},
            "kafka": {
                "bootstrap_servers": kafka.bootstrap_servers,
                "group": name,
                "transactional_id": name,
                "session_timeout_ms": 6000,
            },
            "http": {"port": 0},
        },
    )
    found = Stage(kafka.bootstrap_servers, name, config, tmp_path / "model")
    admin: Any = KafkaAdminClient(bootstrap_servers=kafka.bootstrap_servers)
    try:
        admin.create_topics(
            {
                found.ticks: {
                    "num_partitions": PARTITIONS,
                    "replication_factor": 1,
                    "configs": {"max.message.bytes": str(12_000_000)},
                }
            },
            wait_for_metadata=True,
        )
    finally:
        admin.close()
    return found


def send(stage: Stage, records: Sequence[Sent]) -> list[tuple[int, int]]:
    """Where each record went: (partition, offset)."""
    producer: Any = KafkaProducer(
        bootstrap_servers=stage.servers,
        max_request_size=32_000_000,
        linger_ms=5,
        # The only way to have this client write a record without key and value.
        value_serializer=lambda value: None if value == _NULL else value,
    )
    try:
        futures = [
            producer.send(stage.ticks, key=r.key, value=_NULL if r.value is None else r.value)
            for r in records
        ]
        producer.flush(timeout=60)
        placed = [future.get(timeout=60) for future in futures]
    finally:
        producer.close(timeout=10)
    return [(m.partition, m.offset) for m in placed]


@contextmanager
def subscribed(stage: Stage, topic: str) -> Iterator[Any]:
    """Somebody else's subscriber, from the beginning, of committed records only."""
    consumer: Any = KafkaConsumer(
        bootstrap_servers=stage.servers,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        isolation_level="read_committed",
        max_partition_fetch_bytes=16_000_000,
    )
    try:
        wait_for(lambda: bool(consumer.partitions_for_topic(topic)), f"{topic} is there")
        consumer.assign([TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic)])
        yield consumer
    finally:
        consumer.close()


def read_all(stage: Stage, topic: str) -> list[Any]:
    with subscribed(stage, topic) as consumer:
        ends = consumer.end_offsets(list(consumer.assignment()))
        found: list[Any] = []
        deadline = Deadline()
        while any(consumer.position(tp) < end for tp, end in ends.items()):
            deadline.check(f"{topic} is read to its end")
            for records in consumer.poll(timeout_ms=200).values():
                found += records
    return found


def alert_events(stage: Stage) -> list[dict[str, Any]]:
    """Every alert, validated."""
    schema = json.loads((files("detector") / "schemas" / "alert.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    events = [json.loads(record.value) for record in read_all(stage, stage.alerts)]
    for event in events:
        validator.validate(event)
    return events


def letters(stage: Stage) -> dict[tuple[int, int, int], Any]:
    """Dead letters by (partition, offset, index) of what they hold; none may come twice."""
    found: dict[tuple[int, int, int], Any] = {}
    for record in read_all(stage, stage.dead_letters):
        header = {k: v.decode() for k, v in record.headers}
        where = (int(header["partition"]), int(header["offset"]), int(header["index"]))
        assert where not in found
        found[where] = record
    return found


def committed(stage: Stage) -> dict[int, int]:
    consumer: Any = KafkaConsumer(
        bootstrap_servers=stage.servers, group_id=stage.name, enable_auto_commit=False
    )
    try:
        partitions = [TopicPartition(stage.ticks, p) for p in range(PARTITIONS)]
        return {tp.partition: consumer.committed(tp) or 0 for tp in partitions}
    finally:
        consumer.close()


def run_through(stage: Stage, ticks: int) -> Any:
    with stage.daemon() as daemon:
        daemon.wait_ready()
        metrics = daemon.wait_accounted(ticks)
        assert daemon.terminate() == 0
    return metrics


def test_every_tick_is_accounted_for_and_every_bad_one_buried_once(stage: Stage) -> None:
    account = Account(LENGTH, STRIDE, MAX_GAP_S)
    records = stream(account, series=SERIES, ticks=300, seed=11)
    large = b'{"series": "machine-0", "padding": "' + b"x" * 10_000_000 + b'"}'
    records.insert(500, account.poison(Sent(SERIES[0].encode(), large, ((0, "too_large"),))))
    placed = send(stage, records)
    assert {partition for partition, _ in placed} == set(range(PARTITIONS))

    metrics = run_through(stage, account.outcomes.total())

    assert by_label(metrics, "detector_ticks_total", "outcome") == dict(account.outcomes)
    assert by_label(metrics, "detector_ticks_rejected_total", "reason") == Counter(
        reason for record in records for _, reason in record.refused
    )
    assert total(metrics, "detector_windows_scored_total") == account.outcomes["scored"]
    found = letters(stage)
    expected = {
        (*where, index): (record, reason)
        for where, record in zip(placed, records, strict=True)
        for index, reason in record.refused
    }
    assert found.keys() == expected.keys()
    for where, (record, reason) in expected.items():
        letter = found[where]
        header = {k: v.decode() for k, v in letter.headers}
        assert (header["reason"], header["topic"]) == (reason, stage.ticks)
        assert letter.key == record.key
        raw = record.value
        assert letter.value == (None if raw is None else raw[:DEAD_LETTER_BYTES])
        if raw is not None and len(raw) > DEAD_LETTER_BYTES:
            assert header["truncated_from_bytes"] == str(len(raw))
    events = alert_events(stage)
    assert len({e["id"] for e in events}) == len(events)
    states = Counter(e["data"]["state"] for e in events)
    assert states["opened"] > 5
    assert by_label(metrics, "detector_alerts_total", "state") == states
    ends = Counter(partition for partition, _ in placed)
    assert committed(stage) == {p: ends[p] for p in range(PARTITIONS)}


def test_a_restart_goes_on_at_the_committed_offset_without_repeating_anything(
    stage: Stage,
) -> None:
    accounts = [Account(LENGTH, STRIDE, MAX_GAP_S) for _ in range(2)]
    seen: list[list[str]] = []
    buried: list[int] = []
    for run, account in enumerate(accounts):
        # Series of its own in each run, so that what is expected depends on the run alone.
        names = [f"{name}-of-run-{run}" for name in SERIES]
        send(stage, stream(account, series=names, ticks=120, seed=run))
        metrics = run_through(stage, account.outcomes.total())
        assert by_label(metrics, "detector_ticks_total", "outcome") == dict(account.outcomes)
        seen.append([e["id"] for e in alert_events(stage)])
        buried.append(len(letters(stage)))
    # One more start with nothing new: nothing is read again.
    with stage.daemon() as daemon:
        daemon.wait_ready()
        wait_for(
            lambda: "detector_consumer_lag_records" in daemon.get("/metrics")[1],
            "the daemon knows its lag",
        )
        metrics = daemon.metrics()
        assert daemon.terminate() == 0
    assert total(metrics, "detector_ticks_total") == 0
    assert len(seen[0]) > 2
    assert set(seen[0]) < set(seen[1])
    assert len(set(seen[1])) == len(seen[1])
    assert sorted(e["id"] for e in alert_events(stage)) == sorted(seen[1])
    assert buried[0] == accounts[0].outcomes["rejected"]
    assert buried[1] == len(letters(stage)) == sum(a.outcomes["rejected"] for a in accounts)


def test_sigterm_under_load_ends_with_0_and_the_next_daemon_does_the_rest(stage: Stage) -> None:
    account = Account(LENGTH, STRIDE, None)
    records = [
        Sent(name.encode(), account.tick(name, START_S + n, 0.1))
        for n in range(4000)
        for name in SERIES
    ]
    placed = send(stage, records)
    with stage.daemon() as daemon:
        daemon.wait_ready()
        daemon.wait_accounted(1)
        assert daemon.terminate() == 0
    first = sum(committed(stage).values())
    assert 0 < first <= len(records)
    metrics = run_through(stage, len(records) - first)
    assert total(metrics, "detector_ticks_total") == len(records) - first
    ends = Counter(partition for partition, _ in placed)
    assert committed(stage) == {p: ends[p] for p in range(PARTITIONS)}


def test_a_daemon_waits_for_ticks_and_a_subscriber_sees_the_alert_of_a_live_one(
    stage: Stage,
) -> None:
    with stage.daemon() as daemon:
        daemon.wait_ready()
        with subscribed(stage, stage.alerts) as consumer:
            send(
                stage,
                [Sent(b"live", intact("live", START_S + n, 0.1)) for n in range(2 * LENGTH)]
                + [Sent(b"live", intact("live", START_S + 20 + n, 100.0)) for n in range(10)],
            )
            events: list[Any] = []

            def opened() -> bool:
                for records in consumer.poll(timeout_ms=200).values():
                    events.extend(json.loads(r.value)["data"] for r in records)
                return bool(events)

            wait_for(opened, "the alert arrives")
        assert daemon.terminate() == 0
    assert (events[0]["series"], events[0]["state"]) == ("live", "opened")
    assert events[0]["input"]["topic"] == stage.ticks


def test_a_record_without_key_and_value_is_buried_and_does_not_stop_the_daemon(
    stage: Stage,
) -> None:
    after = [Sent(b"a", intact("a", START_S + n, 0.1)) for n in range(3)]
    send(stage, [Sent(None, None, ((0, "null"),)), *after])
    metrics = run_through(stage, 4)
    assert by_label(metrics, "detector_ticks_rejected_total", "reason") == {"null": 1}
    assert len(letters(stage)) == 1


def test_a_bad_record_with_a_large_key_is_buried_and_does_not_stop_the_daemon(
    stage: Stage,
) -> None:
    after = [Sent(b"a", intact("a", START_S + n, 0.1)) for n in range(3)]
    send(stage, [Sent(b"k" * 2_000_000, b"no tick", ((0, "not_decodable"),)), *after])
    metrics = run_through(stage, 4)
    assert by_label(metrics, "detector_ticks_rejected_total", "reason") == {"not_decodable": 1}
    assert len(letters(stage)) == 1


def test_a_tick_of_a_series_with_a_very_long_name_does_not_stop_the_daemon(stage: Stage) -> None:
    """An alert names its series more than once, and the broker limits the size of a record."""
    name = "n" * 600_000
    ticks = [intact(name, START_S + n, 0.1 if n < 2 * LENGTH else 100.0) for n in range(20)]
    send(stage, [Sent(b"long", tick) for tick in ticks])
    environment = {"DETECTOR_INPUT__MAX_RECORD_BYTES": "1000000"}
    with RunningDaemon(
        stage.config, stage.model, cwd=stage.directory, environment=environment
    ) as daemon:
        daemon.wait_ready()
        daemon.wait_accounted(20)  # committed, that is
        assert daemon.terminate() == 0


def test_the_commands_work_over_kafka(stage: Stage, tmp_path: Path) -> None:
    data = tmp_path / "data.csv"
    lines = [f"s,{START_S + n},{100.0 if n % 30 == 29 else 0.1}" for n in range(90)]
    data.write_text("series,timestamp,value\n" + "\n".join(lines) + "\n")

    def run(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
        done = detector(*arguments, "--config", stage.config, cwd=tmp_path)
        assert (done.returncode, done.stderr) == (0, ""), done.stderr
        return done

    words = f"broker: ok (Kafka at {stage.servers}"
    assert f"{words}; will create {stage.alerts}, " in run("check", "--model", stage.model).stdout
    assert run("publish", "--data", data).stdout == f"published 90 ticks to {stage.ticks}\n"
    run_through(stage, 90)
    printed = run("alerts", "--from-beginning", "--exit", "--json").stdout.splitlines()
    assert [json.loads(line) for line in printed] == alert_events(stage) != []
    assert f"{words})" in run("check", "--model", stage.model).stdout


def test_a_topic_that_may_not_be_created_ends_with_69_and_its_name(stage: Stage) -> None:
    done = detector(
        *("run", "--config", stage.config, "--model", stage.model),
        cwd=stage.directory,
        environment={"DETECTOR_TOPICS__CREATE": "false", "DETECTOR_LOG__LEVEL": "error"},
    )
    assert done.returncode == 69
    (line,) = done.stderr.splitlines()
    assert stage.alerts in line
    assert stage.dead_letters in line
    assert f" {stage.ticks}" not in line
