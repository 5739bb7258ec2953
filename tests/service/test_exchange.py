"""A model takes the place of another while ticks flow: whatever crashes, whoever judges is stated,
and every alert is the one of an uninterrupted run that changed at the same places."""

from __future__ import annotations

import math
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.service.changing import MODELS, Changing, Offered
from tests.service.scripted import Lasting, Trouble

_SETTINGS = settings(
    deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.explicit, Phase.generate]
)
_TROUBLES = st.builds(
    Trouble,
    st.sampled_from(["poll", "before", "after"]),
    st.integers(1, 20),
)
_FAILURES = st.builds(
    Trouble, st.sampled_from(["before", "after", "lose"]), st.integers(1, 20), st.just(False)
)
_OFFERS = st.builds(
    Offered, st.integers(1, 25), st.sampled_from(list(MODELS)), st.sampled_from([1.0, 0.7])
)


def rows(count: int, seed: int) -> list[tuple[str, float, float]]:
    """Noise with incidents, of three series, one of which falls silent."""
    random = np.random.default_rng(seed)
    found = []
    for i in range(count):
        series = int(random.integers(0, 3 if i < count // 2 else 2))
        strange = 6.0 if (i // 25) % 3 == 2 else 1.0
        x, y = random.normal(0, strange, 2).tolist()
        found.append((f"s{series}", round(x, 3), round(y, 3)))
    return found


@given(
    seed=st.integers(0, 3),
    lives=st.lists(
        st.tuples(_TROUBLES, st.lists(_FAILURES, max_size=2), st.lists(_OFFERS, max_size=2)),
        max_size=4,
    ),
    last=st.lists(_OFFERS, max_size=2),
    size=st.sampled_from([1, 7, 40]),
    interval_s=st.sampled_from([0.0, 0.3, 3.0]),
    lasting=st.lists(
        st.builds(Lasting, st.sampled_from([0, 0, 2, 9]), st.booleans()), min_size=1, max_size=3
    ),
)
@settings(_SETTINGS, max_examples=25)
def test_wherever_it_changes_and_crashes_the_alerts_are_those_of_one_run_with_the_same_changes(
    seed: int,
    lives: list[tuple[Trouble, list[Trouble], list[Offered]]],
    last: list[Offered],
    size: int,
    interval_s: float,
    lasting: list[Lasting],
) -> None:
    with TemporaryDirectory() as directory:
        stage = Changing(Path(directory), interval_s=interval_s)
        stage.publish(rows(150, seed))
        for death, failures, offers in lives:
            stage.run(death, *failures, offers=offers, sizes=[size], lasting=lasting)
        stage.run(offers=last, sizes=[size], lasting=lasting)
        stage.run()
        stage.assert_golden()


def test_killed_between_a_change_and_the_state_that_follows_it_old_ticks_are_judged_as_before(
    tmp_path: Path,
) -> None:
    stage = Changing(tmp_path, interval_s=30.0)
    stage.publish(rows(200, 1))
    stage.run(Trouble("after", 12), offers=[Offered(10, "b")], sizes=[5], pauses_s=[0.2])
    stage.run()
    stage.assert_golden()
    assert stage.replayed > 0
    assert [j.model for _, j in stage.stated()] == ["random-1", "random-2"]
    models = {a.count("random-1") > 0 for a in stage.alerts()}
    assert models == {True, False}, "both have alerted"


def test_nothing_warms_up_again_where_the_features_are_the_same(tmp_path: Path) -> None:
    stage = Changing(tmp_path)
    stage.publish(rows(200, 2))
    stage.run(offers=[Offered(14, "b")], sizes=[7])
    (_, (at, _)) = stage.stated()
    stage.assert_golden()
    strange = [a for a in stage.alerts() if "random-2" in a]
    assert 0 < at < 200
    assert strange


def test_a_change_back_is_a_change_too(tmp_path: Path) -> None:
    stage = Changing(tmp_path, interval_s=0.0)
    stage.publish(rows(200, 2))
    stage.run(offers=[Offered(8, "b"), Offered(16, "a")], sizes=[7])
    stage.assert_golden()
    assert [j.model for _, j in stage.stated()] == ["random-1", "random-2", "random-1"]


def test_a_model_that_is_gone_costs_windows_and_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Changing(tmp_path)
    stage.publish(rows(150, 2))
    stage.run(Trouble("poll", 12), sizes=[7])
    stage.model = "b"
    monkeypatch.setattr("tests.service.changing.find", lambda _: None)
    stage.run()
    assert math.isclose(stage.marks[-1].committed, 150)
    assert stage.marks[-1].model == "random-2"
