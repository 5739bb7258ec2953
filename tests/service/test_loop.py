"""The loop over the embedded broker, with a real model and a worker whose commits can fail."""

from __future__ import annotations

import json
from collections import Counter
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from prometheus_client import CollectorRegistry

from detector.errors import BrokerError
from detector.model.directory import Artifact
from detector.service.assembly import make_daemon
from detector.service.viewing.desk import Desk
from detector.transport.broker import (
    Standing,
)
from detector.transport.configured import make_broker, topics
from tests.processes import by_label, total, wait_for
from tests.records import START_S, Account, Sent, intact
from tests.service.watched import (
    LENGTH,
    MAX_GAP_S,
    STRIDE,
    WatchedBroker,
    alert_ids,
    buried,
    make_config,
    no_release,
    publish,
    read_all,
    run_through,
    running,
)

# -- every tick is accounted for


def test_every_tick_of_a_stream_with_all_sorts_of_bad_records_is_accounted_for_once(
    tmp_path: Path, artifact: Artifact, account: Account, records: list[Sent]
) -> None:
    config = make_config(tmp_path, limits={"max_series": 3})
    surplus = account.poison(Sent(b"d", intact("d", START_S, 0.1), ((0, "series_limit"),)))
    records.append(surplus)
    assert set(account.outcomes) == {
        "scored", "warming", "strided", "late", "duplicate", "rejected",
    }  # fmt: skip
    broker = make_broker(config)
    publish(broker, config, records)
    with running(config, artifact, broker) as run:
        run.wait_accounted(account.outcomes.total())
        for gauge, value in (("detector_active_series", 3), ("detector_consumer_lag_records", 0)):
            wait_for(lambda: total(run.metrics(), gauge) == value, f"{gauge} is {value}")  # noqa: B023 - called at once
        metrics = run.stop()
    assert by_label(metrics, "detector_ticks_total", "outcome") == dict(account.outcomes)
    assert by_label(metrics, "detector_ticks_rejected_total", "reason") == Counter(
        reason for record in records for _, reason in record.refused
    )
    assert total(metrics, "detector_windows_scored_total") == account.outcomes["scored"]
    assert total(metrics, "detector_score_count") == account.outcomes["scored"]
    assert total(metrics, "detector_batch_windows_sum") == account.outcomes["scored"]
    assert total(metrics, "detector_dead_letters_total") == account.outcomes["rejected"]


def test_each_poison_record_makes_one_dead_letter_with_reason_origin_and_raw_bytes(
    tmp_path: Path, artifact: Artifact, account: Account, records: list[Sent]
) -> None:
    config = make_config(tmp_path)
    broker = make_broker(config)
    publish(broker, config, records)
    run_through(config, artifact, broker, account.outcomes.total())
    letters = read_all(broker, config.dead_letters.topic)
    expected = [
        (offset, index, reason)
        for offset, record in enumerate(records)
        for index, reason in record.refused
    ]
    headers = [{k: v.decode() for k, v in letter.headers} for letter in letters]
    assert sorted((int(h["offset"]), int(h["index"]), h["reason"]) for h in headers) == expected
    for letter, header in zip(letters, headers, strict=True):
        record = records[int(header["offset"])]
        assert (header["topic"], header["partition"]) == (config.input.topic, "0")
        assert header["detail"]
        assert letter.key == record.key
        if record.value is not None and len(record.value) > 500:
            assert letter.value == record.value[:500]
            assert header["truncated_from_bytes"] == str(len(record.value))
        else:
            assert letter.value == record.value
            assert "truncated_from_bytes" not in header
    assert any("truncated_from_bytes" in header for header in headers)


def test_a_timestamp_too_large_for_a_float_is_one_dead_letter_and_no_crash(
    tmp_path: Path, artifact: Artifact
) -> None:
    config = make_config(tmp_path)
    broker = make_broker(config)
    huge = b'{"series": "a", "timestamp": 1%s, "value": 0.1}' % (b"0" * 400)
    publish(
        broker,
        config,
        [Sent(b"a", intact("a", START_S + 0.5, 0.1)), Sent(b"a", huge)],
    )
    metrics = run_through(config, artifact, broker, 2)
    assert by_label(metrics, "detector_ticks_rejected_total", "reason") == {"bad_timestamp": 1}


@pytest.mark.parametrize("moment", ["NaN", "Infinity", "1e999"])
def test_a_timestamp_that_is_not_finite_is_called_a_bad_timestamp(
    tmp_path: Path, artifact: Artifact, moment: str
) -> None:
    config = make_config(tmp_path)
    broker = make_broker(config)
    value = f'{{"series": "a", "timestamp": {moment}, "value": 0.1}}'.encode()
    publish(broker, config, [Sent(b"a", value)])
    metrics = run_through(config, artifact, broker, 1)
    assert by_label(metrics, "detector_ticks_rejected_total", "reason") == {"bad_timestamp": 1}


