"""The service manager hears of the loop: ready once it is, a beat as long as it goes round."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from detector.config import Config, supervision
from detector.core.records import RecordBlock
from detector.errors import TransactionError
from detector.model.directory import Artifact
from detector.service.supervisor import Supervision, Supervisor
from detector.transport.broker import Broker, Outbox, Topics, Worker
from detector.transport.configured import make_broker, prepare_topics
from tests.processes import RunningDaemon, wait_for, write_config
from tests.records import Account, Sent
from tests.service.manager import Manager
from tests.service.watched import (
    WatchedBroker,
    WatchedWorker,
    make_config,
    nothing,
    publish,
    running,
)

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="systemd is of Linux")

#: Above any pause of a busy machine: nothing here ends a process by it.
WATCHDOG_S = 2.0
FOR_EVER = str(2**64 - 1)


@pytest.fixture
def manager(tmp_path: Path) -> Manager:
    return Manager(tmp_path / "notify")


# -- what is said


def test_a_beat_is_due_four_times_in_the_time_of_the_watchdog(manager: Manager) -> None:
    with manager:
        told = Supervisor(Supervision(manager.address, 8_000_000))
        assert told.due(100.0)
        told.beat(100.0, "well")
        assert not told.due(101.9)
        assert told.due(102.0)
        (words,) = manager.hear()
        assert words["WATCHDOG"] == "1"
        assert words["STATUS"] == "well"
        told.close()


def test_a_start_is_given_more_time_with_each_beat_until_it_has_ended(manager: Manager) -> None:
    with manager:
        told = Supervisor(Supervision(manager.address, 8_000_000))
        told.beat(0.0, "restoring")
        told.ready()
        told.ready()
        told.beat(2.0, "ready")
        first, ready, second = manager.hear()
        assert int(first["EXTEND_TIMEOUT_USEC"]) > 60_000_000
        assert ready == {"READY": "1"}
        assert "EXTEND_TIMEOUT_USEC" not in second
        told.close()


def test_a_watchdog_that_was_lifted_is_back_with_the_next_round(manager: Manager) -> None:
    with manager:
        told = Supervisor(Supervision(manager.address, 8_000_000))
        told.beat(0.0, "")
        told.lift()
        assert told.due(0.1)
        told.beat(0.1, "")
        _, lifted, back = manager.hear()
        assert lifted == {"WATCHDOG_USEC": FOR_EVER}
        assert back["WATCHDOG_USEC"] == "8000000"
        assert back["WATCHDOG"] == "1"
        told.close()


def test_a_manager_that_does_not_read_holds_nobody_up_and_hears_the_rest_later(
    manager: Manager,
) -> None:
    with manager:
        told = Supervisor(Supervision(manager.address, 8_000_000))
        for number in range(10_000):  # a socket takes some hundreds
            told.beat(float(number), "x" * 1000)
        told.ready()
        told.stopping()
        manager.hear()
        assert not manager.said("READY")
        told.beat(10_001.0, "again")
        manager.wait_said("READY")
        told.close()


def test_a_manager_that_is_gone_harms_nobody(tmp_path: Path) -> None:
    told = Supervisor(Supervision(str(tmp_path / "nobody"), 8_000_000))
    told.ready()
    told.beat(0.0, "")
    told.stopping()
    told.close()
    told.beat(1.0, "")


def test_an_abstract_name_is_found() -> None:
    with Manager(f"@detector-test-{os.getpid()}") as manager:
        told = Supervisor(Supervision(manager.address))
        told.ready()
        manager.wait_said("READY")
        told.close()


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, (None, None)),
        ({"NOTIFY_SOCKET": "/run/n"}, ("/run/n", None)),
        ({"NOTIFY_SOCKET": "@n", "WATCHDOG_USEC": "3000000"}, ("@n", 3_000_000)),
        ({"NOTIFY_SOCKET": "vsock:2:1234"}, (None, None)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "0"}, ("/n", None)),
        ({"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": "1"}, ("/n", None)),
        (
            {"NOTIFY_SOCKET": "/n", "WATCHDOG_USEC": "5", "WATCHDOG_PID": str(os.getpid())},
            ("/n", 5),
        ),
    ],
)
def test_the_environment_says_who_listens(
    environment: Mapping[str, str], expected: tuple[str | None, int | None]
) -> None:
    assert supervision(environment) == expected


# -- the loop in a thread


def ticks(account: Account, number: int) -> list[Sent]:
    return [Sent(b"a", account.tick("a", 1_700_000_000.0 + i, float(i % 7))) for i in range(number)]


class Gate:
    """A loop's poll that waits until it is opened."""

    def __init__(self) -> None:
        self.closed, self.reached, self.opened = False, threading.Event(), threading.Event()

    def pass_through(self) -> None:
        if self.closed:
            self.reached.set()
            self.opened.wait(120)


