"""Against a real Alertmanager: alerts open there, are grouped, and resolve."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.bridge.alertmanager_server import AlertmanagerServer, alertmanager_program
from tests.bridge.events import escalated, identity, opened, resolved
from tests.bridge.running import RunningBridge, embedded, over_kafka
from tests.bridge.targets import Target, free_port
from tests.processes import total, wait_for


@pytest.fixture
def pager() -> Iterator[Target]:
    """Whom Alertmanager tells."""
    alertmanager_program()
    with Target() as target:
        yield target


@pytest.fixture
def server(tmp_path: Path, pager: Target) -> Iterator[AlertmanagerServer]:
    with AlertmanagerServer(tmp_path / "am", port=free_port(), pages=pager.url) as server:
        yield server


def told(pager: Target, status: str) -> dict[tuple[str, str], dict[str, Any]]:
    """What was paged with that status, by series and severity."""
    return {
        (alert["labels"]["series"], alert["labels"]["severity"]): alert
        for request in pager.taken()
        for alert in request.json()["alerts"]
        if alert["status"] == status
    }


def test_an_alert_opens_there_is_grouped_turns_critical_and_resolves(
    tmp_path: Path, server: AlertmanagerServer, pager: Target
) -> None:
    topic = embedded(tmp_path / "t", link="https://detector.example", labels={"site": "north"})
    topic.publish(opened("past", episode=3), resolved("past", episode=3), opened("still"))
    with RunningBridge(topic.path, "--to-alertmanager", server.url) as bridge:
        bridge.wait_ready()
        wait_for(lambda: server.series() == {("still", "warning")}, "what is open is told")
        topic.publish(opened("a"), opened("b", kind="silence"), escalated("a"))
        wanted = {("still", "warning"), ("a", "warning"), ("a", "critical"), ("b", "warning")}
        wait_for(lambda: server.series() == wanted, "all that opened is there")
        found = {(a["labels"]["series"], a["labels"]["severity"]): a for a in server.alerts()}
        one = found["a", "critical"]
        assert one["labels"] == {
            "alertname": "DetectorAnomaly", "series": "a", "kind": "reconstruction_error",
            "severity": "critical", "site": "north",
        }  # fmt: skip
        assert one["annotations"]["summary"] == "a is anomalous: score 12.5 above 3.25"
        assert one["annotations"]["contributions"] == "return 75%, spread 25%"
        link = f"https://detector.example/#/alerts/{identity('a 0')}"
        assert one["generatorURL"] == one["annotations"]["link"] == link
        names = sorted(g["labels"]["alertname"] for g in server.groups())
        assert names == ["DetectorAnomaly", "DetectorSilence"]
        wait_for(lambda: told(pager, "firing").keys() >= wanted, "all of it is paged")

        topic.publish(resolved("a"), resolved("b", kind="silence"))
        wait_for(lambda: server.series() == {("still", "warning")}, "what resolved is gone")
        wait_for(
            lambda: told(pager, "resolved").keys() == wanted - {("still", "warning")},
            "the end of each is paged",
        )
        assert total(bridge.metrics(), "detector_bridge_open_alerts") >= 1
        assert bridge.terminate() == 0
    assert ("past", "warning") not in told(pager, "firing")


def test_any_name_of_a_series_is_shown_as_it_is(tmp_path: Path, server: AlertmanagerServer) -> None:
    names = {
        "", " ", "a\nb", "a\0b", '"}{', "<script>alert(1)</script>", "Zürich", "\U0001f4c8",
        "\u202e", "x" * 900, *(f"series-{n}" for n in range(150)),
    }  # fmt: skip
    topic = embedded(tmp_path / "t")
    with RunningBridge(topic.path, "--to-alertmanager", server.url) as bridge:
        bridge.wait_ready()
        topic.publish(*map(opened, sorted(names)))
        shown = {(name or '""', "warning") for name in names}
        wait_for(lambda: server.series() == shown, "all are there")
        topic.publish(*map(resolved, sorted(names)))
        wait_for(lambda: not server.alerts(), "all are gone")
        assert total(bridge.metrics(), "detector_bridge_refused_total") == 0


def test_a_bridge_that_was_killed_loses_nothing_and_repeats_nothing(
    tmp_path: Path, server: AlertmanagerServer, pager: Target
) -> None:
    topic = embedded(tmp_path / "t", keep_firing_s=10.0)
    arguments = ("--to-alertmanager", server.url)
    with RunningBridge(topic.path, *arguments) as bridge:
        bridge.wait_ready()
        topic.publish(opened("a"), opened("b"))
        bridge.wait_metric("delivered_total", 2)
        bridge.kill()
    # While it is away one ends, and another begins and ends.
    topic.publish(resolved("a"), opened("c"), resolved("c"))
    assert server.series() >= {("a", "warning"), ("b", "warning")}
    with RunningBridge(topic.path, *arguments) as bridge:
        bridge.wait_ready()
        wait_for(lambda: ("c", "warning") in told(pager, "firing"), "it is paged although it ended")
        wait_for(lambda: server.series() == {("b", "warning")}, "what ended is gone")
        ended = {("a", "warning"), ("c", "warning")}
        wait_for(lambda: told(pager, "resolved").keys() == ended, "the ends are paged")
        bridge.kill()
    firings = [
        alert["labels"]["series"]
        for request in pager.taken()
        for alert in request.json()["alerts"]
        if request.json()["status"] == "firing" and alert["status"] == "firing"
    ]
    assert set(firings) == {"a", "b", "c"}


def test_an_alert_that_lasts_outlives_its_time_and_one_whose_bridge_is_dead_does_not(
    tmp_path: Path, server: AlertmanagerServer
) -> None:
    topic = embedded(tmp_path / "t", resolve_timeout_s=6.0)
    with RunningBridge(topic.path, "--to-alertmanager", server.url) as bridge:
        bridge.wait_ready()
        topic.publish(opened("a"))
        ends: set[str] = set()

        def told_again() -> bool:
            ends.update(alert["endsAt"] for alert in server.alerts())
            return len(ends) > 1

        wait_for(told_again, "it is told again, with a later end")
        bridge.kill()
    wait_for(lambda: not server.alerts(), "nobody tells it again")


def test_an_alertmanager_that_was_away_gets_all_of_it_and_the_other_one_does_not_wait(
    tmp_path: Path, server: AlertmanagerServer, pager: Target
) -> None:
    topic = embedded(tmp_path / "t")
    other = AlertmanagerServer(tmp_path / "other", port=free_port(), pages=pager.url)
    with RunningBridge(topic.path, "--to-alertmanager", server.url, other.url) as bridge:
        bridge.wait_ready()
        topic.publish(opened("a"), opened("b"))
        wait_for(lambda: len(server.alerts()) == 2, "the one that is there has them")
        away = f"alertmanager-{other.url.removeprefix('http://')}"
        bridge.wait_metric("retries_total", 2, target=away)
        assert total(bridge.metrics(), "detector_bridge_target_up", target=away) == 0
        wait_for(
            lambda: total(bridge.metrics(), "detector_bridge_lag_records", target=away) == 2,
            "its lag is seen",
        )
        topic.publish(resolved("a"))
        with other:
            wait_for(lambda: other.series() == {("b", "warning")}, "it has what is open")
            bridge.wait_metric("target_up", 1, target=away)
            assert bridge.get("/livez")[0] == 200
        assert "is back" in bridge.log()


def test_what_is_muted_is_not_shown_and_comes_back(
    tmp_path: Path, server: AlertmanagerServer
) -> None:
    topic = embedded(tmp_path / "t", keep_firing_s=600.0)
    with RunningBridge(topic.path, "--to-alertmanager", server.url) as bridge:
        bridge.wait_ready()
        topic.publish(opened("a"), opened("b", muted=True), opened("c"))
        wait_for(lambda: server.series() == {("a", "warning"), ("c", "warning")}, "the others are")
        topic.publish(opened("a", muted=True, at_s=3.0))
        wait_for(lambda: server.series() == {("c", "warning")}, "it is taken away at once")
        topic.publish(opened("a", muted=False, at_s=4.0))
        wait_for(lambda: server.series() == {("a", "warning"), ("c", "warning")}, "and is back")
        topic.publish(resolved("b", muted=True))
        bridge.wait_metric("left_out_total", 3, reason="muted")


@pytest.mark.kafka
def test_the_same_over_kafka(
    tmp_path: Path, server: AlertmanagerServer, pager: Target, request: pytest.FixtureRequest
) -> None:
    topic = over_kafka(tmp_path / "t", request.getfixturevalue("kafka").bootstrap_servers)
    topic.publish(opened("a"))
    with RunningBridge(topic.path, "--to-alertmanager", server.url) as bridge:
        bridge.wait_ready()
        wait_for(lambda: server.series() == {("a", "warning")}, "it is told")
        topic.publish(opened("b"))
        wait_for(lambda: len(server.series()) == 2, "the next is told")
        bridge.kill()
    topic.publish(resolved("a"))
    with RunningBridge(topic.path, "--to-alertmanager", server.url) as bridge:
        wait_for(lambda: server.series() == {("b", "warning")}, "what ended meanwhile is gone")
        assert bridge.terminate() == 0
