"""What is delivered within a short time is committed together, and nothing waits for a commit that
a target holds up."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from detector.bridge.each_event import COMMIT_EVERY_S, EachEvent
from detector.bridge.events import Event
from detector.bridge.metrics import BridgeMetrics
from detector.bridge.reports import Reports
from detector.bridge.verdicts import TAKEN, Attempt, Verdict
from detector.core.records import Message, Record
from tests.bridge.events import opened, resolved
from tests.bridge.running import RunningBridge, embedded
from tests.bridge.targets import Target
from tests.service.manager import Manager


@dataclass
class Scripted:
    """A follower of one partition whose records come in one poll; stopped when all are read."""

    records: list[Record]
    stop: threading.Event
    commits: list[tuple[list[Message], dict[int, int]]] = field(default_factory=list)
    fresh: bool = False
    lost: int = 0

    def table(self) -> Mapping[bytes, bytes]:
        return {}

    def poll(self, *, timeout_s: float) -> list[Record]:
        found, self.records = self.records, []
        if not found:
            self.stop.set()
        return found

    def positions(self) -> dict[int, int]:
        return {0: 0}

    def ends(self) -> dict[int, int]:
        return {0: 0}

    def commit(self, kept: Sequence[Message], positions: Mapping[int, int]) -> None:
        self.commits.append((list(kept), dict(positions)))

    def close(self) -> None: ...


class Clocked:
    """Takes each event, in so many seconds by a clock of its own; the first fails once if asked."""

    def __init__(self, follower: Scripted, takes_s: float, fails: int | None) -> None:
        self.now_s, self._follower = 100.0, follower
        self._takes_s, self._fails = takes_s, fails
        self.committed_before: list[int] = []

    def send(self, event: Event) -> Attempt:
        self.now_s += self._takes_s
        done = [positions[0] for _, positions in self._follower.commits]
        self.committed_before.append(max(done, default=0))
        if self._fails == len(self.committed_before) - 1:
            return Attempt(Verdict.FAILED, "down")
        return TAKEN

    def close(self) -> None: ...


def told(
    values: Sequence[bytes], takes_s: float, fails: int | None = None
) -> tuple[Scripted, Clocked]:
    stop = threading.Event()
    records = [Record("alerts", 0, n, 0, None, value, ()) for n, value in enumerate(values)]
    follower = Scripted(records, stop)
    sender = Clocked(follower, takes_s, fails)
    reports = Reports("webhook", BridgeMetrics(CollectorRegistry(), ("webhook",)))
    feed = EachEvent(
        sender,
        reports,
        attempt_s=1.0,
        longest_wait_s=0.01,
        give_up_after_s=None,
        stop=stop,
        monotonic_s=lambda: sender.now_s,
    )
    feed.follow(follower)
    return follower, sender


def test_what_is_taken_within_the_time_of_a_commit_shares_one() -> None:
    values = [one for n in range(20) for one in (opened(f"s{n}"), resolved(f"s{n}"))]
    follower, _ = told(values, COMMIT_EVERY_S / 10)
    assert len(follower.commits) <= 40 / 10 + 2
    assert [positions[0] for _, positions in follower.commits][-1] == 40
    kept = [m for messages, _ in follower.commits for m in messages]
    assert [m.value is None for m in kept] == [False, True] * 20  # opened, and resolved again


def test_all_that_was_taken_is_committed_before_a_target_that_is_down_is_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def waiting(self: EachEvent, seconds: float, follower: object) -> None:
        """The clock does not move by itself."""

    monkeypatch.setattr(EachEvent, "_wait", waiting)
    follower, sender = told([opened(f"s{n}") for n in range(5)], 0.001, fails=3)
    assert sender.committed_before[4] == 3  # the second attempt of the fourth
    assert [positions[0] for _, positions in follower.commits][-1] == 5


def test_a_service_manager_is_told_when_targets_are_followed_and_as_long_as_they_move(
    tmp_path: Path,
) -> None:
    topic = embedded(tmp_path / "topic")
    with Manager(tmp_path / "notify") as manager, Target() as target:
        environment = manager.environment(8.0)
        with RunningBridge(topic.path, "--webhook", target.url, environment=environment) as bridge:
            manager.wait_said("READY")
            manager.wait_beats(2)
            assert bridge.terminate() == 0
        assert manager.said("STOPPING")
