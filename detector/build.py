"""A configuration and a model to a pipeline. Knows no service and no broker."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from detector.config import Config, expected_quiet
from detector.core.episodes import AlertPolicy
from detector.core.pipeline import Pipeline
from detector.core.rehearsal import Forecast, Rules
from detector.core.stream import Stream, StreamPolicy
from detector.core.tails import Tails, blocks_of
from detector.core.tails import pace as tail_pace
from detector.core.thresholds import choose_threshold
from detector.core.thresholds.calibration import Calibration, Demand
from detector.core.thresholds.deployed import Deployed, supported
from detector.core.tick_format import TickFormat
from detector.core.track import Track, TrackPolicy
from detector.data.chunks import Columns
from detector.errors import ConfigError
from detector.model.directory import Artifact, require_fit


def tick_format(config: Config) -> TickFormat:
    source = config.input
    return TickFormat(
        format=source.format,
        series_from=source.series_from,
        series_field=source.series_field,
        timestamp_field=source.timestamp_field,
        timestamp_unit=source.timestamp_unit,
        max_record_bytes=source.max_record_bytes,
    )


def columns(config: Config) -> Columns:
    """What the columns of data files mean."""
    return Columns(tick_format(config), config.input.label_field, config.input.exclude)


def make_stream(config: Config, *, fields: int) -> Stream:
    """Without any series yet. fields: raw values of a tick."""
    return Stream(
        StreamPolicy(
            fields=fields,
            max_series=config.limits.max_series,
            max_gap_s=config.window.max_gap_s,
            max_future_s=config.input.max_future_s,
            silence_s=config.window.silence_s,
            forget_after_s=config.limits.forget_after_s,
            expected=expected_quiet(config),
        )
    )


def make_track(config: Config, artifact: Artifact) -> Track:
    """Raises ArtifactError if the model does not fit the configuration."""
    require_fit(artifact, config.features, config.window.length_ticks)
    threads = config.limits.threads
    threshold = deployed_threshold(config, artifact.calibration, artifact.length).threshold
    policy = TrackPolicy(
        model_version=artifact.version,
        length=artifact.length,
        stride=config.window.stride_ticks,
        threshold=threshold,
        alerts=alert_policy(config, artifact, threshold),
        kind=artifact.architecture.alert_kind,
        drift=config.alerts.drift_decades,
    )
    score = artifact.open_score(
        threads=threads,
        engine=config.engine,
        stride=config.window.stride_ticks,
        adaptive=config.threshold.adaptive,
        cold_windows=config.threshold.cold_windows,
        incident_windows=config.threshold.incident_windows,
    )
    classifier = artifact.open_classifier(threads=threads)
    return Track(policy, artifact.features, score, classifier, artifact.scales)


def _alert_rules(config: Config) -> AlertPolicy:
    """When alerts open and resolve, whatever the model."""
    alerts = config.alerts
    return AlertPolicy(
        open_after=alerts.open_after,
        of_last=alerts.of_last,
        resolve_after=alerts.resolve_after,
        resolve_ratio=alerts.resolve_ratio,
        critical_ratio=alerts.critical_ratio,
        quiet_ns=round(alerts.quiet_s * 1e9),
    )


def make_pipeline(config: Config, artifact: Artifact) -> Pipeline:
    """With empty state. Raises ArtifactError if the model does not fit."""
    track = make_track(config, artifact)
    return Pipeline(
        make_stream(config, fields=len(artifact.features.fields)),
        track,
        topic=config.input.topic,
        late_is_rejected=config.dead_letters.late,
    )


def deployed_threshold(config: Config, calibration: Calibration, length: int) -> Deployed:
    """The score above which a window is anomalous. length: of the model's window, in ticks. Raises
    ConfigError where the model cannot give what was asked for."""
    asked = config.threshold
    rate = asked.false_alarms_per_window
    if asked.method == "fixed":
        if asked.false_alarms_per_day is not None:
            raise ConfigError("threshold.false_alarms_per_day: method fixed knows no budget")
        threshold, used = choose_threshold("fixed", calibration, Demand(rate, asked.value)), None
    else:
        if asked.false_alarms_per_day is not None:
            rate = _rate_of_a_day(asked.false_alarms_per_day, config, calibration, length)
        # The quantile of a sample refuses by itself what the sample does not tell.
        falls_back = asked.fall_back and asked.method == "pot"
        used = max(rate, supported(calibration)) if falls_back else rate
        threshold = choose_threshold(asked.method, calibration, Demand(used, asked.value))
    if used is None:
        return Deployed(threshold, None, None)
    return Deployed(threshold, rate, used, asked.false_alarms_per_day)


def budget_of(config: Config, artifact: Artifact) -> float:
    """The share of normal windows that its threshold lets through; for one given by hand what it
    means as evidence, or what is configured where scores are none."""
    deployed = deployed_threshold(config, artifact.calibration, artifact.length)
    if deployed.rate is not None:
        return deployed.rate
    if artifact.score == "evidence":
        return float(10.0**-deployed.threshold)
    return config.threshold.false_alarms_per_window


def expected_alerts(
    config: Config, calibration: Calibration, length: int, threshold: float
) -> Forecast | None:
    """On normal data, by the rules that are deployed; None where nothing is known of its times."""
    if calibration.rehearsal is None:
        return None
    return calibration.rehearsal.forecast(threshold, _rules(config, length))


def _rules(config: Config, length: int) -> Rules:
    stride, patience = config.window.stride_ticks, config.threshold.incident_windows
    gap_s = config.window.max_gap_s
    tails = partial(Tails, tail_pace(length=length, stride=stride), patience=blocks_of(patience))
    return Rules(
        alerts=_alert_rules(config),
        stride=stride,
        cold_windows=config.threshold.cold_windows,
        tails=tails if config.threshold.adaptive else None,
        gap_ns=None if gap_s is None else round(min(gap_s * 1e9, 4e18)),
    )


def _rate_of_a_day(a_day: float, config: Config, calibration: Calibration, length: int) -> float:
    """The share of normal windows above a threshold that opens so many alerts a day and series."""
    rehearsal = calibration.rehearsal
    found = None if rehearsal is None else rehearsal.threshold(a_day, _rules(config, length))
    if found is None:
        raise ConfigError(
            "threshold.false_alarms_per_day: this model knows nothing of the times of its held-out "
            "windows; train it again on ticks with times, or give "
            "threshold.false_alarms_per_window"
        )
    return float(min(10.0**-found, 0.5))


def alert_policy(config: Config, artifact: Artifact, threshold: float) -> AlertPolicy:
    """The alert rules for a model: what is critical goes with its threshold."""
    rules = _alert_rules(config)
    if artifact.score != "evidence" or threshold <= 0:
        return rules
    return replace(rules, critical_ratio=(threshold + config.alerts.critical_decades) / threshold)
