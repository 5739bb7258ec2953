"""Options that fit each for itself and not together."""

from __future__ import annotations

import math

import msgspec

from detector.config.bridge_checks import check_bridge
from detector.config.schema import Config
from detector.config.secret import redacted
from detector.core.durations import parse_duration
from detector.core.moments import parse_moment
from detector.core.mutes import Mute, Schedule, Windows, named
from detector.core.patterns import Pattern
from detector.core.period import LONGEST, SHORTEST
from detector.core.quiet import Expected
from detector.core.recurring import Recurring
from detector.errors import ConfigError
from detector.model.family import Architecture, contradiction

#: Of a configuration with features: auto, before any file is read: no kind is too wide for them.
_UNKNOWN_FEATURES = 10**9
#: The one time that may have no end.
_ENDLESS = ("delivery", "retry_timeout_s")


def check_together(config: Config) -> None:
    """Raises ConfigError naming the key."""
    for check in (
        *(_numbers, _alerts, _threshold, _model, _training, _topics, _input, _limits),
        *(_encryption, _users, _tokens),
    ):
        check(config)
    check_bridge(config.bridge)
    configured_mutes(config)
    expected_quiet(config)


def architecture_of(
    config: Config, *, features: int | None, length: int | None = None
) -> Architecture:
    """The network that a configuration asks for. features: None: not known yet; length: of the
    window in ticks, where the configuration leaves it to the data."""
    asked = config.window.length_ticks
    options = msgspec.structs.asdict(config.model)
    del options["squash"], options["scaling"], options["shadow"]
    width = _UNKNOWN_FEATURES if features is None else features
    return Architecture(
        length=(length or LONGEST) if asked == "auto" else asked, features=width, **options
    )


def commands_topic(config: Config) -> str:
    """What all workers are told stands here."""
    return config.commands.topic or f"{config.state.topic}-commands"


def configured_mutes(config: Config) -> tuple[Mute, ...]:
    """Each with a name that follows from what it says. Raises ConfigError naming the key."""
    mutes = []
    for number, one in enumerate(config.mutes):
        where = f"mutes[{number}]"
        if Pattern(one.series).matches_everything and not one.all:
            raise ConfigError(
                f"{where}.series: {one.series!r} mutes every series; if that is meant, say so with "
                "all: true"
            )
        if (one.cron is None) != (one.lasts is None):
            raise ConfigError(f"{where}.cron: goes with lasts")
        windows = None
        if one.cron is not None and one.lasts is not None:
            windows = Windows(
                cron=one.cron, lasts_s=_lasts(one.lasts, where), time_zone=one.time_zone
            )
        elif one.until is None:
            raise ConfigError(f"{where}.until: or cron and lasts: a mute has an end")
        mute = Mute(
            id="",
            series=one.series,
            since_ns=_moment(one.since, f"{where}.since"),
            until_ns=_moment(one.until, f"{where}.until"),
            windows=windows,
            reason=one.reason,
        )
        try:
            Schedule.of(mute)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
        mutes.append(named(mute))
    return tuple({mute.id: mute for mute in mutes}.values())


def expected_quiet(config: Config) -> tuple[Expected, ...]:
    """Raises ConfigError naming the key."""
    found = []
    for number, one in enumerate(config.silence.expected):
        where = f"silence.expected[{number}]"
        try:
            windows = Recurring(one.cron, _lasts(one.lasts, where), one.time_zone)
        except ValueError as error:
            raise ConfigError(f"{where}: {error}") from None
        found.append(Expected(Pattern(one.series), windows))
    return tuple(found)


def _lasts(text: str, where: str) -> int:
    try:
        return parse_duration(text)
    except ValueError as error:
        raise ConfigError(f"{where}.lasts: {error}") from None


def _moment(text: str | None, where: str) -> int | None:
    try:
        return None if text is None else parse_moment(text, "iso8601")
    except ValueError:
        raise ConfigError(f"{where}: {text!r:.60} is no time like 2026-11-22T12:30") from None


def _numbers(config: Config) -> None:
    for section, options in redacted(config).items():
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
        commands_topic(config),
    ]
    if len(set(topics)) < len(topics):
        raise ConfigError(
            "alerts.topic: input, alerts, dead letters, state and commands need five topics: "
            f"{topics}"
        )
    if config.bridge.topic in topics:
        raise ConfigError(f"bridge.topic: {config.bridge.topic} is another topic already")


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


def _encryption(config: Config) -> None:
    kafka = config.kafka
    encrypted = kafka.security_protocol.endswith("SSL")
    for name in ("ssl_cafile", "ssl_certfile", "ssl_keyfile", "ssl_password", "ssl_password_file"):
        if getattr(kafka, name) is not None and not encrypted:
            raise ConfigError(
                f"kafka.{name}: is for security_protocol SSL or SASL_SSL, and that is "
                f"{kafka.security_protocol}"
            )
    if kafka.ssl_keyfile is not None and kafka.ssl_certfile is None:
        raise ConfigError("kafka.ssl_keyfile: needs its certificate, kafka.ssl_certfile")
    _one_of(config, "ssl_password", "ssl_password_file")


def _users(config: Config) -> None:
    kafka = config.kafka
    needs_user = kafka.sasl_mechanism not in (None, "OAUTHBEARER")
    if not kafka.security_protocol.startswith("SASL"):
        if kafka.sasl_mechanism is not None:
            raise ConfigError(
                "kafka.sasl_mechanism: is for security_protocol SASL_SSL or SASL_PLAINTEXT, and "
                f"that is {kafka.security_protocol}"
            )
    elif kafka.sasl_mechanism is None:
        raise ConfigError(
            f"kafka.sasl_mechanism: security_protocol {kafka.security_protocol} needs one"
        )
    if needs_user and kafka.sasl_plain_username is None:
        raise ConfigError(f"kafka.sasl_plain_username: {kafka.sasl_mechanism} needs one")
    _one_of(config, "sasl_plain_password", "sasl_plain_password_file", needed=needs_user)


def _tokens(config: Config) -> None:
    wanted = config.kafka.sasl_mechanism == "OAUTHBEARER"
    _one_of(config, "sasl_oauth_token_file", "sasl_oauth_token_command", needed=wanted)


def _one_of(config: Config, one: str, other: str, *, needed: bool = False) -> None:
    """Whether a secret is given once."""
    given = [name for name in (one, other) if getattr(config.kafka, name)]
    if len(given) == 2:
        raise ConfigError(f"kafka.{one}: stands beside kafka.{other}: give one of them")
    if needed and not given:
        raise ConfigError(
            f"kafka.{other}: sasl_mechanism {config.kafka.sasl_mechanism} needs it, or kafka.{one}"
        )
