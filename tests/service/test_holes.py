"""Series whose ticks were lost, or refused for want of room, between two restarts: a window with
a hole in it must never be scored."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from detector.core.ticks import Outcome
from tests.core.reference import Tick
from tests.processes import by_label
from tests.service.driving import LENGTH, Stage, make_policy, messages_of
from tests.service.test_crashes import steady


def outcomes(stage: Stage, first: int) -> list[Outcome]:
    """Of the ticks from an offset on, as the last process saw them."""
    return [Outcome(o) for offset, _, o, _ in stage.witnesses[-1].seen if offset >= first]


def publish(stage: Stage, ticks: list[Tick]) -> None:
    stage.publish([m for m in messages_of(ticks) if m.value != b"no tick"])


def lose(stage: Stage, first: int, end: int) -> None:
    """As a retention shorter than the lag does."""
    with closing(sqlite3.connect(stage.directory / "broker.sqlite")) as database, database:
        database.execute('DELETE FROM records WHERE topic = 1 AND "offset" < ?', (end,))
        database.execute("UPDATE topics SET first_offset = ? WHERE name = 'ticks'", (end,))
    assert first < end


@pytest.mark.parametrize("interval_s", [0.0, 30.0])
def test_a_series_that_lost_ticks_warms_up_also_after_the_next_restart(
    tmp_path: Path, interval_s: float
) -> None:
    stage = Stage(tmp_path, interval_s=interval_s, on_lost_ticks="continue")
    publish(stage, steady("a", range(10)))
    stage.run()
    publish(stage, steady("a", range(10, 14)))
    lose(stage, 10, 14)
    metrics = stage.run()
    assert by_label(metrics, "detector_restored_series_total", "outcome") == {"warming": 1}
    publish(stage, steady("b", range(3)))
    stage.run()
    publish(stage, steady("a", range(14, 14 + LENGTH + 1)))
    stage.run()
    seen = outcomes(stage, 17)
    assert seen.count(Outcome.WARMING) == LENGTH, "features look back: one more than the window"
    assert seen.index(Outcome.SCORED) == LENGTH


def test_a_series_without_room_does_not_go_on_with_its_old_window(tmp_path: Path) -> None:
    wide, narrow = make_policy(max_series=2), make_policy(max_series=1)
    stage = Stage(tmp_path, policy=wide, interval_s=0.0)
    publish(stage, [*steady("a", range(10)), *steady("b", range(10))])
    stage.run()
    stage.policy = narrow
    publish(stage, [*steady("a", range(10, 12)), *steady("b", range(10, 12))])
    metrics = stage.run()
    assert by_label(metrics, "detector_restored_series_total", "outcome") == {
        "resumed": 1,
        "no_room": 1,
    }
    assert Outcome.REJECTED in outcomes(stage, 20)
    stage.policy = wide
    publish(stage, steady("b", [12]))
    publish(stage, steady("a", [12]))
    metrics = stage.run()
    assert by_label(metrics, "detector_restored_series_total", "outcome") == {
        "resumed": 1,
        "warming": 1,
    }
    assert sorted(outcomes(stage, 24)) == sorted([Outcome.WARMING, Outcome.SCORED])


def test_a_series_without_room_under_another_model_warms_up_under_the_first_again(
    tmp_path: Path,
) -> None:
    first = make_policy(max_series=2)
    stage = Stage(tmp_path, policy=first, interval_s=0.0)
    publish(stage, [*steady("a", range(10)), *steady("b", range(10))])
    stage.run()
    stage.policy = replace(make_policy(max_series=1), model_version="v2")
    publish(stage, [*steady("a", range(10, 12)), *steady("b", range(10, 12))])
    metrics = stage.run()
    assert by_label(metrics, "detector_restored_series_total", "outcome") == {
        "warming": 1,
        "no_room": 1,
    }
    stage.policy = first
    metrics = stage.run()
    assert by_label(metrics, "detector_restored_series_total", "outcome") == {"warming": 2}
