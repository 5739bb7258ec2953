"""While a transaction is under way the loop goes on: with what, how far, and what becomes of it."""

from __future__ import annotations

import subprocess
import sys
from itertools import cycle, pairwise
from pathlib import Path

import pytest

from detector.core.alerts import State
from detector.core.cloudevents import decode_alert
from detector.core.pipeline import BatchResult
from detector.core.state import decode_watermark
from detector.core.ticks import TickBatch
from detector.errors import EXIT_HUNG
from tests.core.reference import Tick
from tests.core.streams import START_NS
from tests.processes import by_label, total
from tests.service.driving import TOPICS, Stage, WitnessedPipeline, messages_of
from tests.service.scripted import DrivenWorker, Lasting, Trouble
from tests.service.test_crashes import assert_golden

FOR_LONG = Lasting(looks=10**9, early=False)


def alerting(ticks: int) -> list[Tick]:
    """Alerts open and are resolved, of both series, in every 20 ticks."""
    found = []
    for i in range(ticks):
        value = 500.0 if i % 20 in (10, 11) else 1.0
        found.append(Tick("ab"[i % 2], START_NS + i * 10**8, (value, value + 1), i))
    return found


def quiet(ticks: int) -> list[Tick]:
    return [Tick("ab"[i % 2], START_NS + i * 10**8, (1.0, 2.0), i) for i in range(ticks)]


def committed(worker: DrivenWorker) -> list[int]:
    """Where its transactions moved the partition."""
    return [one.position for one in worker.made]


def test_ticks_are_processed_while_a_transaction_is_under_way_and_are_the_next_ones(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, commit_interval_s=0.1)
    stage.publish(messages_of(quiet(80)))
    stage.run(sizes=[2], pauses_s=[0.05], lasting=[Lasting(looks=3, early=False)])
    (worker,) = stage.workers
    lasted = [(one.ended or 0) - one.began for one in worker.made[:-1]]
    assert set(lasted[1:]) == {3}
    steps = [b - a for a, b in pairwise(committed(worker)) if b < 80]
    assert len(steps) > 5
    assert min(steps[1:]) >= 6
    assert_golden(stage)


def test_an_alert_begins_a_transaction_as_soon_as_the_one_under_way_has_ended(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, commit_interval_s=1000.0)
    stage.publish(messages_of(alerting(200)))
    stage.run(sizes=[2], pauses_s=[0.001], lasting=[Lasting(looks=4, early=False)])
    (worker,) = stage.workers
    alerts = [one for one in worker.made if one.alerts]
    assert len(alerts) > 5
    for one, following in pairwise(worker.made[:-1]):
        assert one.ended is not None
        assert following.began <= one.ended + 8, "the next alert is as many polls away at most"
    assert max(one.alerts for one in alerts) > 1, "those of several polls share one"
    assert_golden(stage)


def test_that_an_alert_is_over_waits_a_little_for_one_that_opens_and_never_long(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, commit_interval_s=1000.0, interval_s=1000.0)
    values = [500.0 if i == 10 else 1.0 for i in range(60)]
    ticks = [Tick("a", START_NS + i * 10**8, (v, v + 1), i) for i, v in enumerate(values)]
    stage.publish(messages_of(ticks))
    stage.run(sizes=[1], pauses_s=[0.01])
    (worker,) = stage.workers
    alerts = [one for one in worker.made if one.alerts]
    records = stage.records(TOPICS.alerts)
    told = [decode_alert(r.value or b"").alert for r in records]
    assert [alert.state for alert in told] == [State.OPENED, State.RESOLVED]
    waited = [one.position - 1 - a.offset for one, a in zip(alerts, told, strict=True)]
    assert waited[0] == 0
    assert 1 <= waited[1] <= 10, "0.1 s after the work began that it is part of"
    assert_golden(stage)