def test_alerts_are_valid_and_counted_as_they_are_published(
    tmp_path: Path, artifact: Artifact, account: Account, records: list[Sent]
) -> None:
    config = make_config(tmp_path, alerts={"critical_ratio": 100.0})
    broker = make_broker(config)
    publish(broker, config, records)
    with running(config, artifact, broker) as run:
        run.wait_accounted(account.outcomes.total())
        published = read_all(broker, config.alerts.topic)
        events = [json.loads(r.value or b"") for r in published]
        states = Counter(e["data"]["state"] for e in events)
        open_now = states["opened"] - states["resolved"]
        wait_for(
            lambda: total(run.metrics(), "detector_open_alerts") == open_now,
            f"{open_now} alerts are open",
        )
        metrics = run.stop()
    schema = json.loads((files("detector") / "schemas" / "alert.schema.json").read_text())
    validator = jsonschema.Draft202012Validator(schema)
    for record, event in zip(published, events, strict=True):
        validator.validate(event)
        assert record.key == event["subject"].encode()
        assert dict(record.headers)["content-type"].startswith(b"application/cloudevents+json")
    assert len({e["id"] for e in events}) == len(events)
    assert open_now > 0
    assert states["opened"] > 5
    assert states["resolved"] > 5
    assert by_label(metrics, "detector_alerts_total", "state") == states
    assert total(metrics, "detector_tick_to_alert_seconds_count") == len(events)


def test_a_second_run_begins_where_the_first_committed(
    tmp_path: Path, artifact: Artifact, account: Account, records: list[Sent]
) -> None:
    config = make_config(tmp_path)
    broker = make_broker(config)
    publish(broker, config, records)
    run_through(config, artifact, broker, account.outcomes.total())
    alerts, letters = alert_ids(broker, config), buried(broker, config)
    late = Account(LENGTH, STRIDE, MAX_GAP_S)
    more = [Sent(b"new", late.tick("new", START_S + n, 0.1)) for n in range(20)]
    publish(broker, config, more)
    metrics = run_through(config, artifact, broker, 20)
    assert by_label(metrics, "detector_ticks_total", "outcome") == dict(late.outcomes)
    assert alert_ids(broker, config) == alerts
    assert buried(broker, config) == letters


# -- start and stop


def test_stop_commits_what_was_read_and_leaves(tmp_path: Path, artifact: Artifact) -> None:
    config = make_config(tmp_path, delivery={"commit_interval_ms": 3000})
    broker = WatchedBroker(make_broker(config))
    account = Account(LENGTH, STRIDE, MAX_GAP_S)
    publish(broker, config, [Sent(None, account.tick("a", START_S + n, 0.1)) for n in range(30)])
    with running(config, artifact, broker) as run:
        worker = broker.last_worker
        assert worker is not None
        wait_for(lambda: worker.polled == 30, "all ticks are read")
        metrics = run.stop()
    assert worker.commits == 1
    assert by_label(metrics, "detector_ticks_total", "outcome") == dict(account.outcomes)
    again = make_broker(config).worker(topics(config))
    again.open(no_release)
    try:
        assert again.standing([0]) == {0: Standing(30, 0, 30)}
    finally:
        again.close()


def test_an_idle_daemon_commits_where_it_begins_and_nothing_more_and_is_ready_and_alive(
    tmp_path: Path, artifact: Artifact
) -> None:
    config = make_config(tmp_path)
    broker = WatchedBroker(make_broker(config))
    with running(config, artifact, broker) as run:
        wait_for(lambda: run.daemon.health.ready() is None, "the daemon is ready")
        assert run.daemon.health.live() is None
        wait_for(lambda: total(run.metrics(), "detector_ready") == 1, "the gauge follows")
        worker = broker.last_worker
        assert worker is not None
        wait_for(lambda: worker.commits > 0, "it commits where it begins")
        rounds = worker.polls
        wait_for(lambda: worker.polls > rounds + 20, "the loop goes round")
        desk = Desk(run.daemon.viewing, run.daemon.health)
        desk.want_state(60.0)
        wait_for(lambda: desk.state() is not None, "the state is handed over")
        handed = desk.state()
        assert handed is not None
        assert handed[1]["model"]["version"] == artifact.version
        assert handed[1]["broker"] == broker.describe()
        assert handed[1]["newest_tick"] is None
        run.stop()
    assert worker.commits == 1
    assert run.daemon.health.ready() == "not joined, or state not restored yet"


def test_a_worker_that_cannot_open_ends_the_run(tmp_path: Path, artifact: Artifact) -> None:
    config = make_config(tmp_path)
    holder = make_broker(config).worker(topics(config))
    holder.open(no_release)
    try:
        with pytest.raises(BrokerError, match="transport: kafka"):
            make_daemon(config, artifact, make_broker(config), CollectorRegistry()).run()
    finally:
        holder.close()
