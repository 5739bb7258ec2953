"""Options of the section model: which kind knows which, and how variants of it are written."""

from __future__ import annotations

import re
from typing import Any

import pytest

from detector.config import (
    Config,
    parse_config,
    with_model,
)
from detector.errors import ConfigError

KINDS = ("reconstruction", "sequence", "last_step", "prediction", "composite", "dense")


REPEATING = ("reconstruction", "prediction", "composite")


#: What an option may be besides its default, and the kinds that take it.
OPTIONS_OF_KINDS = {
    "horizon": (3, ("prediction", "composite")),
    "target_order": ("reversed", REPEATING),
    "conditioned": (True, REPEATING),
    "prediction_weight": (0.9, ("composite",)),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("option", OPTIONS_OF_KINDS)
def test_an_option_that_a_kind_does_not_have_is_refused_with_those_that_do(
    kind: str, option: str
) -> None:
    value, kinds = OPTIONS_OF_KINDS[option]
    tree = {"model": {"kind": kind, option: value}}
    if kind in kinds:
        assert getattr(parse_config(tree).model, option) == value
        return
    with pytest.raises(ConfigError, match=rf"model\.{option}: .*kind {kind}") as refused:
        parse_config(tree)
    assert all(other in str(refused.value) for other in kinds)


@pytest.mark.parametrize("kind", ["prediction", "composite"])
def test_a_horizon_leaves_a_tick_to_predict_from(kind: str) -> None:
    def tree(horizon: int) -> dict[str, Any]:
        return {"window": {"length_ticks": 9}, "model": {"kind": kind, "horizon": horizon}}

    assert parse_config(tree(8)).model.horizon == 8
    with pytest.raises(
        ConfigError, match=r"model\.horizon: .* from 1 to 8 with window\.length_ticks = 9"
    ):
        parse_config(tree(9))


def test_a_dense_bottleneck_is_narrower_than_the_window() -> None:
    def tree(units: list[int]) -> dict[str, Any]:
        return {
            "features": {"a": "a", "b": "b"},
            "window": {"length_ticks": 5},
            "model": {"kind": "dense", "units": units},
        }

    assert parse_config(tree([20, 9])).model.units == (20, 9)
    with pytest.raises(
        ConfigError, match=r"model\.units: .* narrower than the window's 10 numbers"
    ):
        parse_config(tree([20, 10]))


def test_a_conditioned_window_has_an_end() -> None:
    tree = {"window": {"length_ticks": 1001}, "model": {"conditioned": True}}
    with pytest.raises(ConfigError, match=r"conditioned: .*window\.length_ticks is above 1000"):
        parse_config(tree)


def test_other_model_options_are_read_as_in_the_file_and_leave_the_rest_alone() -> None:
    config = parse_config({"window": {"length_ticks": 9}, "model": {"activation": "relu"}})
    changes = {"kind": "prediction", "horizon": "4", "units": "64,32", "conditioned": "true"}
    model = {"activation": "relu", "kind": "prediction", "horizon": 4, "units": [64, 32]}
    expected = {"window": {"length_ticks": 9}, "model": model | {"conditioned": True}}
    assert with_model(config, changes) == parse_config(expected)
    assert with_model(config, {"units": "8"}).model.units == (8,)
    assert with_model(config, {}) == config


def test_another_kind_leaves_behind_the_options_it_does_not_know() -> None:
    config = parse_config(
        {
            "model": {
                "kind": "composite",
                "horizon": 4,
                "conditioned": True,
                "prediction_weight": 0.2,
            }
        }
    )
    model = with_model(config, {"kind": "prediction"}).model
    assert (model.horizon, model.conditioned, model.prediction_weight) == (4, True, 0.5)
    assert with_model(config, {"kind": "last_step"}) == parse_config(
        {"model": {"kind": "last_step"}}
    )
    with pytest.raises(ConfigError, match="horizon: kind last_step knows none"):
        with_model(config, {"kind": "last_step", "horizon": "4"})


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"kind": "transformer"}, "model.kind: must be one of composite, dense"),
        ({"unist": "4"}, "model.unist: unknown option; did you mean 'units'"),
        ({"units": "many"}, "model.units"),
        ({"units": "4,many"}, "model.units[1]: must be a whole number"),
        ({"horizon": "1,2"}, "model.horizon: must be a whole number"),
        ({"horizon": "4"}, "model.horizon: kind reconstruction knows none"),
        ({"horizon": "{"}, "model.horizon: cannot read"),
    ],
)
def test_a_mistake_in_other_model_options_is_named_by_its_key(
    changes: dict[str, str], says: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(says)):
        with_model(Config(), changes)


@pytest.mark.parametrize("horizon", [16, 200])
def test_a_window_that_the_data_chooses_must_have_room_for_the_horizon(horizon: int) -> None:
    tree = {
        "window": {"length_ticks": "auto"},
        "model": {"kind": "prediction", "horizon": horizon},
    }
    with pytest.raises(ConfigError, match=r"horizon: .*\(auto: 16 to 128 ticks\)"):
        parse_config(tree)
    parse_config(tree | {"model": {"kind": "prediction", "horizon": 15}})