def test_a_round_is_bounded_in_ticks_however_many_a_record_holds(tmp_path: Path) -> None:
    """The first poll cannot know: what it brings is processed part by part."""
    stage = Stage(tmp_path, max_ticks=32)
    ticks = [
        Tick(tick.series, tick.time_ns, tick.values, tick.offset, index=i % 20)
        for i, tick in enumerate(alerting(600))
    ]
    stage.publish(messages_of(ticks))
    stage.run()
    (worker,), (witness,) = stage.workers, stage.witnesses
    assert worker.asked[0] == 32
    assert 1 in worker.asked[1:], "two records are more than 32 ticks"
    assert max(witness.sizes) == 32
    assert_golden(stage)


@pytest.mark.parametrize("size", [2, 64])
def test_where_no_more_waits_the_loop_rests_as_long_as_it_has_worked_but_never_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """After a poll of 64 records, which are all that was asked for, more waits."""
    stage, works_s, rested = Stage(tmp_path), cycle([0.0005, 0.03]), list[float]()
    process, sleep = WitnessedPipeline.process, stage.clock.sleep

    def working(self: WitnessedPipeline, batch: TickBatch) -> BatchResult:
        sleep(next(works_s))
        return process(self, batch)

    def resting(seconds: float) -> None:
        rested.append(seconds)
        sleep(seconds)

    monkeypatch.setattr(WitnessedPipeline, "process", working)
    monkeypatch.setattr(stage.clock, "sleep", resting)
    messages = messages_of(quiet(192))
    stage.publish(messages)
    stage.run(sizes=[size])
    polls, full = -(-len(messages) // size), len(messages) // 64 if size == 64 else 0
    assert len(rested) == polls - full
    assert rested == pytest.approx(([0.0005, 0.002] * polls)[full:polls])
    assert_golden(stage)


def test_a_loop_that_is_far_ahead_of_its_transaction_waits_for_it(tmp_path: Path) -> None:
    """All that is done meanwhile is done again should it fail."""
    stage = Stage(tmp_path, commit_interval_s=0.1)
    stage.publish(messages_of(quiet(100)))
    stage.run(sizes=[1], pauses_s=[0.1], lasting=[FOR_LONG])
    (worker,) = stage.workers
    steps = [after - before for before, after in pairwise(committed(worker))]
    assert max(steps) == 7  # 0.1 s, and 0.5 s
    assert_golden(stage)


def test_a_loop_waits_for_its_transaction_when_it_has_done_a_full_poll_beside_it(
    tmp_path: Path,
) -> None:
    stage = Stage(tmp_path, commit_interval_s=10.0, most_ahead=20)
    stage.publish(messages_of(alerting(400)))
    stage.run(sizes=[8], pauses_s=[0.001], lasting=[FOR_LONG])
    (worker,) = stage.workers
    steps = [after - before for before, after in pairwise(committed(worker))]
    assert max(steps) == 24
    assert_golden(stage)


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("where", ["before", "after"])
def test_a_transaction_that_fails_drops_what_was_done_beside_it_and_counts_it_once(
    tmp_path: Path, where: str, early: bool
) -> None:
    stage = Stage(tmp_path, commit_interval_s=0.1, interval_s=0.3)
    stage.publish(messages_of(alerting(150)))
    metrics = stage.run(
        Trouble(where, 4, fatal=False), sizes=[3], pauses_s=[0.02], lasting=[Lasting(4, early)]
    )
    (worker,) = stage.workers
    assert_golden(stage)
    assert total(metrics, "detector_ticks_total") == 150 + len(stage.golden().letters)
    assert total(metrics, "detector_alerts_total") == len(stage.golden().alerts)
    outcomes = by_label(metrics, "detector_transactions_total", "outcome")
    good = len(worker.made) - (where == "before")
    assert outcomes == {"committed": good} | ({"aborted": 1} if where == "before" else {})
    failed = worker.made[3]
    assert failed.ended is not None
    assert failed.ended > failed.began, "work was done beside it"


@pytest.mark.parametrize("early", [True, False])
@pytest.mark.parametrize("number", [5, 6, 7, 8])
def test_a_partition_that_is_asked_back_takes_everything_with_it(
    tmp_path: Path, number: int, early: bool
) -> None:
    """What is under way, what was done beside it, and its state as a whole."""
    stage = Stage(tmp_path, commit_interval_s=0.05, interval_s=1000.0)
    stage.publish(messages_of(quiet(100)))
    stage.run(
        Trouble("release", number, fatal=False),
        Trouble("poll", number + 1),
        sizes=[4],
        pauses_s=[0.05],
        lasting=[Lasting(50, early)],
    )
    (worker,) = stage.workers
    mark = decode_watermark(stage.tables()[b"watermark"], "state/0")
    assert mark.committed == mark.needed_from == committed(worker)[-1] > 0
    metrics = stage.run()
    assert total(metrics, "detector_replayed_ticks_total") == 0
    assert_golden(stage)


def test_a_partition_that_is_gone_and_comes_back_waits_for_the_transaction_that_moves_it(
    tmp_path: Path,
) -> None:
    """Else it would be restored from what the transaction is about to replace."""
    stage = Stage(tmp_path, commit_interval_s=0.1, interval_s=1000.0)
    stage.publish(messages_of(alerting(200)))
    loses = [Trouble("lose", number, fatal=False) for number in range(6, 60, 7)]
    metrics = stage.run(*loses, sizes=[3], pauses_s=[0.03], lasting=[FOR_LONG])
    assert_golden(stage)
    assert total(metrics, "detector_alerts_total") == len(stage.golden().alerts)
    assert total(metrics, "detector_ticks_total") == 200 + len(stage.golden().letters)
    outcomes = by_label(metrics, "detector_transactions_total", "outcome")
    assert outcomes.keys() == {"committed"}


def test_a_stop_waits_for_what_is_under_way_and_then_writes_everything(tmp_path: Path) -> None:
    stage = Stage(tmp_path, commit_interval_s=0.1, interval_s=1000.0)
    stage.publish(messages_of(alerting(60)))
    stage.run(sizes=[7], pauses_s=[0.05], lasting=[FOR_LONG])
    assert_golden(stage)
    assert total(stage.run(), "detector_replayed_ticks_total") == 0


def test_a_transaction_that_was_under_way_at_a_stop_may_fail(tmp_path: Path) -> None:
    """It was no last one; those that are would end the process with an error."""
    stage = Stage(tmp_path, commit_interval_s=0.05)
    stage.publish(messages_of(quiet(30)))
    stage.run(Trouble("before", 1, fatal=False), sizes=[2], pauses_s=[0.01], lasting=[FOR_LONG])
    assert stage.bad_ends == 0
    stage.run(Trouble("before", 2, fatal=False), sizes=[2], pauses_s=[0.01], lasting=[FOR_LONG])
    assert stage.bad_ends == 1
    stage.run()
    assert_golden(stage)


def test_a_transaction_that_never_ends_ends_the_process_although_its_rounds_do(
    tmp_path: Path,
) -> None:
    """Nothing is to be read, so that the loop has no reason to wait for it."""
    program = f"""
from pathlib import Path
from detector.model.directory import load_artifact
from tests.artifacts import make_artifact
from tests.service.watched import LENGTH, Running, WatchedBroker, WatchedWorker, make_config
from detector.transport.configured import make_broker

WatchedWorker.end_commit = lambda self, *, timeout_s: None
directory = Path({str(tmp_path)!r})
config = make_config(directory, delivery={{"hang_timeout_s": 1.0}})
artifact = make_artifact(directory / "model", length=LENGTH)
run = Running(config, artifact, WatchedBroker(make_broker(config)))
run.thread.start()
run.thread.join(60)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=100, check=False, capture_output=True, text=True
    )
    assert done.returncode == EXIT_HUNG, done.stderr
