"""Commits that fail: nothing is done twice, and the daemon knows when to give up."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import pytest

from detector.errors import BrokerError, TransactionError
from detector.model.directory import Artifact
from detector.transport.broker import (
    Outbox,
)
from detector.transport.configured import make_broker, topics
from tests.processes import by_label, total, wait_for
from tests.records import Account, Sent
from tests.service.watched import (
    Running,
    WatchedBroker,
    alert_ids,
    buried,
    make_config,
    no_release,
    publish,
    run_through,
    running,
)

#: Of the loop between two rounds, at most; a pause after a failure is longer.
A_REST_S = 0.01


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
        run[0].thread.join(120)
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
    tmp_path: Path,
    artifact: Artifact,
    records: list[Sent],
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """So often that a pause which doubles each time would be no number any more."""
    monkeypatch.setattr("detector.service.loop._FIRST_PAUSE_S", 1e-9)
    monkeypatch.setattr("detector.service.loop._LONGEST_PAUSE_S", 1e-9)
    config = make_config(tmp_path, delivery={"max_poll_records": 32, "commit_interval_ms": 1})

    def before(number: int, _: Outbox, __: Mapping[int, int]) -> None:
        if number <= 1030:
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


# -- a broker that is in trouble


def test_each_failure_in_a_row_is_followed_by_a_longer_pause(
    tmp_path: Path, artifact: Artifact, records: list[Sent], account: Account
) -> None:
    """So that a broker in trouble is not asked ten times a second; after a success the first pause
    is short again."""
    config = make_config(tmp_path, delivery={"max_poll_records": 32})
    failing = {1, 2, 3, 4, 6}
    pauses_s: list[float] = [0.0]

    def before(number: int, _: Outbox, __: Mapping[int, int]) -> None:
        pauses_s.append(0.0)
        if number in failing:
            raise TransactionError("the broker is in trouble")

    def sleep(seconds: float) -> None:
        if seconds > A_REST_S:
            pauses_s[-1] += seconds

    broker = WatchedBroker(make_broker(config), before=before)
    publish(broker, config, records)
    run = Running(config, artifact, broker)
    run.daemon._sleep = sleep
    run.thread.start()
    run.wait_accounted(account.outcomes.total())
    run.stop()
    after = pauses_s[1:]
    assert all(later > 1.5 * earlier for earlier, later in pairwise(after[:4]))
    assert after[4] == 0
    assert after[5] == pytest.approx(after[0])
    assert sum(after[6:]) == 0


def test_a_stop_is_heard_in_a_pause(
    tmp_path: Path, artifact: Artifact, records: list[Sent]
) -> None:
    config = make_config(tmp_path)
    slept = threading.Event()

    def before(number: int, _: Outbox, __: Mapping[int, int]) -> None:
        if number == 1:
            raise TransactionError("the broker is in trouble")

    def sleep(seconds: float) -> None:
        if seconds <= A_REST_S:
            return
        run.daemon.stop()
        assert not slept.is_set(), "told to stop it sleeps no more"
        slept.set()

    broker = WatchedBroker(make_broker(config), before=before)
    publish(broker, config, records)
    run = Running(config, artifact, broker)
    run.daemon._sleep = sleep
    run.thread.start()
    run.thread.join(120)
    assert slept.is_set()
    assert run.failure is None
    assert not run.thread.is_alive()


def test_a_broker_that_does_not_answer_a_gauge_ends_nothing(
    tmp_path: Path,
    artifact: Artifact,
    records: list[Sent],
    account: Account,
    caplog: pytest.LogCaptureFixture,
) -> None:
    config = make_config(tmp_path)
    broker = WatchedBroker(make_broker(config))
    publish(broker, config, records)
    run = Running(config, artifact, broker)
    assert broker.last_worker is not None
    asked: list[None] = []

    def lag() -> dict[int, int]:
        asked.append(None)
        raise BrokerError("no answer")

    broker.last_worker.lag = lag  # type: ignore[method-assign]
    with caplog.at_level("INFO", logger="detector"):
        run.thread.start()
        run.wait_accounted(account.outcomes.total())
        wait_for(lambda: len(asked) > 2, "it was asked again and again")
        metrics = run.stop()
    assert total(metrics, "detector_ticks_total") == account.outcomes.total()
    assert total(metrics, "detector_active_series") > 0
    assert "the broker does not say how much waits" in caplog.messages
