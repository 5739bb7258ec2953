"""A refusal that a process outlives is counted, so that Prometheus tells of it."""

from __future__ import annotations

import threading
from typing import NoReturn

from prometheus_client import CollectorRegistry

from detector.bridge.delivery import Delivery
from detector.bridge.metrics import BridgeMetrics
from detector.bridge.reports import Reports
from detector.errors import AccessError, BrokerError
from detector.service.commands import CommandThread
from detector.transport.broker import Follower
from tests.processes import wait_for


def refuse() -> NoReturn:
    raise AccessError("may not Read the topic commands")


def test_a_worker_that_may_not_follow_the_commands_counts_it_and_goes_on() -> None:
    refused: list[None] = []
    commands = CommandThread(refuse, lambda: refused.append(None))
    commands.open()
    wait_for(lambda: len(refused) > 0, "it is counted")
    assert commands.news() == ([], 0)
    commands.close()


class Nothing:
    """Is never reached."""

    def follow(self, follower: Follower) -> None:
        raise AssertionError

    def close(self) -> None: ...


def test_a_bridge_tells_a_refusal_from_a_broker_that_is_away() -> None:
    registry, stop = CollectorRegistry(), threading.Event()
    reports = Reports("webhook", BridgeMetrics(registry, ("webhook",)))
    answers: list[BrokerError] = [BrokerError("nobody is there"), AccessError("wrong password")]

    def open_follower() -> Follower:
        if len(answers) == 1:
            stop.set()
        raise answers.pop(0)

    delivery = Delivery(
        Nothing(), open_follower, reports, open_s=1.0, stop=stop, ended=lambda: None
    )
    delivery.start()
    assert delivery.join(60.0)
    for name, times in (("broker_errors", 2), ("access_refused", 1)):
        found = registry.get_sample_value(f"detector_bridge_{name}_total", {"target": "webhook"})
        assert found == times
