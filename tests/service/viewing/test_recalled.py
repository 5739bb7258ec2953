"""The window of an open alert outlives the process that published it: it is kept with the state."""

from __future__ import annotations

import json
import signal
import uuid
from pathlib import Path
from typing import Any

import msgspec
import pytest

from detector.clients.daemon_process import DaemonProcess
from detector.config import Config, load_config
from detector.core.alerts import State
from detector.core.cloudevents import decode_alert
from detector.core.state import WATERMARK_KEY, alert_key, decode_watermark
from detector.errors import DetectorError
from detector.model.directory import Artifact
from detector.service import kept_events
from detector.service.kept_events import KeptEvents, recall
from detector.transport.broker import Broker
from detector.transport.configured import make_broker, prepare_topics, topics
from tests.kafka_broker import KafkaBroker
from tests.processes import wait_for, write_config
from tests.service.viewing.test_shown import STEPS, calm, looking, strange
from tests.service.watched import make_config, publish, read_all

DRAWN = ("features", "observed", "expected", "contributions", "views", "score", "model_version")


def drawn(detail: Any) -> dict[str, Any]:
    """What a page draws of the event that opened an alert."""
    assert detail is not None
    (opening, *_) = detail["events"]
    assert len(opening["observed"]) > 0
    return {name: opening[name] for name in DRAWN}


def kept(broker: Broker, config: Config) -> dict[bytes, bytes]:
    (table,) = broker.saved(topics(config)).values()
    return {key: value for key, value in table.items() if key.startswith(b"alert:")}


def test_a_daemon_that_was_killed_draws_the_window_of_the_open_alert_when_it_is_back(
    tmp_path: Path, artifact: Artifact
) -> None:
    tree = {
        "features": {"value": "value"},
        "threshold": {"method": "fixed", "value": 1.0},
        "embedded": {"path": str(tmp_path / "broker.sqlite")},
        "state": {"interval_ms": 1},
        "http": {"port": 0},
        "window": {"length_ticks": artifact.length, "max_gap_s": 60.0},
    }
    path = write_config(tmp_path / "config.yaml", tree)
    config = load_config(path, {})
    broker = make_broker(config)

    def alerts(daemon: DaemonProcess) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(daemon.get("/api/v1/alerts") or "{}")["alerts"]
        return found

    def detail(daemon: DaemonProcess, alert_id: str) -> Any:
        return json.loads(daemon.get(f"/api/v1/alerts/{alert_id}") or "null")

    def until_killed() -> None:
        with DaemonProcess(path, artifact.path, tmp_path / "first.log") as daemon:
            daemon.wait_ready()
            publish(broker, config, [*calm("a"), *strange("a", 12)])
            wait_for(lambda: len(alerts(daemon)) == 1, "the alert is shown")
            publish(broker, config, calm("b"))
            daemon.wait_accounted(28, 60.0)  # what is saved by now has the alert
            (alert,) = alerts(daemon)
            before = drawn(detail(daemon, alert["alert_id"]))
            killed.append((alert["alert_id"], before))
            daemon.end(signal.SIGKILL)
            wait_for(lambda: not daemon.running(), "it is gone")

    killed: list[tuple[str, dict[str, Any]]] = []
    with pytest.raises(DetectorError, match="ended with -9"):
        until_killed()
    ((alert_id, before),) = killed
    with DaemonProcess(path, artifact.path, tmp_path / "second.log") as second:
        second.wait_ready()
        wait_for(lambda: len(alerts(second)) == 1, "it is shown again")
        assert drawn(detail(second, alert_id)) == before
        publish(broker, config, calm("a", 16, 20))
        wait_for(lambda: alerts(second)[0]["state"] == "closed", "it has closed")
        assert drawn(detail(second, alert_id)) == before
    assert kept(broker, config) == {}
    (table,) = broker.saved(topics(config)).values()
    assert decode_watermark(table[WATERMARK_KEY], "").version == 2  # an earlier program may go on


@pytest.mark.kafka
def test_a_worker_that_takes_over_on_kafka_draws_the_window(
    tmp_path: Path, artifact: Artifact, kafka: KafkaBroker
) -> None:
    name = f"recalled-{uuid.uuid4().hex[:8]}"

    def worker(number: int) -> Config:
        config = make_config(
            tmp_path,
            input={"topic": f"{name}-ticks"},
            alerts={"topic": f"{name}-alerts"},
            state={"topic": f"{name}-state", "interval_ms": 1},
            dead_letters={"topic": f"{name}-dead"},
            topics={"partitions": 1},
            kafka={
                "bootstrap_servers": kafka.bootstrap_servers,
                "group": name,
                "transactional_id": f"{name}-{number}",
                "session_timeout_ms": 6000,
            },
            **STEPS,
        )
        return msgspec.structs.replace(config, transport="kafka")

    config = worker(1)
    prepare_topics(config, make_broker(config))
    with looking(config, artifact, make_broker(config)) as (run, desk):
        publish(make_broker(config), config, [*calm("a"), *strange("a", 12)])
        wait_for(lambda: len(desk.alerts()) == 1, "the alert is shown")
        (alert,) = desk.alerts()
        before = drawn(desk.alert(alert["alert_id"]))
        run.stop()
    other = worker(2)
    with looking(other, artifact, make_broker(other)) as (run, desk):
        wait_for(lambda: len(desk.alerts()) == 1, "the other worker shows it")
        assert drawn(desk.alert(alert["alert_id"])) == before
        run.stop()


def events(tmp_path: Path, artifact: Artifact) -> list[bytes]:
    """Of an alert that opens and resolves."""
    config = make_config(tmp_path, **STEPS)
    broker = make_broker(config)
    publish(broker, config, [*calm("a"), *strange("a", 12), *calm("a", 16, 20)])
    with looking(config, artifact, broker) as (run, _):
        run.wait_accounted(36)
        run.stop()
    return [record.value or b"" for record in read_all(broker, config.alerts.topic)]


def test_what_opens_and_escalates_is_kept_until_it_resolves_and_the_oldest_goes_first(
    tmp_path: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kept_events, "MOST_KEPT", 1)
    values = events(tmp_path, artifact)
    opened, *_, resolved = [decode_alert(value).alert for value in values]
    assert (opened.state, resolved.state) == (State.OPENED, State.RESOLVED)
    kept, key = KeptEvents(), alert_key(opened.alert_id, State.OPENED)
    (message,) = kept.note(opened, values[0])
    assert (message.key, message.value, message.partition) == (key, values[0], 0)
    (gone,) = kept.note(resolved, values[-1])
    assert (gone.key, gone.value) == (key, None)
    assert list(kept.note(resolved, values[-1])) == []  # told again
    kept.restored([b"alert:older:opened"])
    assert [(m.key, m.value is None) for m in kept.note(opened, values[0])] == [
        (key, False),
        (b"alert:older:opened", True),
    ]
    assert recall({b"alert:x:opened": b"no event"}) == {}
    (found,) = recall({key: values[0]}).values()
    assert [alert.id for alert in found] == [opened.id]
