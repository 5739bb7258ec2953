"""A threshold stands where it was asked for, or where the held-out windows can carry it, and says
so."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from detector.build import deployed_threshold
from detector.config.reading import parse_config
from detector.core.thresholds.calibration import Calibration, Tail
from detector.core.thresholds.deployed import Deployed, supported
from detector.errors import ConfigError


def calibration(*, clusters: int, windows: int = 1000, excesses: int = 50) -> Calibration:
    """Of evidence: an exponential tail, a decade for each unit."""
    start = -math.log10(excesses / windows)
    scores = np.linspace(0, 3, windows).astype(np.float32)
    tail = Tail(start, 0.0, 1 / math.log(10), excesses, clusters, windows)
    return Calibration(scores, tail)


def test_a_budget_that_the_data_carry_is_deployed_as_it_is() -> None:
    plenty = calibration(clusters=40)
    found = deployed_threshold(parse_config({}), plenty, 32)
    assert found.threshold == pytest.approx(4.0)
    assert (found.asked, found.rate) == (1e-4, 1e-4)
    assert not found.fell_back
    assert found.words(plenty) == ""


def test_a_budget_beyond_the_data_falls_back_and_says_so() -> None:
    """One stretch of time: two decades beyond the 5 % it holds."""
    thin = calibration(clusters=1)
    found = deployed_threshold(parse_config({}), thin, 32)
    assert found.rate == pytest.approx(5e-4)
    assert found.threshold == pytest.approx(-math.log10(5e-4))
    assert found.fell_back
    words = found.words(thin)
    assert "a budget of 0.0001 is beyond what 1000 held-out windows can carry" in words
    assert "one stretch of time" in words
    assert "more training ticks help" in words
    of_a_day = Deployed(found.threshold, 1e-4, found.rate, a_day=0.5).words(thin)
    assert of_a_day.startswith("0.5 alerts a day and series, or a budget of 0.0001, is beyond")
    told = deployed_threshold(parse_config({"threshold": {"fall_back": False}}), thin, 32)
    assert told.threshold == pytest.approx(4.0)
    assert not told.fell_back


def test_a_threshold_given_by_hand_knows_no_budget() -> None:
    given = parse_config({"threshold": {"method": "fixed", "value": 2.5}})
    found = deployed_threshold(given, calibration(clusters=1), 32)
    assert (found.threshold, found.asked, found.rate, found.fell_back) == (2.5, None, None, False)


def test_a_budget_by_the_day_is_refused_where_it_cannot_be_had() -> None:
    by_hand = {"method": "fixed", "value": 2.5, "false_alarms_per_day": 1}
    with pytest.raises(ConfigError, match="method fixed knows no budget"):
        deployed_threshold(parse_config({"threshold": by_hand}), calibration(clusters=9), 32)
    with pytest.raises(ConfigError, match="train it again"):
        deployed_threshold(
            parse_config({"threshold": {"false_alarms_per_day": 1}}), calibration(clusters=9), 32
        )


@given(
    clusters=st.integers(1, 400),
    windows=st.integers(20, 200_000),
    share=st.floats(0.001, 0.25),
    budget=st.floats(1e-12, 0.5),
)
def test_it_never_stands_beyond_what_is_carried_nor_below_what_is_asked(
    clusters: int, windows: int, share: float, budget: float
) -> None:
    one = calibration(clusters=clusters, windows=windows, excesses=max(1, int(windows * share)))
    config = parse_config({"threshold": {"false_alarms_per_window": budget}})
    found = deployed_threshold(config, one, 32)
    assert found.rate == max(budget, supported(one))
    more = calibration(
        clusters=clusters + 1, windows=windows, excesses=max(1, int(windows * share))
    )
    assert supported(more) < supported(one)
    assert math.isfinite(found.threshold)
