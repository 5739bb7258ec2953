"""From a Config to running parts: the only place where everything is put together."""

from __future__ import annotations

import socket
from pathlib import Path

from prometheus_client import CollectorRegistry

from detector.artifact import Artifact, require_fit
from detector.config import Config
from detector.core.alerts import AlertPolicy
from detector.core.codec import Codec, TickFormat
from detector.core.pipeline import Pipeline, PipelinePolicy
from detector.core.threshold import Tail, choose_threshold
from detector.core.ticks import Float32
from detector.service.checkpoint import Checkpoints, Deployment
from detector.service.daemon import Daemon, LoopPolicy
from detector.service.metrics import Metrics
from detector.service.recovery import Recovery, RecoveryPolicy
from detector.transport.broker import Broker, Topics


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


def topics(config: Config) -> Topics:
    return Topics(
        config.input.topic, config.alerts.topic, config.dead_letters.topic, config.state.topic
    )


def deployment(config: Config) -> Deployment:
    return Deployment(config.kafka.group, config.alerts.topic)


def make_broker(config: Config) -> Broker:
    """The configured broker; nothing is connected yet."""
    if config.transport == "embedded":
        from detector.transport.embedded import EmbeddedBroker, EmbeddedSettings

        embedded = config.embedded
        return EmbeddedBroker(
            EmbeddedSettings(
                path=Path(embedded.path),
                synchronous=embedded.synchronous,
                retention_s=embedded.retention_hours * 3600,
                retention_records=embedded.retention_records,
            )
        )
    from detector.transport.kafka import KafkaBroker, KafkaSettings  # 0.2 s and 15 MB: if used

    kafka = config.kafka
    security = {
        name: value
        for name in (
            "security_protocol",
            "sasl_mechanism",
            "sasl_plain_username",
            "sasl_plain_password",
            "ssl_cafile",
            "ssl_certfile",
            "ssl_keyfile",
        )
        if (value := getattr(kafka, name)) is not None
    }
    return KafkaBroker(
        KafkaSettings(
            bootstrap_servers=kafka.bootstrap_servers,
            group=kafka.group,
            transactional_id=_instance(kafka.transactional_id),
            group_instance_id=(
                None if kafka.group_instance_id is None else _instance(kafka.group_instance_id)
            ),
            session_timeout_ms=kafka.session_timeout_ms,
            transaction_timeout_ms=kafka.transaction_timeout_ms,
            compression=None if kafka.compression == "none" else kafka.compression,
            partitions=config.topics.partitions,
            replication_factor=config.topics.replication_factor,
            exactly_once=config.delivery.guarantee == "exactly_once",
            retry_timeout_s=config.delivery.retry_timeout_s,
            max_poll_records=config.delivery.max_poll_records,
            security=security,
        )
    )


def prepare_topics(config: Config, broker: Broker, *, check_state: bool = False) -> None:
    """check_state: for a worker, which must not start where its state cannot follow."""
    broker.prepare(
        topics(config),
        partitioned=(config.input.topic, config.alerts.topic),
        create=config.topics.create,
        check_state=check_state,
    )


def _instance(name: str) -> str:
    """A name that may tell hosts apart: {hostname} stands for that of this machine."""
    return name.replace("{hostname}", socket.gethostname())


def configured_threshold(config: Config, scores: Float32, tail: Tail) -> float:
    """The score above which a window is anomalous, of a model's calibration."""
    return choose_threshold(
        config.threshold.method,
        rate=config.threshold.false_alarms_per_window,
        value=config.threshold.value,
        scores=scores,
        tail=tail,
    )


def make_pipeline(config: Config, artifact: Artifact) -> Pipeline:
    """A pipeline with empty state. Raises ArtifactError if the model does not fit."""
    require_fit(artifact, config.features, config.window.length)
    alerts = config.alerts
    policy = PipelinePolicy(
        topic=config.input.topic,
        length=artifact.length,
        stride=config.window.stride,
        max_gap_s=config.window.max_gap_s,
        max_series=config.limits.max_series,
        threshold=configured_threshold(config, artifact.calibration, artifact.tail),
        alerts=AlertPolicy(
            open_after=alerts.open_after,
            of_last=alerts.of_last,
            resolve_after=alerts.resolve_after,
            resolve_ratio=alerts.resolve_ratio,
            critical_ratio=alerts.critical_ratio,
        ),
        model_version=artifact.version,
        max_future_s=config.input.max_future_s,
        silence_s=config.window.silence_s,
        late_is_rejected=config.dead_letters.late,
    )
    scorer = artifact.open_scorer(threads=config.limits.threads)
    classifier = artifact.open_classifier(threads=config.limits.threads)
    return Pipeline(policy, artifact.features, scorer, classifier)


def make_daemon(
    config: Config, artifact: Artifact, broker: Broker, registry: CollectorRegistry
) -> Daemon:
    pipeline = make_pipeline(config, artifact)
    metrics = Metrics(registry, process=True)
    metrics.model.info({"version": artifact.version, "kind": artifact.manifest["model"]["kind"]})
    worker = broker.worker(topics(config))
    # The embedded broker has no other guarantee to give: a batch is one transaction of its file.
    exactly_once = config.delivery.guarantee == "exactly_once" or config.transport == "embedded"
    checkpoints = Checkpoints(
        pipeline,
        deployment(config),
        interval_s=config.state.interval_ms / 1000,
    )
    recovery = Recovery(
        worker,
        checkpoints.codec,
        RecoveryPolicy(
            topic=config.input.topic,
            state_topic=config.state.topic,
            deployment=deployment(config),
            exactly_once=exactly_once,
            start=config.delivery.start,
            on_lost_ticks=config.delivery.on_lost_ticks,
        ),
    )
    return Daemon(
        worker=worker,
        codec=Codec(tick_format(config), artifact.features.fields, pipeline.series),
        pipeline=pipeline,
        checkpoints=checkpoints,
        recovery=recovery,
        metrics=metrics,
        policy=LoopPolicy(
            commit_interval_s=config.delivery.commit_interval_ms / 1000,
            max_poll_records=config.delivery.max_poll_records,
            alert_source=config.alerts.source,
            dead_letter_max_bytes=config.dead_letters.max_bytes,
            hang_timeout_s=config.delivery.hang_timeout_s,
            stop_timeout_s=config.delivery.stop_timeout_s,
        ),
    )
