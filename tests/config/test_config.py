"""Configuration: every mistake is named by its key, and nothing else than ConfigError is raised."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import inspect

from detector.build import make_stream
from detector.config import (
    Config,
    Secret,
    environment_without_options,
    load_config,
    overlay,
    parse_config,
)
from detector.config.reading import read_yaml
from detector.config.schema import RENAMED
from detector.config.types import bare, sections
from detector.errors import ConfigError

ROOT = Path(__file__).parents[2]


def limited_options() -> list[tuple[str, str, float | None, float | None]]:
    found = []
    for section, structure in sections().items():
        for one in structure.fields:
            of = bare(one.type)
            of = bare(of.item_type) if isinstance(of, inspect.VarTupleType) else of
            if isinstance(of, inspect.IntType | inspect.FloatType):
                found.append((section, one.name, of.ge, of.le))
    return found


def test_nothing_configured_is_the_defaults() -> None:
    assert load_config(None, {}) == Config() == parse_config({}) == parse_config(None)


def test_the_commented_file_is_the_defaults() -> None:
    assert load_config(ROOT / "config.yaml", {}) == Config()


def test_a_file_and_the_environment_are_read_the_environment_last(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("window: {length_ticks: 16, stride_ticks: 2}\nalerts:\n  topic: loud\nkafka:\n")
    config = load_config(
        path,
        {
            "DETECTOR_WINDOW__LENGTH_TICKS": "64",
            "DETECTOR_TRANSPORT": "kafka",
            "DETECTOR_KAFKA__SASL_PLAIN_PASSWORD": "12345",
            "DETECTOR_MODEL__UNITS": "[8, 4]",
            "DETECTOR_THRESHOLD__FALSE_ALARMS_PER_WINDOW": "1e-5",
            "DETECTOR_DEAD_LETTERS__TOPIC": "007",
            "DETECTOR_TRAINING__XLA": "false",
            "DETECTOR_FEATURES__STEP": "diff(price)",
            "PATH": "/bin",
        },
    )
    assert (config.window.length_ticks, config.window.stride_ticks, config.alerts.topic) == (
        64,
        2,
        "loud",
    )
    assert (config.transport, config.kafka.sasl_plain_password) == ("kafka", Secret("12345"))
    assert (config.model.units, config.dead_letters.topic) == ((8, 4), "007")
    assert config.threshold.false_alarms_per_window == 1e-5
    assert config.training.xla is False
    assert config.features == {"step": "diff(price)"}


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (
            {"DETECTOR_WINDOW__LENGHT": "3"},
            r"window\.lenght: unknown .*; did you mean 'length_ticks'",
        ),
        ({"DETECTOR_WINDOW__LENGTH_TICKS": "["}, "DETECTOR_WINDOW__LENGTH_TICKS"),
        ({"DETECTOR_WINDOW__LENGTH_TICKS": "2024-99-99"}, "DETECTOR_WINDOW__LENGTH_TICKS"),
        (
            {"DETECTOR_WINDOW__LENGTH_TICKS": "much"},
            r"window\.length_ticks: must be a whole number",
        ),
        (
            {"DETECTOR_WINDOW__LENGTH_TICKS": ""},
            r"length_ticks: must be a whole number or auto, is empty",
        ),
        ({"DETECTOR_TRANSPORT__X": "1", "DETECTOR_TRANSPORT": "kafka"}, "transport"),
        ({"DETECTOR_WINDOW": "3"}, "window: must be a section"),
    ],
)
def test_a_mistake_in_the_environment_is_named(variables: dict[str, str], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        load_config(None, variables)


def test_the_links_kubernetes_sets_for_a_service_named_detector_are_no_options() -> None:
    """Every pod beside such a Service finds these in its environment."""
    links = {
        "DETECTOR_SERVICE_HOST": "10.0.0.7",
        "DETECTOR_SERVICE_PORT": "9464",
        "DETECTOR_PORT": "tcp://10.0.0.7:9464",
        "DETECTOR_PORT_9464_TCP": "tcp://10.0.0.7:9464",
        "DETECTOR_PORT_9464_TCP_ADDR": "10.0.0.7",
    }
    assert load_config(None, links) == Config()


@pytest.mark.parametrize(
    ("tree", "says"),
    [
        ({"windw": {}}, "windw: unknown option; did you mean 'window'?"),
        ({"window": {"qqq": 1}}, "window.qqq: unknown option; known are length_ticks"),
        ({"window": 3}, "window: must be a section of options, is 3"),
        ([], "the file: must be a section"),
        ("text", "the file: must be a section"),
        ({7: 1}, "7: unknown option"),
        ({"transport": "carrier pigeon"}, "transport: must be one of embedded, kafka"),
        ({"window": {"length_ticks": 1}}, "length_ticks: must be from 2 to 100000 or auto, is 1"),
        ({"window": {"length_ticks": 2.5}}, "window.length_ticks: must be a whole number"),
        ({"window": {"length_ticks": True}}, "window.length_ticks: must be a whole number"),
        ({"window": {"length_ticks": None}}, "must be a whole number or auto, is empty"),
        ({"window": {"max_gap_s": "long"}}, "window.max_gap_s: must be a number"),
        ({"training": {"xla": 1}}, "training.xla: must be true or false"),
        ({"alerts": {"topic": 12}}, "alerts.topic: must be text"),
        ({"model": {"units": 32}}, "model.units: must be a list"),
        ({"model": {"units": []}}, "model.units: must be a list of 1 to 16, is []"),
        ({"model": {"units": [16, 0]}}, "model.units[1]: must be from 1 to 4096"),
        ({"model": {"units": ["a"]}}, "model.units[0]: must be a whole number"),
        ({"model": {"kind": "gru"}}, "model.kind: must be one of composite, dense, last_step, "
            "prediction, reconstruction, sequence, is 'gru'"),
        ({"model": {"units": [8] * 17}}, "model.units: must be a list of 1 to 16, is a list of 17"),
        ({"model": {"target_order": "back"}}, "model.target_order: must be one of forward, rever"),
        ({"model": {"conditioned": 1}}, "model.conditioned: must be true or false"),
        ({"model": {"horizon": 0}}, "model.horizon: must be at least 1"),
        ({"model": {"kind": "composite", "prediction_weight": 1.5}},
            "model.prediction_weight: must be from 0 to 1"),
        ({"training": {"windows_per_epoch": 255}}, "training.windows_per_epoch: must hold a batch"),
        ({"features": 3}, "features: must be"),
        ({"features": {}}, "features: must be"),
        ({"features": []}, "features: must be"),
        ({"features": {"a": 1}}, "features.a: must be an expression"),
        ({"features": {1: "a"}}, "features.1: must be an expression"),
        ({"alerts": {"open_after": 4}}, "alerts.open_after: 4 windows cannot be among the last"),
        ({"threshold": {"method": "fixed"}}, "threshold.value: method fixed needs a value"),
        ({"threshold": {"method": "fixed", "value": 0}}, "threshold.value: must be above 0"),
        ({"threshold": {"method": "fixed", "value": math.nan}}, "threshold.value: must be"),
        ({"threshold": {"method": "fixed", "value": math.inf}}, "threshold.value: must be"),
        ({"threshold": {"false_alarms_per_window": math.nan}}, "false_alarms_per_window: must"),
        ({"training": {"validation_fraction": 0.5, "calibration_fraction": 0.4}}, "leave at least"),
        ({"alerts": {"topic": "ticks"}}, "alerts.topic: input, alerts, dead letters, state"),
        ({"input": {"series_field": "timestamp"}}, "input.series_field: is also"),
        ({"window": {"max_gap_s": math.inf}}, "window.max_gap_s"),
        ({"training": {"seed": 2**32}}, "training.seed"),
    ],
    ids=str,
)  # fmt: skip
def test_a_mistake_is_named_by_its_key(tree: Any, says: str) -> None:
    with pytest.raises(ConfigError) as refused:
        parse_config(tree)
    assert says in str(refused.value)
    assert refused.value.exit_code == 78


def test_an_epoch_may_be_one_batch() -> None:
    assert parse_config({"training": {"windows_per_epoch": 256}}).training.batch_size == 256


@pytest.mark.parametrize(("section", "option", "low", "high"), limited_options())
def test_every_limit_holds_on_both_sides(
    section: str, option: str, low: float | None, high: float | None
) -> None:
    default = getattr(getattr(Config(), section), option)
    many = isinstance(default, tuple)
    kind = int if many or isinstance(default, int) else float
    for border, step in ((low, -1), (high, 1)):
        if border is None:
            continue
        beyond: Any = kind(border) + step
        with pytest.raises(ConfigError, match=rf"{section}\.{option}.*must be"):
            parse_config({section: {option: [beyond] if many else beyond}})


def test_numbers_as_people_write_them_are_numbers() -> None:
    config = parse_config(read_yaml("threshold: {false_alarms_per_window: 1e-4}"))
    assert config.threshold.false_alarms_per_window == 1e-4
    assert parse_config({"window": {"max_gap_s": 3}}).window.max_gap_s == 3.0
    assert parse_config({"window": {"max_gap_s": None}}).window.max_gap_s is None


@pytest.mark.parametrize(("renamed", "new"), RENAMED.items(), ids=str)
def test_an_old_name_goes_on_working_and_says_so(
    renamed: tuple[str, str], new: str, caplog: pytest.LogCaptureFixture
) -> None:
    section, old = renamed
    with caplog.at_level("INFO"):
        config = parse_config({section: {old: 7}})
    assert config == parse_config({section: {new: 7}})
    assert caplog.messages == [f"{section}.{old} is called {section}.{new} now; both are read"]
    variable = f"DETECTOR_{section}__{old}".upper()
    assert load_config(None, {variable: "7"}) == config
    with pytest.raises(ConfigError, match=rf"{section}\.{old}: is called .*: give one"):
        parse_config({section: {old: 7, new: 7}})


def test_features_keep_their_order() -> None:
    config = load_config(None, {})
    assert config.features == "auto"
    features = parse_config({"features": {"z": "z", "a": "a"}}).features
    assert list(features) == ["z", "a"]


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"window: [", "not YAML"),
        (b"\xff\xfe\xff", "not YAML"),
        (b"a: b: c", "not YAML"),
        (b"!!python/object:os.system x", "not YAML"),
        (b"window: {length_ticks: 2024-99-99}", "not YAML"),
        (b"- 1", "must be a section"),
        (
            b"window: {stride_ticks: 2}\ninput: {}\nwindow: {length_ticks: 9}",
            "window again .*line 3",
        ),
        (b"window: {length_ticks: 9, length_ticks: 8}", "length_ticks again"),
        (b"input: !!map [a, b]", "not YAML"),
        (b"input: !!set [a]", "not YAML"),
        (b"? [a]\n: 1\n? [a]\n: 2", "not YAML"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    with pytest.raises(ConfigError, match=says):
        load_config(path, {})


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"nowhere\.yaml: No such file"):
        load_config(tmp_path / "nowhere.yaml", {})
    with pytest.raises(ConfigError, match="directory"):
        load_config(tmp_path, {})


def test_an_empty_file_is_the_defaults(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("# nothing\n")
    assert load_config(path, {}) == Config()


_NAMES = [
    *Config.__struct_fields__,
    *(one.name for section in sections().values() for one in section.fields),
    *(old for _, old in RENAMED),
]
_LEAVES = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=5)
    | st.sampled_from(["1e-4", "auto", "kafka", "fixed", "1_000"])
)
_TREES = st.recursive(
    _LEAVES,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(_NAMES) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@given(_TREES)
@settings(deadline=None, max_examples=500)
def test_any_tree_is_a_configuration_or_refused(tree: Any) -> None:
    try:
        config = parse_config(tree)
    except ConfigError:
        return
    assert isinstance(config, Config)
    assert config.threshold.value is None or math.isfinite(config.threshold.value)
    make_stream(config, fields=1)


@given(
    section=st.sampled_from(sorted(sections())),
    data=st.data(),
)
@settings(deadline=None, max_examples=500)
def test_any_value_of_an_option_is_taken_or_refused_by_its_key(
    section: str, data: st.DataObject
) -> None:
    names = [one.name for one in sections()[section].fields]
    option = data.draw(st.sampled_from(names))
    value = data.draw(_LEAVES | st.lists(_LEAVES, max_size=2))
    try:
        config = parse_config({section: {option: value}})
    except ConfigError as error:
        assert str(error).split(":")[0].split(".")[0] in Config.__struct_fields__  # noqa: PT017
        return
    found = getattr(getattr(config, section), option)
    assert not isinstance(found, float) or math.isfinite(found) or option == "retry_timeout_s"


@given(
    st.dictionaries(
        st.lists(st.sampled_from([*_NAMES, "", "x"]).map(str.upper), min_size=1, max_size=3).map(
            lambda parts: "DETECTOR_" + "__".join(parts)
        ),
        st.text("abc0123456789[]{}:,-.'\"&*!% \n", max_size=8),
        max_size=3,
    )
)
@settings(deadline=None, max_examples=500)
def test_any_environment_is_a_configuration_or_refused(environment: dict[str, str]) -> None:
    try:
        assert isinstance(load_config(None, environment), Config)
    except ConfigError as error:
        assert str(error)  # noqa: PT017


def test_a_section_may_be_merged_from_another(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("window: &w {length_ticks: 9}\nmodel: {<<: {units: [4]}, units: [8]}\n")
    config = load_config(path, {})
    assert (config.window.length_ticks, config.model.units) == (9, (8,))


def test_a_repeated_key_in_the_environment_is_refused() -> None:
    with pytest.raises(ConfigError, match="DETECTOR_MODEL: cannot read"):
        load_config(None, {"DETECTOR_MODEL": "{kind: dense, kind: prediction}"})


def test_an_environment_without_options(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETECTOR_LOG__FORMAT", "json")
    monkeypatch.setenv("OTHER", "x")
    found = environment_without_options()
    assert "DETECTOR_LOG__FORMAT" not in found
    assert found["OTHER"] == "x"


def test_an_overlay_leaves_other_options_alone() -> None:
    tree: dict[str, Any] = {"window": {"length_ticks": 5}, "kafka": None}
    overlay(
        tree, {"DETECTOR_WINDOW__STRIDE_TICKS": "2", "DETECTOR_KAFKA__GROUP": "g", "OTHER": "x"}
    )
    assert tree == {"window": {"length_ticks": 5, "stride_ticks": 2}, "kafka": {"group": "g"}}
