"""config.yaml and the environment to a frozen Config: the only reader of the environment.

Every option is a field here with its default and limits; the commented config.yaml at the top
of the repository says what each is for. An environment variable DETECTOR_SECTION__OPTION
(for instance DETECTOR_KAFKA__SASL_PLAIN_PASSWORD) overrides the file.
"""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import math
import os
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import yaml

from detector.errors import ConfigError

_ENVIRONMENT_PREFIX = "DETECTOR_"


def _limited(default: Any, low: float | None = None, high: float | None = None) -> Any:
    """A field whose number must lie in low ... high (both included)."""
    return field(default=default, metadata={"low": low, "high": high})


@dataclass(frozen=True, slots=True)
class InputConfig:
    topic: str = "ticks"
    format: Literal["json", "msgpack"] = "json"
    series_from: Literal["field", "key"] = "field"
    series_field: str = "series"
    timestamp_field: str = "timestamp"
    timestamp_unit: Literal["s", "ms", "us", "ns", "iso8601"] = "s"
    label_field: str = "label"
    max_record_bytes: int = _limited(1_000_000, 1)
    max_future_s: float | None = _limited(86_400.0, 0)


@dataclass(frozen=True, slots=True)
class WindowConfig:
    length: int = _limited(32, 2, 100_000)
    stride: int = _limited(1, 1)
    max_gap_s: float | None = _limited(None, 0)
    silence_s: float | None = _limited(None, 0.001)


@dataclass(frozen=True, slots=True)
class ModelConfig:
    kind: Literal["reconstruction", "sequence", "last_step", "prediction", "composite", "dense"] = (
        "reconstruction"
    )
    units: tuple[int, ...] = _limited((32, 16), 1, 4096)
    activation: Literal["tanh", "relu"] = "tanh"
    squash: float = _limited(4.0, 0.1)
    horizon: int = _limited(1, 1)
    target_order: Literal["forward", "reversed"] = "forward"
    conditioned: bool = False
    prediction_weight: float = _limited(0.5, 0, 1)


@dataclass(frozen=True, slots=True)
class TrainingConfig:
    epochs: int = _limited(30, 1)
    patience: int = _limited(5, 1)
    batch_size: int = _limited(256, 1)
    learning_rate: float = _limited(0.002, 1e-9, 10)
    windows_per_epoch: int = _limited(50_000, 1)
    validation_fraction: float = _limited(0.1, 0.01, 0.5)
    calibration_fraction: float = _limited(0.2, 0.01, 0.8)
    calibration_windows: int = _limited(200_000, 500)
    seed: int = _limited(7, 0, 2**32 - 1)
    xla: bool = True
    max_seconds: float | None = _limited(None, 0.001)


@dataclass(frozen=True, slots=True)
class ThresholdConfig:
    method: Literal["pot", "quantile", "fixed"] = "pot"
    false_alarms_per_window: float = _limited(1e-4, 1e-12, 0.5)
    value: float | None = None


@dataclass(frozen=True, slots=True)
class AlertsConfig:
    topic: str = "alerts"
    source: str = "/detector"
    open_after: int = _limited(2, 1)
    of_last: int = _limited(3, 1, 64)
    resolve_after: int = _limited(10, 1)
    resolve_ratio: float = _limited(1.0, 0.01, 1.0)
    critical_ratio: float = _limited(3.0, 1.0)


@dataclass(frozen=True, slots=True)
class DeadLettersConfig:
    topic: str = "dead-letters"
    max_bytes: int = _limited(900_000, 1)
    late: bool = False


@dataclass(frozen=True, slots=True)
class DeliveryConfig:
    guarantee: Literal["exactly_once", "at_least_once"] = "exactly_once"
    commit_interval_ms: int = _limited(100, 1, 60_000)
    max_poll_records: int = _limited(1024, 1)
    retry_timeout_s: float = _limited(60.0, 0)
    start: Literal["earliest", "latest"] = "earliest"
    on_lost_ticks: Literal["fail", "continue"] = "fail"
    hang_timeout_s: float = _limited(60.0, 1)
    stop_timeout_s: float = _limited(20.0, 1)


@dataclass(frozen=True, slots=True)
class StateConfig:
    topic: str = "detector-state"
    interval_ms: int = _limited(1000, 0, 600_000)


@dataclass(frozen=True, slots=True)
class TopicsConfig:
    create: bool = True
    partitions: int = _limited(4, 1)
    replication_factor: int = _limited(1, 1)


