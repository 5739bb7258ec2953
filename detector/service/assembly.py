"""A configuration, a model and a broker to a daemon: the only place where it is put together."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass

from prometheus_client import CollectorRegistry

from detector.build import deployed_threshold, expected_alerts, make_pipeline, tick_format
from detector.config import Config, configured_mutes, supervision
from detector.core.codec import Codec
from detector.core.mutes import Mute
from detector.core.pipeline import Pipeline
from detector.core.state import Deployment
from detector.model.directory import Artifact
from detector.service.checkpoint import Checkpoints
from detector.service.commands import Commands, CommandThread, NoCommands
from detector.service.commit import CommitPolicy, Commits
from detector.service.exchange import Exchange
from detector.service.health import Health, HealthPolicy
from detector.service.judges import Find, Judges
from detector.service.logs import event
from detector.service.loop import Loop, PollPolicy
from detector.service.maintenance import Maintenance
from detector.service.metrics import Metrics
from detector.service.partitions import Partitions
from detector.service.recovery import Recovery, RecoveryPolicy
from detector.service.supervisor import Supervision
from detector.service.viewing.recent import Recent
from detector.service.viewing.state import StateView
from detector.service.viewing.viewing import Viewing
from detector.transport.broker import Broker, Worker
from detector.transport.configured import deployment, topics


@dataclass(frozen=True, slots=True)
class Policies:
    """Everything a daemon's parts are told."""

    deployment: Deployment
    commit: CommitPolicy
    health: HealthPolicy
    poll: PollPolicy
    recovery: RecoveryPolicy
    state_interval_s: float
    supervision: Supervision
    mutes: tuple[Mute, ...] = ()


def policies(config: Config) -> Policies:
    delivery, ours = config.delivery, deployment(config)
    return Policies(
        deployment=ours,
        commit=CommitPolicy(
            interval_s=delivery.commit_interval_ms / 1000,
            most_ahead=delivery.max_poll_records,
            alert_source=config.alerts.source,
            dead_letter_max_bytes=config.dead_letters.max_bytes,
        ),
        health=HealthPolicy(
            hang_timeout_s=delivery.hang_timeout_s, stop_timeout_s=delivery.stop_timeout_s
        ),
        poll=PollPolicy(max_records=delivery.max_poll_records, max_bytes=delivery.max_poll_bytes),
        recovery=RecoveryPolicy(
            topic=config.input.topic,
            state_topic=config.state.topic,
            deployment=ours,
            # The embedded broker has no other guarantee to give.
            exactly_once=delivery.guarantee == "exactly_once" or config.transport == "embedded",
            start=delivery.start,
            on_lost_ticks=delivery.on_lost_ticks,
        ),
        state_interval_s=config.state.interval_ms / 1000,
        supervision=Supervision(*supervision()),
        mutes=configured_mutes(config),
    )


def make_daemon(
    config: Config,
    artifact: Artifact,
    broker: Broker,
    registry: CollectorRegistry,
    find: Find | None = None,
) -> Loop:
    """find: tells models that were in use before by their versions."""
    pipeline = make_pipeline(config, artifact)
    metrics = Metrics(registry, alert_kind=pipeline.primary.policy.kind, process=True)
    metrics.model.info({"version": artifact.version, "kind": artifact.manifest["model"]["kind"]})
    engine = pipeline.primary.engine
    metrics.engine.info({"name": engine.name, "why": engine.why})
    deployed = deployed_threshold(config, artifact.calibration, artifact.length)
    metrics.tell_threshold(
        deployed, expected_alerts(config, artifact.calibration, artifact.length, deployed.threshold)
    )
    metrics.max_series.set(config.limits.max_series)
    codec = Codec(tick_format(config), artifact.features.fields)
    if codec.slow_because:
        event(f"JSON is decoded slowly: {codec.slow_because}", level=logging.WARNING)
    names = topics(config)
    return assemble(
        broker.worker(names),
        codec,
        pipeline,
        metrics,
        policies(config),
        broker=broker.describe(),
        commands=CommandThread(
            lambda: broker.reader(names.commands, from_beginning=True),
            metrics.access_refused.inc,
        ),
        judges=Judges(config, artifact, find or (lambda _: None)),
    )


def assemble(
    worker: Worker,
    codec: Codec,
    pipeline: Pipeline,
    metrics: Metrics,
    told: Policies,
    *,
    broker: str = "",
    commands: Commands | None = None,
    judges: Judges | None = None,
    wall_s: Callable[[], float] = time.time,
    monotonic_s: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Loop:
    """The parts of a daemon around its worker and its pipeline. broker: in words, to be shown."""
    partitions = Partitions()
    checkpoints = Checkpoints(
        pipeline, partitions, told.deployment, interval_s=told.state_interval_s
    )
    recent = Recent(pipeline, monotonic_s=monotonic_s)
    commits = Commits(
        worker,
        checkpoints,
        partitions,
        metrics,
        recent,
        told.commit,
        wall_s=wall_s,
        monotonic_s=monotonic_s,
    )
    recovery = Recovery(
        worker, partitions, checkpoints.codec, told.recovery, monotonic_s=monotonic_s
    )
    health = Health(
        worker,
        pipeline,
        partitions,
        metrics,
        told.health,
        under_way_s=commits.under_way_s,
        wall_s=wall_s,
        monotonic_s=monotonic_s,
        supervision=told.supervision,
    )
    exchange = Exchange(pipeline, partitions, checkpoints, recovery, commits, metrics, judges)
    state = StateView(
        pipeline,
        partitions,
        health,
        recent.pace,
        broker=broker,
        wall_s=wall_s,
        beside=lambda: exchange.snapshot()["shadow"],
    )
    return Loop(
        worker=worker,
        codec=codec,
        pipeline=pipeline,
        partitions=partitions,
        checkpoints=checkpoints,
        commits=commits,
        maintenance=Maintenance(
            commands or NoCommands(),
            told.mutes,
            pipeline,
            partitions,
            commits,
            metrics,
            where=told.recovery.state_topic,
            monotonic_s=monotonic_s,
        ),
        recovery=recovery,
        exchange=exchange,
        health=health,
        viewing=Viewing(pipeline, recent, state, monotonic_s=monotonic_s),
        metrics=metrics,
        policy=told.poll,
        monotonic_s=monotonic_s,
        sleep=sleep,
    )
