"""Commands of the daemon and its state: run, check, state."""

from __future__ import annotations

import argparse
import dataclasses
import json
import logging
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from detector.cli.terminal import Add, read_config
from detector.errors import AccessError, BrokerError, UsageError

if TYPE_CHECKING:
    from detector.config import Config


def add_commands(add: Add) -> None:
    run = add("run", _run, "Run the daemon until SIGTERM")
    run.add_argument("--model", type=Path, required=True, metavar="DIR")

    state = add("state", _state, "Look at the saved state, or start over on purpose")
    state.add_argument("action", choices=["show", "reset", "grow"], nargs="?", default="show")
    state.add_argument(
        "--to",
        choices=["committed", "state", "earliest", "latest"],
        help="reset: go on from the committed offset, from where the state stands (and keep it), "
        "from the oldest tick or from now",
    )
    state.add_argument("--json", action="store_true")

    check = add("check", _check, "Check configuration, model and broker without running")
    check.add_argument("--model", type=Path, metavar="DIR")
    check.add_argument("--offline", action="store_true", help="do not ask the broker")
    check.add_argument(
        "--show",
        action="store_true",
        help="print the configuration as it is in force, as YAML, without its secrets",
    )
    check.add_argument(
        "--schema", action="store_true", help="print the JSON Schema of config.yaml, for editors"
    )


def _run(options: argparse.Namespace) -> int:
    from prometheus_client import CollectorRegistry

    from detector.build import deployed_threshold
    from detector.model.directory import load_artifact
    from detector.model.link import find_model
    from detector.service import logs
    from detector.service.assembly import make_daemon
    from detector.service.following import Follower
    from detector.service.heap import set_aside, share_one_heap
    from detector.service.viewing.desk import Desk
    from detector.transport.configured import make_broker, prepare_topics
    from detector.web.server import HttpServer
    from detector.web.source import Site, Tally

    share_one_heap()
    config = read_config(options)
    logs.configure(level=config.log.level, form=config.log.format)
    artifact = load_artifact(options.model)
    deployed = deployed_threshold(config, artifact.calibration, artifact.length)
    broker = make_broker(config)
    registry = CollectorRegistry()
    daemon = make_daemon(
        config, artifact, broker, registry, lambda version: find_model(options.model, version)
    )
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGINT):  # nothing is under way yet
        signal.signal(number, lambda *_: sys.exit(0))
    metrics, desk = daemon.metrics, Desk(daemon.viewing, daemon.health)
    tally = Tally(metrics.web_viewers, metrics.web_dropped, metrics.web_refused)
    site = Site(registry, desk, tally)
    server = HttpServer(site, host=config.http.host, port=config.http.port)
    server.start()
    try:
        logs.event(
            "starting",
            broker=broker.describe(),
            model=artifact.version,
            threshold=round(deployed.threshold, 4),
            engine=daemon.engine.name,
        )
        if daemon.engine.why:
            logs.event("scoring with " + str(daemon.engine), level=logging.WARNING)
        if deployed.fell_back:
            logs.event("threshold " + deployed.words(artifact.calibration), level=logging.WARNING)
        logs.event("serving", address=server.address)
        prepare_topics(config, broker, check_state=True)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: daemon.stop() if daemon.opened else sys.exit(0))
        set_aside()
        follower = Follower(
            options.model,
            artifact,
            config,
            lambda: read_config(options),
            daemon.exchange,
            daemon.configure_mutes,
        )
        follower.start()
        signal.signal(signal.SIGHUP, lambda *_: follower.ask())
        try:
            daemon.run()
        finally:
            follower.close()
    finally:
        server.close()
    return 0


def _check(options: argparse.Namespace) -> int:
    from detector.build import deployed_threshold, expected_alerts, make_pipeline
    from detector.config import shown
    from detector.core.features import FeatureSet
    from detector.transport.configured import make_broker, topics

    if options.schema:
        from detector.config.json_schema import json_schema

        print(json.dumps(json_schema(), indent=2))
        return 0
    config = read_config(options)
    if not isinstance(config.features, str):
        FeatureSet.parse(config.features)
    if options.show:
        print(shown(config), end="")
        return 0
    print("configuration: ok")
    _check_bridge(config)
    if options.model:
        from detector.model.directory import load_artifact

        artifact = load_artifact(options.model)
        make_pipeline(config, artifact)
        deployed = deployed_threshold(config, artifact.calibration, artifact.length)
        kind = artifact.manifest["model"]["kind"]
        print(f"model: ok ({artifact.version}, {kind}, threshold {deployed.threshold:.4f})")
        if deployed.fell_back:
            print(f"threshold: {deployed.words(artifact.calibration)}")
        forecast = expected_alerts(
            config, artifact.calibration, artifact.length, deployed.threshold
        )
        if forecast is not None:
            print(f"normal alerts: {forecast.words()}")
    if not options.offline:
        broker = make_broker(config)
        missing = broker.missing(topics(config))
        if missing and not config.topics.create:
            raise BrokerError(
                f"{broker.describe()}: missing topics {', '.join(missing)}; create them or set "
                "topics.create: true"
            )
        lacking = broker.not_permitted(topics(config))
        if lacking:
            raise AccessError(
                f"{broker.describe()}: `detector run` would lack {', '.join(lacking)}: grant it "
                "(docs/security.md)"
            )
        will = f"; will create {', '.join(missing)}" if missing else ""
        print(f"broker: ok ({broker.describe()}{will})")
    return 0


def _check_bridge(config: Config) -> None:
    """The files that its targets need are read; the targets themselves are not asked."""
    bridge = config.bridge
    if bridge.alertmanagers or bridge.webhooks or bridge.exec is not None:
        from detector.bridge.targets import make_targets

        names = ", ".join(target.name for target in make_targets(bridge))
        print(f"bridge: ok ({names})")


def _state(options: argparse.Namespace) -> int:
    from detector.clients.saved_state import grow_state, reset_state, show_state

    config = read_config(options)
    if options.action == "reset" and options.to is None:
        raise UsageError(
            "state reset needs --to: state (go on where the saved state stands, and keep it), "
            "committed, earliest or latest (go on there with empty windows)"
        )
    if options.action != "reset" and options.to is not None:
        raise UsageError(f"state {options.action} takes no --to: that is for state reset")
    if options.action == "grow":
        before, after = grow_state(config)
        if options.json:
            print(json.dumps({"before": before, "after": after}))
        else:
            print(f"{config.state.topic}: {before} partitions before, {after} now")
        return 0
    if options.action == "reset":
        done = reset_state(config, options.to)
        print(json.dumps(done) if options.json else "\n".join(done))
        return 0
    rows = show_state(config)
    if options.json:
        print(json.dumps([dataclasses.asdict(row) for row in rows]))
        return 0
    for row in rows:
        print(
            f"{config.input.topic}/{row.partition}: committed {_or_none(row.committed)}, state "
            f"{_or_none(row.state)} (reads again from {_or_none(row.needed_from)}), "
            f"log {row.first} ... {row.end}, {row.series} series, {row.bytes} bytes, "
            f"model {row.model or 'none'}"
        )
    return 0


def _or_none(value: int | None) -> str:
    return "none" if value is None else str(value)