@dataclass(frozen=True, slots=True)
class EmbeddedConfig:
    path: str = "var/detector.sqlite"
    synchronous: Literal["full", "normal"] = "full"
    retention_hours: float = _limited(24.0, 0.001)
    retention_records: int = _limited(10_000_000, 1)


@dataclass(frozen=True, slots=True)
class KafkaConfig:
    bootstrap_servers: str = "localhost:9092"
    group: str = "detector"
    transactional_id: str = "detector-1"
    group_instance_id: str | None = None
    session_timeout_ms: int = _limited(10_000, 6_000)
    transaction_timeout_ms: int = _limited(10_000, 1_000)
    compression: Literal["none", "gzip", "lz4", "snappy", "zstd"] = "none"
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    sasl_mechanism: str | None = None
    sasl_plain_username: str | None = None
    sasl_plain_password: str | None = None
    ssl_cafile: str | None = None
    ssl_certfile: str | None = None
    ssl_keyfile: str | None = None


@dataclass(frozen=True, slots=True)
class HttpConfig:
    host: str = "127.0.0.1"
    port: int = _limited(9464, 0, 65535)


@dataclass(frozen=True, slots=True)
class LimitsConfig:
    max_series: int = _limited(200_000, 1)
    threads: int = _limited(1, 1, 256)


@dataclass(frozen=True, slots=True)
class LogConfig:
    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["text", "json"] = "text"


