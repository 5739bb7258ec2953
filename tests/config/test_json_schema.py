"""The schema that editors use agrees with what the program takes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from detector.config import Config, parse_config
from detector.config.json_schema import json_schema
from detector.config.types import sections
from detector.errors import ConfigError

ROOT = Path(__file__).parents[2]
VALIDATOR = Draft202012Validator(json_schema())
OPTIONS = [(section, one.name) for section, of in sections().items() for one in of.fields]


def test_the_shipped_file_is_the_schema() -> None:
    path = ROOT / "detector" / "schemas" / "config.schema.json"
    assert json.loads(path.read_text()) == json_schema()
    Draft202012Validator.check_schema(json_schema())


@pytest.mark.parametrize(
    "path", [ROOT / "config.yaml", *sorted((ROOT / "deploy" / "examples").glob("*.yaml"))], ids=str
)
def test_every_configuration_we_ship_fits_it(path: Path) -> None:
    VALIDATOR.validate(yaml.safe_load(path.read_text()))


def test_it_describes_every_option_and_refuses_the_unknown() -> None:
    assert not VALIDATOR.is_valid({"windw": {}})
    assert not VALIDATOR.is_valid({"window": {"lenth": 3}})
    assert VALIDATOR.is_valid({"window": {"length": 3}, "kafka": None})
    assert VALIDATOR.is_valid(json.loads(msgspec.json.encode(Config())))


@given(
    option=st.sampled_from(OPTIONS),
    value=st.none()
    | st.booleans()
    | st.integers(-2, 2**33)
    | st.floats(-1, 100, allow_nan=False).filter(lambda number: not number.is_integer())
    | st.text(max_size=4)
    | st.sampled_from(["kafka", "fixed", "reversed", "ns"])
    | st.lists(st.integers(0, 5000) | st.text(max_size=2), max_size=18),
)
@settings(deadline=None, max_examples=400)
def test_it_takes_a_value_where_the_program_does(option: tuple[str, str], value: Any) -> None:
    section, name = option
    tree = {section: {name: value}}
    try:
        parse_config(tree)
    except ConfigError as error:
        # Options that do not fit together: only `detector check` says that.
        together = any(word in str(error) for word in _TOGETHER)
        assert not VALIDATOR.is_valid(tree) or together, error  # noqa: PT017
    else:
        assert VALIDATOR.is_valid(tree)


_TOGETHER = (
    "knows none", "cannot be among", "needs a value", "must hold a batch", "must leave",
    "need four topics", "is also", "must be above", "must be false where", "narrower",
    "is for security_protocol", "needs its certificate",
    "must be a URL", "needs a password", "one line", "command", "twice", "needs bridge.",
)  # fmt: skip
