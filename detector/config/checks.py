"""Options that fit each for itself and not together."""

from __future__ import annotations

import math

import msgspec

from detector.config.schema import Config
from detector.core.period import LONGEST, SHORTEST
from detector.errors import ConfigError
from detector.model.family import Architecture, contradiction

#: Of a configuration with features: auto, before any file is read: no kind is too wide for them.
_UNKNOWN_FEATURES = 10**9
#: The one time that may have no end.
_ENDLESS = ("delivery", "retry_timeout_s")


def check_together(config: Config) -> None:
    """Raises ConfigError naming the key."""
    for check in (_numbers, _alerts, _threshold, _model, _training, _topics, _input, _limits):
        check(config)


def architecture_of(
    config: Config, *, features: int | None, length: int | None = None
) -> Architecture:
    """The network that a configuration asks for. features: None: not known yet; length: of the
    window in ticks, where the configuration leaves it to the data."""
    asked = config.window.length_ticks
    options = msgspec.structs.asdict(config.model)
    del options["squash"], options["shadow"]
    width = _UNKNOWN_FEATURES if features is None else features
    return Architecture(
        length=(length or LONGEST) if asked == "auto" else asked, features=width, **options
    )


def _numbers(config: Config) -> None:
    for section, options in msgspec.to_builtins(config).items():
        for name, value in options.items() if isinstance(options, dict) else ():
            endless = isinstance(value, float) and not math.isfinite(value)
            if endless and not (value == math.inf and (section, name) == _ENDLESS):
                raise ConfigError(f"{section}.{name}: must be a finite number, is {value}")


def _alerts(config: Config) -> None:
    if config.alerts.open_after > config.alerts.of_last:
        raise ConfigError(
            f"alerts.open_after: {config.alerts.open_after} windows cannot be among the last "
            f"alerts.of_last = {config.alerts.of_last}"
        )


def _threshold(config: Config) -> None:
    value = config.threshold.value
    if config.threshold.method == "fixed":
        if value is None:
            raise ConfigError("threshold.value: method fixed needs a value")
        if not value > 0:
            raise ConfigError("threshold.value: must be above 0")


def _model(config: Config) -> None:
    features = None if isinstance(config.features, str) else len(config.features)
    auto = config.window.length_ticks == "auto"
    for length in (SHORTEST, LONGEST) if auto else (None,):
        wrong = contradiction(architecture_of(config, features=features, length=length))
        if wrong is not None:
            may = f" (auto: {SHORTEST} to {LONGEST} ticks)" if auto else ""
            raise ConfigError(wrong + may)


def _training(config: Config) -> None:
    training = config.training
    held_out = training.validation_fraction + training.calibration_fraction
    if held_out >= 0.9:
        raise ConfigError(
            "training.calibration_fraction: with validation_fraction it must leave at least a "
            f"tenth of the data to train on, they take {held_out:g}"
        )
    if training.windows_per_epoch < training.batch_size:
        raise ConfigError(
            "training.windows_per_epoch: must hold a batch, at least training.batch_size = "
            f"{training.batch_size}, is {training.windows_per_epoch}"
        )


def _topics(config: Config) -> None:
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


def _input(config: Config) -> None:
    given = config.input
    if given.series_from == "field" and given.series_field == given.timestamp_field:
        raise ConfigError("input.series_field: is also input.timestamp_field")


def _limits(config: Config) -> None:
    forget_s, future_s = config.limits.forget_after_s, config.input.max_future_s
    if forget_s is not None and future_s is not None and forget_s <= future_s:
        raise ConfigError(
            f"limits.forget_after_s: must be above input.max_future_s = {future_s:g}, else one "
            f"tick from the future would forget all series of its partition; is {forget_s:g}"
        )