@dataclass(frozen=True, slots=True)
class Config:
    """Everything that can be set. features: "auto" or {name: expression}."""

    transport: Literal["embedded", "kafka"] = "embedded"
    features: Literal["auto"] | Mapping[str, str] = "auto"
    input: InputConfig = field(default_factory=InputConfig)
    window: WindowConfig = field(default_factory=WindowConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    threshold: ThresholdConfig = field(default_factory=ThresholdConfig)
    alerts: AlertsConfig = field(default_factory=AlertsConfig)
    dead_letters: DeadLettersConfig = field(default_factory=DeadLettersConfig)
    delivery: DeliveryConfig = field(default_factory=DeliveryConfig)
    state: StateConfig = field(default_factory=StateConfig)
    topics: TopicsConfig = field(default_factory=TopicsConfig)
    embedded: EmbeddedConfig = field(default_factory=EmbeddedConfig)
    kafka: KafkaConfig = field(default_factory=KafkaConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    log: LogConfig = field(default_factory=LogConfig)


_TOP_LEVEL = frozenset(f.name for f in dataclasses.fields(Config))


def _read_yaml(text: str) -> Any:
    """YAML without repeated keys: of two sections of one name the first would be forgotten."""
    left, seen = [yaml.compose(text, yaml.SafeLoader)], set()
    while left:
        node = left.pop()
        if id(node) in seen or not isinstance(node, yaml.CollectionNode):
            continue
        seen.add(id(node))
        if isinstance(node, yaml.MappingNode):
            keys = set()
            for key, value in node.value:
                name = (key.tag, str(key.value))
                if name in keys and not key.tag.endswith(":merge"):
                    again = f"{key.value} again"
                    raise yaml.MarkedYAMLError(problem=again, problem_mark=key.start_mark)
                keys.add(name)
                left.append(value)
        else:
            left += node.value
    return yaml.safe_load(text)


def load_config(path: Path | None, environment: Mapping[str, str] | None = None) -> Config:
    """Read a file (None: the defaults) and the environment. Raises ConfigError."""
    tree: Any = {}
    if path is not None:
        try:
            tree = _read_yaml(path.read_text())
        except OSError as error:
            raise ConfigError(f"{path}: {error.strerror}") from None
        except (yaml.YAMLError, ValueError) as error:  # bad UTF-8, a date that is none
            raise ConfigError(f"{path}: not YAML: {' '.join(str(error).split())}") from None
    overlay(
        tree := {} if tree is None else tree, os.environ if environment is None else environment
    )
    return parse_config(tree)


def environment_without_options() -> dict[str, str]:
    """For a child process whose configuration is a file alone."""
    return {k: v for k, v in os.environ.items() if not k.startswith(_ENVIRONMENT_PREFIX)}


def overlay(tree: Any, environment: Mapping[str, str]) -> None:
    """Write DETECTOR_SECTION__OPTION=value into the tree; values are read as YAML."""
    for name, text in sorted(environment.items()):
        if not name.startswith(_ENVIRONMENT_PREFIX) or not isinstance(tree, dict):
            continue
        *sections, option = name.removeprefix(_ENVIRONMENT_PREFIX).lower().split("__")
        if not sections and option not in _TOP_LEVEL:
            continue  # Kubernetes sets DETECTOR_PORT and the like for a service of that name
        target = tree
        for section in sections:
            if target.get(section) is None:
                target[section] = {}
            target = target[section]
            if not isinstance(target, dict):
                raise ConfigError(f"environment variable {name}: {section} is no section")
        # A secret made of digits stays text: the option's type decides.
        try:
            target[option] = text if _is_text(sections, option) else _read_yaml(text)
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"environment variable {name}: cannot read {text!r:.60}") from None


def with_model(config: Config, changes: Mapping[str, str]) -> Config:
    """The same with other options of the section model, each read as YAML; a list by comma
    (units: "64,32"). An option that the named kind does not know and that is not named too falls
    back to its default. Raises ConfigError naming the key."""
    tree = dataclasses.asdict(config)
    tree["model"]["units"] = list(config.model.units)
    hints = typing.get_type_hints(ModelConfig)
    for name, kinds in OPTIONS_OF_KINDS.items():
        if "kind" in changes and name not in changes and changes["kind"] not in kinds:
            tree["model"][name] = getattr(ModelConfig(), name)
    for name, text in changes.items():
        try:
            items = [_read_yaml(part) for part in text.split(",")]
        except (yaml.YAMLError, ValueError):
            raise ConfigError(f"model.{name}: cannot read {text!r:.60}") from None
        is_list = typing.get_origin(hints.get(name)) is tuple
        tree["model"][name] = items if is_list or len(items) > 1 else items[0]
    return parse_config(tree)


def parse_config(tree: Any) -> Config:
    """A Config from what YAML gave. Raises ConfigError naming the key."""
    config: Config = _section(Config, tree, "")
    _check_together(config)
    return config


def _check_together(config: Config) -> None:
    if config.alerts.open_after > config.alerts.of_last:
        raise ConfigError(
            f"alerts.open_after: {config.alerts.open_after} windows cannot be among the last "
            f"alerts.of_last = {config.alerts.of_last}"
        )
    if config.threshold.method == "fixed":
        if config.threshold.value is None:
            raise ConfigError("threshold.value: method fixed needs a value")
        if config.threshold.value <= 0:
            raise ConfigError("threshold.value: must be above 0")
    _check_model(config)
    held_out = config.training.validation_fraction + config.training.calibration_fraction
    if held_out >= 0.9:
        raise ConfigError(
            "training.calibration_fraction: with validation_fraction it must leave at least a "
            f"tenth of the data to train on, they take {held_out:g}"
        )
    if config.training.windows_per_epoch < config.training.batch_size:
        raise ConfigError(
            "training.windows_per_epoch: must hold a batch, at least training.batch_size = "
            f"{config.training.batch_size}, is {config.training.windows_per_epoch}"
        )
    topics = [
        config.input.topic,
        config.alerts.topic,
        config.dead_letters.topic,
        config.state.topic,
    ]
    if len(set(topics)) < 4:
        raise ConfigError(
            f"alerts.topic: input, alerts, dead letters and state need four topics: {topics}"
        )
    if config.input.series_from == "field" and (
        config.input.series_field == config.input.timestamp_field
    ):
        raise ConfigError("input.series_field: is also input.timestamp_field")


#: Kinds with a decoder for ticks the encoder has not read; kinds whose decoder is fed the vector.
_PREDICTING = ("prediction", "composite")
_REPEATING = ("reconstruction", "prediction", "composite")
#: Options of the section model that only some kinds know.
OPTIONS_OF_KINDS = {
    "horizon": _PREDICTING,
    "target_order": _REPEATING,
    "conditioned": _REPEATING,
    "prediction_weight": ("composite",),
}
_MOST_LAYERS = 16
#: A conditioned decoder of more steps would be a graph of many thousand operators.
_MOST_CONDITIONED_TICKS = 1000


def _check_model(config: Config) -> None:
    """Options that contradict the kind would be ignored: refused instead."""
    model, length = config.model, config.window.length
    if not model.units:
        raise ConfigError("model.units: at least one layer is needed")
    if len(model.units) > _MOST_LAYERS:
        raise ConfigError(
            f"model.units: at most {_MOST_LAYERS} layers, is a list of {len(model.units)}"
        )
    for name, kinds in OPTIONS_OF_KINDS.items():
        value, default = getattr(model, name), getattr(ModelConfig(), name)
        if value != default and model.kind not in kinds:
            raise ConfigError(
                f"model.{name}: kind {model.kind} knows none, leave it at {_as_yaml(default)}; it "
                f"is for kind {_or(kinds)}, is {_as_yaml(value)}"
            )
    if model.kind in _PREDICTING and model.horizon >= length:
        raise ConfigError(
            f"model.horizon: must leave a tick to predict from, from 1 to {length - 1} with "
            f"window.length = {length}, is {model.horizon}"
        )
    if model.conditioned and length > _MOST_CONDITIONED_TICKS:
        raise ConfigError(
            f"model.conditioned: must be false where window.length is above "
            f"{_MOST_CONDITIONED_TICKS}, it is {length}"
        )
    if model.kind == "dense" and not isinstance(config.features, str):
        flat = length * len(config.features)
        if min(model.units) >= flat:
            raise ConfigError(
                f"model.units: a layer of kind dense must be narrower than the window's {flat} "
                f"numbers (window.length x features), the narrowest is {min(model.units)}"
            )


def _as_yaml(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _or(kinds: tuple[str, ...]) -> str:
    return " or ".join(filter(None, (", ".join(kinds[:-1]), kinds[-1])))


def _section(cls: Any, tree: Any, path: str) -> Any:
    if tree is None:
        tree = {}
    if not isinstance(tree, dict):
        raise ConfigError(f"{path or 'the file'}: must be a section of options, is {_shown(tree)}")
    known = {f.name: f for f in dataclasses.fields(cls)}
    hints = typing.get_type_hints(cls)
    values = {}
    for key, value in tree.items():
        where = f"{path}.{key}" if path else str(key)
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{where}: unknown option; {hint}")
        if key == "features" and not path:
            values[key] = _features(value)
        elif dataclasses.is_dataclass(hints[key]):
            values[key] = _section(hints[key], value, where)
        else:
            values[key] = _value(hints[key], value, where, known[key].metadata)
    return cls(**values)


def _features(value: Any) -> Any:
    if value == "auto":
        return value
    if not isinstance(value, dict) or not value:
        raise ConfigError(f'features: must be "auto" or {{name: expression}}, is {_shown(value)}')
    for name, expression in value.items():
        if not isinstance(name, str) or not isinstance(expression, str):
            raise ConfigError(f"features.{name}: must be an expression like log_return(price)")
    return dict(value)


def _value(hint: Any, value: Any, where: str, limits: Mapping[str, Any]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        if value is None:
            return None
        return _value(next(a for a in arguments if a is not type(None)), value, where, limits)
    if origin is Literal:
        if value not in arguments:
            raise ConfigError(
                f"{where}: must be one of {', '.join(map(str, arguments))}, is {_shown(value)}"
            )
        return value
    if origin is tuple:
        if not isinstance(value, list):
            raise ConfigError(f"{where}: must be a list like [32, 16], is {_shown(value)}")
        return tuple(
            _value(arguments[0], item, f"{where}[{i}]", limits) for i, item in enumerate(value)
        )
    if hint is float and isinstance(value, str):
        # YAML 1.1 reads 1e-4 as text; everyone who writes it means the number.
        with contextlib.suppress(ValueError):
            value = float(value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise ConfigError(f"{where}: must be {_NAMES[hint]}, is {_shown(value)}")
    if hint is float and not math.isfinite(value):
        raise ConfigError(f"{where}: must be a finite number, is {value}")
    low, high = limits.get("low"), limits.get("high")
    if (low is not None and not value >= low) or (high is not None and not value <= high):
        bounds = f"at least {low:g}" if high is None else f"from {low:g} to {high:g}"
        raise ConfigError(f"{where}: must be {bounds}, is {value}")
    return value


_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


def _shown(value: Any) -> str:
    return "empty" if value is None else f"{value!r:.60}"


def _is_text(sections: list[str], option: str) -> bool:
    cls: Any = Config
    for name in [*sections, option]:
        hint = typing.get_type_hints(cls).get(name) if dataclasses.is_dataclass(cls) else None
        cls = hint
    return cls is str or cls == (str | None)
