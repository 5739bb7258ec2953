"""The loop over the embedded broker, with a real model and a worker whose commits can fail."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest

from detector.artifact import Artifact
from detector.config import Config, parse_config
from detector.core.codec import RecordBlock
from detector.errors import BrokerError, TransactionError
from detector.service.wiring import make_broker, make_daemon, topics
from detector.transport.broker import (
    Broker,
    Keeper,
    Message,
    Outbox,
    Publisher,
    Reader,
    Record,
    Release,
    Standing,
    StateReader,
    Topics,
)
from detector.transport.broker import Worker as WorkerProtocol
from tests.artifacts import make_artifact
from tests.processes import Samples, by_label, samples, total, wait_for
from tests.records import MAX_RECORD_BYTES, START_S, Account, Sent, intact, stream

LENGTH, STRIDE, MAX_GAP_S = 8, 2, 60.0


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return make_artifact(tmp_path_factory.mktemp("model") / "m", length=LENGTH)


def make_config(directory: Path, **sections: Mapping[str, Any]) -> Config:
    tree: dict[str, Any] = {
        "features": {"value": "value"},
        "input": {"max_record_bytes": MAX_RECORD_BYTES},
        "window": {"length": LENGTH, "stride": STRIDE, "max_gap_s": MAX_GAP_S},
        "threshold": {"method": "fixed", "value": 1.0},
        "dead_letters": {"max_bytes": 500},
        "delivery": {"commit_interval_ms": 20, "max_poll_records": 64},
        "embedded": {"path": str(directory / "broker.sqlite"), "synchronous": "normal"},
    }
    for section, options in sections.items():
        tree[section] = {**tree.get(section, {}), **options}
    return parse_config(tree)


OnCommit = Callable[[int, Outbox, Mapping[int, int]], None]


class WatchedWorker:
    """A worker that calls before and after each commit; either may raise."""

    def __init__(self, inner: WorkerProtocol, before: OnCommit, after: OnCommit) -> None:
        self._inner, self._before, self._after = inner, before, after
        self.commits = 0
        self.polled = 0
        self.polls = 0

    def open(self, release: Release) -> None:
        self._inner.open(release)

    def poll(self, *, max_records: int, timeout_s: float) -> list[RecordBlock]:
        blocks = self._inner.poll(max_records=max_records, timeout_s=timeout_s)
        self.polled += sum(map(len, blocks))
        self.polls += 1
        return blocks

    def commit(
        self, outbox: Outbox, positions: Mapping[int, int], needed_from: Mapping[int, int]
    ) -> None:
        self.commits += 1
        self._before(self.commits, outbox, positions)
        self._inner.commit(outbox, positions, needed_from)
        self._after(self.commits, outbox, positions)

    def changes(self) -> tuple[frozenset[int], frozenset[int]]:
        return self._inner.changes()

    def standing(self, partitions: Sequence[int]) -> dict[int, Standing]:
        return self._inner.standing(partitions)

    def read_state(self, partitions: Sequence[int]) -> StateReader:
        return self._inner.read_state(partitions)

    def start(self, positions: Mapping[int, int]) -> None:
        self._inner.start(positions)

    def position(self, partition: int) -> int:
        return self._inner.position(partition)

    def may_commit(self) -> bool:
        return self._inner.may_commit()

    def readable(self) -> int:
        return self._inner.readable()

    def ready(self) -> bool:
        return self._inner.ready()

    def lag(self) -> dict[int, int]:
        return self._inner.lag()

    def reopen(self) -> None:
        self._inner.reopen()

    def close(self) -> None:
        self._inner.close()


def no_release(_: frozenset[int]) -> None:
    """Nothing is ever asked back."""


def nothing(_: int, __: Outbox, ___: Mapping[int, int]) -> None:
    """Neither before nor after a commit."""


class WatchedBroker:
    """A broker whose one worker is watched."""

    def __init__(
        self, inner: Broker, *, before: OnCommit = nothing, after: OnCommit = nothing
    ) -> None:
        self._inner, self._before, self._after = inner, before, after
        self.last_worker: WatchedWorker | None = None

    def describe(self) -> str:
        return self._inner.describe()

    def missing(self, topics: Topics) -> list[str]:
        return self._inner.missing(topics)

    def prepare(
        self,
        topics: Topics,
        *,
        partitioned: Sequence[str],
        create: bool,
        check_state: bool = True,
    ) -> None:
        self._inner.prepare(topics, partitioned=partitioned, create=create, check_state=check_state)

    def grow_state(self, topics: Topics) -> tuple[int, int]:
        return self._inner.grow_state(topics)

    def keeper(self, topics: Topics) -> Keeper:
        return self._inner.keeper(topics)

    def worker(self, topics: Topics) -> WatchedWorker:
        self.last_worker = WatchedWorker(self._inner.worker(topics), self._before, self._after)
        return self.last_worker

    def publisher(self) -> Publisher:
        return self._inner.publisher()

    def reader(self, topic: str, *, from_beginning: bool) -> Reader:
        return self._inner.reader(topic, from_beginning=from_beginning)


class Running:
    """A daemon in a thread."""

    def __init__(self, config: Config, artifact: Artifact, broker: Broker) -> None:
        self.registry = CollectorRegistry()
        self.daemon = make_daemon(config, artifact, broker, self.registry)
        self.failure: BaseException | None = None
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        try:
            self.daemon.run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.failure = error

    def metrics(self) -> Samples:
        return samples(generate_latest(self.registry).decode())

    def wait_accounted(self, ticks: int) -> None:
        wait_for(
            lambda: (
                self.failure is not None or total(self.metrics(), "detector_ticks_total") >= ticks
            ),
            f"{ticks} ticks are accounted for",
        )
        if self.failure is not None:
            raise self.failure

    def stop(self) -> Samples:
        """The metrics after the loop has ended as it should."""
        self.daemon.stop()
        self.thread.join(60)
        assert not self.thread.is_alive()
        if self.failure is not None:
            raise self.failure
        return self.metrics()


@contextmanager
def running(config: Config, artifact: Artifact, broker: Broker) -> Iterator[Running]:
    found = Running(config, artifact, broker)
    found.thread.start()
    try:
        yield found
    finally:
        found.daemon.stop()
        found.thread.join(60)


def publish(broker: Broker, config: Config, records: Sequence[Sent]) -> None:
    publisher = broker.publisher()
    try:
        publisher.publish(config.input.topic, [Message(r.key, r.value) for r in records])
        publisher.flush()
    finally:
        publisher.close()


def read_all(broker: Broker, topic: str) -> list[Record]:
    reader = broker.reader(topic, from_beginning=True)
    found: list[Record] = []
    try:
        while not reader.at_end():
            found += reader.poll(timeout_s=1.0)
    finally:
        reader.close()
    return found


def alert_ids(broker: Broker, config: Config) -> list[str]:
    return [json.loads(r.value or b"")["id"] for r in read_all(broker, config.alerts.topic)]


def buried(broker: Broker, config: Config) -> list[tuple[int, int]]:
    """(offset, index) of every dead letter."""
    letters = [dict(r.headers) for r in read_all(broker, config.dead_letters.topic)]
    return [(int(h["offset"]), int(h["index"])) for h in letters]


def run_through(config: Config, artifact: Artifact, broker: Broker, ticks: int) -> Samples:
    with running(config, artifact, broker) as run:
        run.wait_accounted(ticks)
        return run.stop()


@pytest.fixture
def account() -> Account:
    return Account(LENGTH, STRIDE, MAX_GAP_S)


@pytest.fixture
def records(account: Account) -> list[Sent]:
    return stream(account, series=["a", "b", "c"], ticks=300, seed=1)


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


# -- commits that fail


def test_metrics_move_only_when_a_transaction_has_committed(
    tmp_path: Path, artifact: Artifact, records: list[Sent], account: Account
) -> None:
    config = make_config(tmp_path)
    run: list[Running] = []
    committed = 0
    seen: list[tuple[float, float]] = []

    def ticks_up_to(position: int) -> int:
        one_each = [json_ticks(r) for r in records[:position]]
        return sum(one_each)

    def before(_: int, __: Outbox, ___: Mapping[int, int]) -> None:
        seen.append((total(run[0].metrics(), "detector_ticks_total"), ticks_up_to(committed)))

    def after(_: int, __: Outbox, positions: Mapping[int, int]) -> None:
        nonlocal committed
        committed = positions[0]

    broker = WatchedBroker(make_broker(config), before=before, after=after)
    publish(broker, config, records)
    run.append(Running(config, artifact, broker))
    run[0].thread.start()
    try:
        run[0].wait_accounted(account.outcomes.total())
    finally:
        run[0].daemon.stop()
        run[0].thread.join(60)
    assert len(seen) > 3
    assert [counted for counted, _ in seen] == [expected for _, expected in seen]


def json_ticks(record: Sent) -> int:
    """How many ticks a record of the stream holds, good and bad."""
    if record.refused and record.refused[0][0] == 0:
        return 1
    found = json.loads(record.value or b"")
    return len(found) if isinstance(found, list) else 1


@pytest.mark.parametrize("failing", [1, 2, 5])
def test_after_a_failed_commit_nothing_is_counted_or_published_twice(
    tmp_path: Path, artifact: Artifact, records: list[Sent], account: Account, failing: int
) -> None:
    config = make_config(tmp_path)

    def before(number: int, _: Outbox, __: Mapping[int, int]) -> None:
        if number == failing:
            raise TransactionError("the broker went away")

    broker = WatchedBroker(make_broker(config), before=before)
    publish(broker, config, records)
    metrics = run_through(config, artifact, broker, account.outcomes.total())
    assert total(metrics, "detector_ticks_total") == account.outcomes.total()
    assert by_label(metrics, "detector_ticks_rejected_total", "reason") == Counter(
        reason for record in records for _, reason in record.refused
    )
    assert broker.last_worker is not None
    assert by_label(metrics, "detector_transactions_total", "outcome") == {
        "aborted": 1, "committed": broker.last_worker.commits - 1,
    }  # fmt: skip
    ids = alert_ids(broker, config)
    assert len(ids) == len(set(ids)) > 0
    assert total(metrics, "detector_alerts_total") == len(ids)
    assert sorted(buried(broker, config)) == [
        (offset, index) for offset, record in enumerate(records) for index, _ in record.refused
    ]
    assert total(metrics, "detector_ready") == 0  # it has ended


def test_scores_that_were_not_committed_are_in_no_histogram(
    tmp_path: Path, artifact: Artifact, records: list[Sent], account: Account
) -> None:
    config = make_config(tmp_path)

    def before(number: int, _: Outbox, __: Mapping[int, int]) -> None:
        if number == 5:
            raise TransactionError("the broker went away")

    broker = WatchedBroker(make_broker(config), before=before)
    publish(broker, config, records)
    metrics = run_through(config, artifact, broker, account.outcomes.total())
    scored = total(metrics, "detector_windows_scored_total")
    assert total(metrics, "detector_score_count") == scored
    assert total(metrics, "detector_batch_windows_sum") == scored


@pytest.mark.parametrize("failing", [1, 4])
def test_a_commit_that_succeeded_although_it_was_reported_failed_is_counted_once_and_not_done_again(
    tmp_path: Path, artifact: Artifact, records: list[Sent], account: Account, failing: int
) -> None:
    config = make_config(tmp_path)
    moved: list[int] = []
    position = 0

    def after(number: int, _: Outbox, positions: Mapping[int, int]) -> None:
        nonlocal position
        begin, position = position, positions[0]
        if number == failing:
            moved.append(position - begin)
            raise TransactionError("the answer was lost")

    broker = WatchedBroker(make_broker(config), after=after)
    publish(broker, config, records)
    with running(config, artifact, broker) as run:
        wait_for(lambda: position == len(records), "everything is committed")
        metrics = run.stop()
    assert len(moved) == 1
    assert moved[0] > 0
    assert broker.last_worker is not None
    assert by_label(metrics, "detector_transactions_total", "outcome") == {
        "committed": broker.last_worker.commits
    }
    assert by_label(metrics, "detector_ticks_total", "outcome") == dict(account.outcomes)
    assert total(metrics, "detector_score_count") == account.outcomes["scored"]
    ids = alert_ids(broker, config)
    assert len(ids) == len(set(ids)) == total(metrics, "detector_alerts_total") > 0
    assert sorted(buried(broker, config)) == [
        (offset, index) for offset, record in enumerate(records) for index, _ in record.refused
    ]


def test_failures_with_successes_between_them_do_not_end_the_daemon(
    tmp_path: Path, artifact: Artifact, records: list[Sent], account: Account
) -> None:
    config = make_config(tmp_path, delivery={"max_poll_records": 32})

    def before(number: int, _: Outbox, positions: Mapping[int, int]) -> None:
        if number % 2 and max(positions.values()) < len(records):
            raise TransactionError("every other time")

    broker = WatchedBroker(make_broker(config), before=before)
    publish(broker, config, records)
    metrics = run_through(config, artifact, broker, account.outcomes.total())
    assert total(metrics, "detector_ticks_total") == account.outcomes.total()
    assert by_label(metrics, "detector_transactions_total", "outcome")["aborted"] > 5


def test_a_membership_that_is_lost_again_and_again_ends_nothing_and_is_no_transaction(
    tmp_path: Path, artifact: Artifact, records: list[Sent], account: Account
) -> None:
    config = make_config(tmp_path, delivery={"max_poll_records": 32})

    def before(number: int, _: Outbox, __: Mapping[int, int]) -> None:
        if number <= 8:
            raise TransactionError("the group membership was lost", begun=False)

    broker = WatchedBroker(make_broker(config), before=before)
    publish(broker, config, records)
    metrics = run_through(config, artifact, broker, account.outcomes.total())
    assert total(metrics, "detector_ticks_total") == account.outcomes.total()
    outcomes = by_label(metrics, "detector_transactions_total", "outcome")
    assert outcomes.keys() == {"committed"}


def test_a_last_transaction_that_fails_is_no_good_end(
    tmp_path: Path, artifact: Artifact, records: list[Sent], account: Account
) -> None:
    config = make_config(tmp_path)
    failing = threading.Event()

    def before(_: int, __: Outbox, ___: Mapping[int, int]) -> None:
        if failing.is_set():
            raise TransactionError("the last one")

    broker = WatchedBroker(make_broker(config), before=before)
    publish(broker, config, records)
    with running(config, artifact, broker) as run:
        run.wait_accounted(account.outcomes.total())
        failing.set()
        with pytest.raises(TransactionError, match="the last one"):
            run.stop()


def test_the_daemon_gives_up_when_no_transaction_succeeds(
    tmp_path: Path, artifact: Artifact, records: list[Sent]
) -> None:
    config = make_config(tmp_path)

    def before(_: int, __: Outbox, ___: Mapping[int, int]) -> None:
        raise TransactionError("the broker refuses")

    broker = WatchedBroker(make_broker(config), before=before)
    publish(broker, config, records)
    with running(config, artifact, broker) as run:
        wait_for(lambda: run.failure is not None, "the daemon gives up")
    assert isinstance(run.failure, TransactionError)
    assert broker.last_worker is not None
    assert 1 < broker.last_worker.commits <= 10
    assert total(run.metrics(), "detector_ticks_total") == 0
    assert total(run.metrics(), "detector_ready") == 0
    assert alert_ids(broker, config) == []
    assert buried(broker, config) == []
    worker = make_broker(config).worker(topics(config))  # it has let go of the file
    worker.open(no_release)
    worker.close()


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
        wait_for(lambda: run.daemon.ready() is None, "the daemon is ready")
        assert run.daemon.live() is None
        wait_for(lambda: total(run.metrics(), "detector_ready") == 1, "the gauge follows")
        worker = broker.last_worker
        assert worker is not None
        wait_for(lambda: worker.commits > 0, "it commits where it begins")
        rounds = worker.polls
        wait_for(lambda: worker.polls > rounds + 20, "the loop goes round")
        facts = dict(run.daemon.facts(broker.describe()))
        assert facts["model"] == artifact.version
        assert facts["newest tick"] == "none yet"
        run.stop()
    assert worker.commits == 1
    assert run.daemon.ready() == "not joined, or state not restored yet"


def test_a_worker_that_cannot_open_ends_the_run(tmp_path: Path, artifact: Artifact) -> None:
    config = make_config(tmp_path)
    holder = make_broker(config).worker(topics(config))
    holder.open(no_release)
    try:
        with pytest.raises(BrokerError, match="transport: kafka"):
            make_daemon(config, artifact, make_broker(config), CollectorRegistry()).run()
    finally:
        holder.close()
