"""`detector alerts` as a bridge: its targets from the options and the configuration."""

from __future__ import annotations

import argparse
import logging
import signal
from typing import TYPE_CHECKING, Any

from detector.errors import UsageError

if TYPE_CHECKING:
    from detector.config import Config

#: Option of the command -> option of the section bridge.
_OPTIONS = {
    "to_alertmanager": "alertmanagers",
    "webhook": "webhooks",
    "webhook_mode": "webhook_mode",
    "exec": "exec",
    "link": "link",
    "metrics_port": "port",
}
_TARGETS = ("to_alertmanager", "webhook", "exec")


def add_bridge_arguments(alerts: argparse.ArgumentParser) -> None:
    group = alerts.add_argument_group(
        "bridge",
        "Send the alerts on, until SIGTERM, from where the last bridge stopped. An option here "
        "takes the place of the one in the section bridge of the configuration.",
    )
    group.add_argument(
        "--bridge", action="store_true", help="to the targets that the configuration names"
    )
    group.add_argument(
        "--to-alertmanager", nargs="+", metavar="URL", help="each of them gets every alert"
    )
    group.add_argument(
        "--webhook", nargs="+", metavar="URL", help="CloudEvents over HTTP, each event once"
    )
    group.add_argument("--webhook-mode", choices=["structured", "binary"])
    group.add_argument(
        "--exec", metavar="CMD", help="run for each event, which it reads from standard input"
    )
    group.add_argument("--link", metavar="URL", help="where people reach the page of the detector")
    group.add_argument(
        "--metrics-port", type=int, metavar="P", help="/metrics /livez /readyz of the bridge"
    )


def asks_for_bridge(options: argparse.Namespace) -> bool:
    """Raises UsageError for options that only a bridge has, and for those that none has."""
    targets = [name for name in _TARGETS if getattr(options, name) is not None]
    if not targets and not options.bridge:
        for name in _OPTIONS:
            if getattr(options, name) is not None:
                flag = "--" + name.replace("_", "-")
                raise UsageError(
                    f"{flag} needs a target: --to-alertmanager, --webhook, --exec or --bridge"
                )
        return False
    if options.exit or options.to != "lines":
        wrong = "--exit" if options.exit else "--to and --json"
        raise UsageError(f"{wrong}: a bridge prints nothing and runs until it is stopped")
    return True


def with_options(config: Config, options: argparse.Namespace) -> Config:
    """The configuration with what the command line says instead. Raises ConfigError."""
    import msgspec

    from detector.config.checks import check_together

    changes: dict[str, Any] = {}
    for name, option in _OPTIONS.items():
        value = getattr(options, name)
        if value is not None:
            changes[option] = tuple(value) if isinstance(value, list) else value
    if not 0 <= changes.get("port", 0) <= 65535:
        raise UsageError("--metrics-port must be from 0 to 65535")
    changed = msgspec.structs.replace(
        config, bridge=msgspec.structs.replace(config.bridge, **changes)
    )
    check_together(changed)
    return changed


def run_bridge(options: argparse.Namespace, config: Config) -> int:
    from detector.bridge.process import Bridge
    from detector.bridge.targets import make_targets
    from detector.config import supervision
    from detector.service import logs
    from detector.service.supervisor import Supervision, Supervisor
    from detector.transport.configured import make_broker, prepare_topics

    config = with_options(config, options)
    logs.configure(level=config.log.level, form=config.log.format)
    targets = make_targets(config.bridge)
    if not targets:
        raise UsageError(
            "--bridge: the configuration names no target (bridge.alertmanagers, bridge.webhooks, "
            "bridge.exec)"
        )
    broker = make_broker(config)
    logs.event("starting", broker=broker.describe(), targets=" ".join(t.name for t in targets))
    for target in targets:
        if target.insecure:
            logs.event("password without TLS", level=logging.WARNING, target=target.name)
    prepare_topics(config, broker)
    manager = Supervisor(Supervision(*supervision()))
    bridge = Bridge(config, broker, targets, manager, from_beginning=options.from_beginning)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # it has nothing to read again
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: bridge.stop())
    bridge.run()
    logs.event("stopped")
    return 0