class GatedWorker(WatchedWorker):
    def __init__(self, inner: Worker, gate: Gate) -> None:
        super().__init__(inner, nothing, nothing)
        self._gate = gate

    def poll(self, *, max_records: int, max_bytes: int, timeout_s: float) -> list[RecordBlock]:
        self._gate.pass_through()
        return super().poll(max_records=max_records, max_bytes=max_bytes, timeout_s=timeout_s)


class GatedBroker(WatchedBroker):
    def __init__(self, inner: Broker, gate: Gate) -> None:
        super().__init__(inner)
        self._gate = gate

    def worker(self, topics: Topics) -> WatchedWorker:
        return GatedWorker(super().worker(topics), self._gate)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    return make_config(tmp_path)


def test_the_watchdog_is_not_fed_while_the_loop_stands_still(
    manager: Manager,
    config: Config,
    artifact: Artifact,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process lives, its other threads run: the loop alone stands."""
    for name, value in manager.environment(WATCHDOG_S).items():
        monkeypatch.setenv(name, value)
    gate = Gate()
    broker = GatedBroker(make_broker(config), gate)
    prepare_topics(config, broker, check_state=True)
    with manager, running(config, artifact, broker) as run:
        manager.wait_said("READY")
        manager.wait_beats(3)
        gate.closed = True
        try:
            assert gate.reached.wait(120)
            manager.hear()
            before = manager.beats()
            time.sleep(1.5 * WATCHDOG_S)  # three beats and more would have come
            manager.hear()
            assert manager.beats() == before
        finally:
            gate.closed = False
            gate.opened.set()
        manager.wait_beats(2)
        run.stop()
        assert manager.said("STOPPING")


def test_a_failed_transaction_lifts_the_watchdog_until_the_loop_goes_on(
    manager: Manager,
    config: Config,
    artifact: Artifact,
    account: Account,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in manager.environment(WATCHDOG_S).items():
        monkeypatch.setenv(name, value)

    def fail_once(number: int, outbox: Outbox, positions: Mapping[int, int]) -> None:
        if number == 1:
            raise TransactionError("refused", begun=True)

    broker = WatchedBroker(make_broker(config), before=fail_once)
    prepare_topics(config, broker, check_state=True)
    publish(broker, config, ticks(account, 50))
    with manager, running(config, artifact, broker) as run:
        run.wait_accounted(50)
        manager.wait_said("WATCHDOG_USEC", FOR_EVER)
        manager.wait_said("WATCHDOG_USEC", str(int(WATCHDOG_S * 1e6)))
        run.stop()


# -- the daemon as a process


def test_a_daemon_says_ready_when_it_is_and_stopping_when_told(
    manager: Manager, tmp_path: Path, artifact: Artifact
) -> None:
    config = write_config(
        tmp_path / "config.yaml",
        {
            "features": {"value": "value"},
            "window": {"length_ticks": 8, "stride_ticks": 2, "max_gap_s": 60.0},
            "threshold": {"method": "fixed", "value": 1.0},
            "embedded": {"path": str(tmp_path / "broker.sqlite")},
            "http": {"port": 0},
        },
    )
    with (
        manager,
        RunningDaemon(
            config, artifact.path, cwd=tmp_path, environment=manager.environment(WATCHDOG_S)
        ) as daemon,
    ):
        manager.wait_said("READY")
        daemon.wait_ready()
        assert daemon.get("/readyz")[0] == 200
        manager.wait_beats(3)
        wait_for(
            lambda: (
                bool(manager.hear())
                and "ready: 1 partitions" in manager.words[-1].get("STATUS", "")
            ),
            "a status",
        )
        assert not manager.said("STOPPING")
        daemon.signal(signal.SIGSTOP)
        status = Path(f"/proc/{daemon.pid}/status")
        wait_for(lambda: "\nState:\tT" in status.read_text(), "it stands")
        manager.hear()
        before = manager.beats()
        time.sleep(WATCHDOG_S)
        manager.hear()
        assert manager.beats() == before
        daemon.signal(signal.SIGCONT)
        manager.wait_beats(1)
        assert daemon.terminate() == 0
        assert manager.said("STOPPING")
        assert sum("READY" in words for words in manager.words) == 1
