"""Mutes and expected quiet of the configuration change while the detector runs, each at a stated
place, so that who processes the ticks again finds what was found the first time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import msgspec

from detector.config import Config
from detector.config.maintenance import MuteConfig
from detector.core.cloudevents import decode_alert
from detector.core.state import MUTES_KEY
from detector.errors import TransactionError
from detector.model.directory import Artifact
from detector.service.following import Follower
from detector.service.viewing.desk import Desk
from detector.transport.broker import Broker, Outbox
from detector.transport.configured import make_broker, topics
from tests.processes import total, wait_for
from tests.records import START_S, Sent, intact
from tests.service.watched import Running, WatchedBroker, make_config, publish, read_all, running

Sections = Mapping[str, Mapping[str, object]]
ALWAYS: Sections = {"silence": {"expected": [{"cron": "0 0 * * *", "lasts": "1d"}]}}
SILENT: Sections = {
    "window": {"silence_s": 30.0, "max_gap_s": 1e6},
    "state": {"interval_ms": 600_000},
}


@contextmanager
def followed(
    config: Config, then: Config, artifact: Artifact, broker: Broker
) -> Iterator[tuple[Running, Follower]]:
    """then: the configuration when it is read again."""
    with running(config, artifact, broker) as run:
        daemon = run.daemon
        follower = Follower(
            artifact.path,
            artifact,
            config,
            lambda: then,
            daemon.exchange,
            daemon.configure_mutes,
            interval_s=0.05,
        )
        follower.start()
        try:
            yield run, follower
        finally:
            follower.close()


def ticks(series: str, *at: int) -> list[Sent]:
    return [Sent(series.encode(), intact(series, START_S + t, 0.1)) for t in at]


def saved(broker: Broker, config: Config) -> bytes | None:
    """What is kept of the mutes."""
    (table,) = broker.saved(topics(config)).values()
    return table.get(MUTES_KEY)


def told(broker: Broker, config: Config) -> list[tuple[str, str, bool, int, str]]:
    """Of each alert: series, state, whether it is muted, the offset of its tick, its id."""
    events = [decode_alert(record.value or b"") for record in read_all(broker, config.alerts.topic)]
    alerts = [event.alert for event in events]
    return [(a.series, a.state.name, a.muted, a.offset, a.alert_id) for a in alerts]


def test_mutes_that_come_and_go_in_the_configuration_hold_from_a_place_on(
    tmp_path: Path, artifact: Artifact
) -> None:
    config = make_config(tmp_path, **SILENT)
    muted = msgspec.structs.replace(config, mutes=(MuteConfig(series="b", until="2100-01-01"),))
    broker = make_broker(config)
    publish(broker, config, ticks("b", 0) + ticks("a", 1))
    with followed(config, muted, artifact, broker) as (run, follower):
        run.wait_accounted(2)
        follower.ask()
        wait_for(lambda: saved(broker, config) is not None, "it holds from the next tick on")
        publish(broker, config, ticks("a", 40))
        run.wait_accounted(3)
        run.stop()
    assert [one[:4] for one in told(broker, config)] == [("b", "OPENED", True, 2)]
    with followed(muted, config, artifact, broker) as (run, follower):
        before = saved(broker, config)
        follower.ask()
        wait_for(lambda: saved(broker, config) != before, "it ends with the next tick")
        publish(broker, config, ticks("a", 41))
        run.wait_accounted(1)
        run.stop()
    (_, (series, state, is_muted, *_)) = told(broker, config)
    assert (series, state, is_muted) == ("b", "UPDATED", False)


def test_expected_quiet_that_changes_is_replayed_as_it_was(
    tmp_path: Path, artifact: Artifact
) -> None:
    ending = False

    def fail(_: int, __: Outbox, ___: Mapping[int, int]) -> None:
        if ending:  # or else everything is saved at the end
            raise TransactionError("as the test wants it", begun=False)

    quiet, loud = make_config(tmp_path, **SILENT, **ALWAYS), make_config(tmp_path, **SILENT)
    broker = WatchedBroker(make_broker(quiet), before=fail)
    publish(broker, quiet, ticks("b", 0) + ticks("a", 1, 40, 100))
    with followed(quiet, loud, artifact, broker) as (run, follower):
        run.wait_accounted(4)
        assert told(broker, quiet) == []
        follower.ask()
        wait_for(lambda: changes(run, "applied") == 1, "it is taken over")
        publish(broker, quiet, ticks("a", 110))
        wait_for(lambda: len(told(broker, quiet)) == 1, "b is silent from now on")
        ending = True
        run.stop()
    ((series, state, _, offset, alert_id),) = told(broker, quiet)
    assert (series, state, offset) == ("b", "OPENED", 4)
    with running(loud, artifact, make_broker(loud)) as run:
        desk = Desk(run.daemon.viewing, run.daemon.health)
        wait_for(lambda: len(desk.alerts()) == 1, "the ticks have been processed again")
        assert desk.alerts()[0]["alert_id"] == alert_id
        publish(broker, loud, ticks("b", 120))
        wait_for(lambda: len(told(broker, loud)) == 2, "it is heard again")
        run.stop()
    resolved = told(broker, loud)[1]
    assert resolved[:2] == ("b", "RESOLVED")
    assert resolved[4] == alert_id


def changes(run: Running, outcome: str) -> float:
    return total(run.metrics(), "detector_model_changes_total", outcome=outcome)
