"""What a real daemon on the embedded broker shows: after the commit, never before, and again after
a restart."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from detector.core.alerts import State
from detector.errors import TransactionError
from detector.model.directory import Artifact
from detector.service.viewing import alerts as shown_alerts
from detector.service.viewing.desk import Desk
from detector.transport.broker import Broker, Outbox
from detector.transport.configured import make_broker
from tests.processes import wait_for
from tests.records import START_S, Sent, intact
from tests.service.watched import LENGTH, Running, WatchedBroker, make_config, publish, running

STEPS = {"window": {"length_ticks": LENGTH, "stride_ticks": 1, "max_gap_s": 60.0}}


def ticks(series: str, first: int, values: list[float]) -> list[Sent]:
    return [
        Sent(series.encode(), intact(series, START_S + first + n, value))
        for n, value in enumerate(values)
    ]


def calm(series: str, first: int = 0, number: int = 12) -> list[Sent]:
    return ticks(series, first, [0.1 + 0.001 * (n % 3) for n in range(number)])


def strange(series: str, first: int) -> list[Sent]:
    return ticks(series, first, [50.0, -50.0, 50.0, -50.0])


@contextmanager
def looking(config: Any, artifact: Artifact, broker: Broker) -> Iterator[tuple[Running, Desk]]:
    with running(config, artifact, broker) as run:
        yield run, Desk(run.daemon.viewing, run.daemon.health)


def series(desk: Desk, name: str) -> Mapping[str, Any]:
    handed = desk.series(name)
    assert handed is not None
    assert handed[1] is not None
    return handed[1]


def test_an_alert_is_shown_with_its_window_once_it_is_committed(
    tmp_path: Path, artifact: Artifact
) -> None:
    seen_before: list[int] = []
    desk: Desk | None = None

    def look(_: int, outbox: Outbox, __: Mapping[int, int]) -> None:
        if outbox.alerts and desk is not None:
            seen_before.append(len(desk.alerts()))

    config = make_config(tmp_path, **STEPS)
    broker = WatchedBroker(make_broker(config), before=look)
    publish(broker, config, calm("a"))
    with looking(config, artifact, broker) as (run, found):
        desk = found
        run.wait_accounted(12)
        publish(broker, config, strange("a", 12))
        wait_for(lambda: len(found.alerts()) == 1, "the alert is shown")
        (summary,) = found.alerts()
        assert (summary["series"], summary["state"], summary["muted"]) == ("a", "open", False)
        detail = found.alert(summary["alert_id"])
        assert detail is not None
        opened = detail["events"][0]
        assert opened["event"] == "opened"
        assert len(opened["observed"]) == LENGTH
        assert len(opened["expected"]) == LENGTH
        assert sum(opened["contributions"].values()) == pytest.approx(1)
        assert opened["score"] > opened["threshold"]
        assert detail["history"][0][0] <= START_S + 8
        assert max(score for _, score in detail["history"]) >= opened["score"] * 0.999

        publish(broker, config, calm("a", 16, 40))
        wait_for(lambda: found.alerts()[0]["state"] == "closed", "it is resolved")

        def followed() -> bool:
            last = found.alert(summary["alert_id"])
            return last is not None and last["history"][-1][0] >= START_S + 48

        wait_for(followed, "the scores after it are taken up")
        assert found.alert("0" * 32) is None
        run.stop()
    assert seen_before[0] == 0


def test_what_was_not_committed_is_never_shown(tmp_path: Path, artifact: Artifact) -> None:
    failed = False
    shown: list[int] = []
    desk: Desk | None = None

    def fail(_: int, outbox: Outbox, __: Mapping[int, int]) -> None:
        nonlocal failed
        if outbox.alerts and desk is not None:
            shown.append(len(desk.alerts()))
            if not failed:
                failed = True
                raise TransactionError("as the test wants it")

    config = make_config(tmp_path, **STEPS)
    broker = WatchedBroker(make_broker(config), before=fail)
    publish(broker, config, calm("a"))
    with looking(config, artifact, broker) as (run, found):
        desk = found
        run.wait_accounted(12)
        publish(broker, config, strange("a", 12))
        wait_for(lambda: len(found.alerts()) == 1, "the second attempt shows it")
        run.stop()
    assert shown[:2] == [0, 0]


@pytest.mark.parametrize("replayed", [False, True])
def test_an_open_alert_is_shown_again_after_a_restart(
    tmp_path: Path, artifact: Artifact, replayed: bool
) -> None:
    """Whether the saved state has it, or the ticks since then, processed again, bring it up."""
    ending = False

    def fail(_: int, __: Outbox, ___: Mapping[int, int]) -> None:
        if ending:  # or else everything is saved at the end
            raise TransactionError("as the test wants it", begun=False)

    interval_ms = 600_000 if replayed else 0
    config = make_config(tmp_path, state={"interval_ms": interval_ms}, **STEPS)
    broker = WatchedBroker(make_broker(config), before=fail)
    publish(broker, config, calm("a"))
    with looking(config, artifact, broker) as (run, desk):
        run.wait_accounted(12)
        publish(broker, config, strange("a", 12))
        wait_for(lambda: len(desk.alerts()) == 1, "the alert is shown")
        (before,) = desk.alerts()
        ending = replayed
        run.stop()
    with looking(config, artifact, make_broker(config)) as (run, desk):
        wait_for(lambda: len(desk.alerts()) == 1, "it is shown again")
        (after,) = desk.alerts()
        same = ("alert_id", "series", "severity", "state", "opened_time", "kind", "partition")
        assert {k: after[k] for k in same} == {k: before[k] for k in same}
        detail = desk.alert(after["alert_id"])
        assert detail is not None
        assert detail["events"][0]["event"] == "opened"
        assert len(detail["events"][0]["observed"]) == LENGTH
        run.stop()


def test_a_watched_series_is_handed_over_as_it_moves_and_no_longer_than_it_is_watched(
    tmp_path: Path, artifact: Artifact
) -> None:
    config = make_config(tmp_path, **STEPS)
    broker = make_broker(config)
    publish(broker, config, calm("a", number=LENGTH - 1))
    with looking(config, artifact, broker) as (run, desk):
        run.wait_accounted(LENGTH - 1)
        assert desk.series("a") is None
        desk.watch(frozenset({"a", "nobody"}))
        wait_for(lambda: desk.series("a") is not None, "it is looked at")
        warming = series(desk, "a")
        assert (warming["warming"], warming["ticks"], warming["score"]) == (True, LENGTH - 1, None)
        assert len(warming["observed"]) == LENGTH - 1
        handed = desk.series("nobody")
        assert handed is not None
        assert handed[1] is None
        publish(broker, config, strange("a", LENGTH - 1))
        wait_for(lambda: bool(series(desk, "a")["open_alerts"]), "the alert is among it")
        wait_for(lambda: series(desk, "a")["expected"] is not None, "and what was expected")
        now = series(desk, "a")
        assert now["observed"][-4:] == [[50.0], [-50.0], [50.0], [-50.0]]
        assert len(now["expected"]) == LENGTH
        assert now["score"] > now["threshold"] == 1.0
        assert not now["warming"]
        desk.watch(frozenset())
        wait_for(lambda: desk.series("a") is None, "nobody watches it")
        run.stop()


def test_names_and_state_are_handed_over_when_they_are_asked_for(
    tmp_path: Path, artifact: Artifact
) -> None:
    config = make_config(tmp_path, **STEPS)
    broker = make_broker(config)
    publish(broker, config, [*calm("a"), *calm("<b>")])
    with looking(config, artifact, broker) as (run, desk):
        run.wait_accounted(24)
        assert desk.names() is None
        assert desk.state() is None
        desk.want_names(60.0)
        desk.want_state(60.0)
        wait_for(lambda: desk.names() is not None and desk.state() is not None, "both are there")
        names, state = desk.names(), desk.state()
        assert names is not None
        assert sorted(names[1]) == ["<b>", "a"]
        assert state is not None
        assert state[1]["series"] == {"active": 2, "warming": 0, "cold": 0, "room": 200_000}
        assert state[1]["throughput"]["ticks"] == 24
        assert state[1]["latency_seconds"]["pipeline"]["p99"] > 0
        run.stop()


def test_news_are_told_to_who_listens(tmp_path: Path, artifact: Artifact) -> None:
    config = make_config(tmp_path, **STEPS)
    broker = make_broker(config)
    publish(broker, config, [*calm("a"), *strange("a", 12)])
    with looking(config, artifact, broker) as (run, desk):
        told: list[Any] = []
        desk.listen(told.extend)
        desk.watch(frozenset({"a"}))
        publish(broker, config, [*strange("a", 16), *calm("a", 20, 40)])
        wait_for(lambda: {n.kind for n in told} >= {"series"}, "the series is told")
        wait_for(lambda: bool(desk.alerts()) and desk.alerts()[0]["state"] == "closed", "resolved")
        for one in told:
            assert desk.told(one)["series"] == "a"
        run.stop()


def test_the_alerts_that_are_kept_are_bounded_and_told_again_change_nothing(
    tmp_path: Path, artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shown_alerts, "MOST_OPEN", 3)
    monkeypatch.setattr(shown_alerts, "MOST_CLOSED", 2)
    config = make_config(tmp_path, **STEPS)
    broker = make_broker(config)
    with looking(config, artifact, broker) as (run, desk):
        names = [f"s{n}" for n in range(6)]
        publish(broker, config, [r for name in names for r in [*calm(name), *strange(name, 12)]])
        wait_for(lambda: [a["series"] for a in desk.alerts()] == ["s5", "s4", "s3"], "the last")
        publish(broker, config, [r for name in names for r in calm(name, 16, 40)])

        def closed() -> bool:
            return [(a["series"], a["state"]) for a in desk.alerts()] == [
                ("s5", "closed"), ("s4", "closed"),
            ]  # fmt: skip

        wait_for(closed, "the last that closed")
        recent = run.daemon.viewing._recent
        again = [one.alert for one in desk._viewing.alerts.values() if one.alert is not None]
        assert all(alert.state is State.RESOLVED for alert in again)
        run.stop()
        assert recent.alerts.committed(again, 0.0) == []


def test_a_series_is_never_shown_as_another_that_had_its_place(
    tmp_path: Path, artifact: Artifact
) -> None:
    config = make_config(tmp_path, **STEPS)
    broker = make_broker(config)
    with looking(config, artifact, broker) as (run, desk):
        for name, level in (("a", 0.0), ("b", 5.0)):
            values = [level + 0.001 * (n % 3) for n in range(12)]
            publish(broker, config, ticks(name, 0, values))
        run.wait_accounted(24)
        desk.watch(frozenset({"a", "b"}))

        def handed(name: str) -> bool:
            found = desk.series(name)
            return found is not None and found[1] is not None

        wait_for(lambda: handed("a") and handed("b"), "both are seen")
        viewing, pipeline = run.daemon.viewing, run.daemon._pipeline
        slots = pipeline.stream.series.of_partition(0)
        assert viewing._watched.keys() == set(slots.tolist())
        run.stop()
        viewing.lost(0, slots)
        assert not viewing._last
        assert not viewing._watched
