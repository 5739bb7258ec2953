"""Tick to alert at given rates, open-loop: from the time a tick was meant to be sent to the sight
of its alert."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from detector.bench.load import SERIES, bench_config, publish
from detector.bench.machine import FIELDS, LENGTH, Results, model_to_measure
from detector.bench.open_loop import Plan, Seen, Sent, delays_ms, publisher, subscriber
from detector.bench.processes import own_process, receive
from detector.clients.daemon_process import DaemonProcess, sum_samples
from detector.config import Config, load_config
from detector.errors import DetectorError, UsageError
from detector.transport.configured import make_broker, prepare_topics

#: The daemon may be behind by so much when the last tick is sent; alerts then have so long to come.
_DRAIN_S = 60.0
_LAST_ALERTS_S = 5.0
#: Ticks before each rate: every series has a full window, and has forgotten the spikes of the last.
_QUIET = SERIES * 2 * LENGTH


def latency(config: Config, model: Path | None, rates: Sequence[float], seconds: float) -> Results:
    """Delays at each rate in turn through the configured broker, the daemon, the publisher and the
    subscriber each a process of its own, and the CPU time of each. Raises DetectorError where the
    daemon has not worked off a rate a minute after its last tick."""
    if not all(rate > 0 for rate in rates) or not seconds > 0:
        raise UsageError("--rates and --seconds must be above 0")
    with tempfile.TemporaryDirectory(prefix="detector-bench-") as name:
        directory = Path(name)
        artifact = model_to_measure(model, directory)
        if artifact.features.fields != FIELDS:
            raise UsageError("bench latency runs the reference model only: leave out --model")
        path = bench_config(config, directory)
        bench = load_config(path, {})
        broker = make_broker(bench)
        prepare_topics(bench, broker)
        first = 0
        table: dict[str, Results] = {}
        with DaemonProcess(path, artifact.path, directory / "daemon.log") as daemon:
            daemon.wait_ready()
            for rate in rates:
                publish(bench, _QUIET, rate=None, spikes=False, first=first)
                first += _QUIET
                daemon.wait_accounted(first, _DRAIN_S)
                plan = Plan(first, max(1, round(rate * seconds)), rate)
                table[f"{rate:g}"] = _at(bench, daemon, plan)
                first += plan.ticks
    return {
        "broker": broker.describe() if config.transport == "kafka" else "embedded",
        "format": config.input.format,
        "seconds": seconds,
        "open_loop": table,
    }


def _at(config: Config, daemon: DaemonProcess, plan: Plan) -> Results:
    expected = plan.spikes()
    with (
        own_process(subscriber, config, expected) as looking,
        own_process(publisher, config, plan) as sending,
    ):
        receive(looking, "subscriber")
        receive(sending, "publisher")
        cpu_s = _cpu_s(daemon)
        sending.send("begin")
        sent: Sent = receive(sending, "publisher", plan.ticks / plan.rate)
        daemon.wait_accounted(plan.first + plan.ticks, _DRAIN_S)
        cpu_s = _cpu_s(daemon) - cpu_s
        if not looking.poll(_LAST_ALERTS_S):
            looking.send("stop")
        seen: Seen = receive(looking, "subscriber")
    delays = delays_ms(plan, sent, seen)
    if not len(delays):
        raise DetectorError("no alert came: the benchmark measured nothing")
    return {
        **{
            f"tick_to_alert_ms_{name}": round(float(np.percentile(delays, q)), 2)
            for name, q in (("p50", 50), ("p99", 99), ("p99.9", 99.9), ("max", 100))
        },
        "alerts": len(delays),
        "alerts_missing": len(expected) - len(delays),
        "sent_ticks_per_s": round(plan.ticks / sent.took_s),
        "publisher_late_ms_p99": round(float(np.percentile(sent.late_ms, 99)), 2),
        "daemon_cpu_us_per_tick": round(cpu_s / plan.ticks * 1e6, 1),
        "publisher_cpu_us_per_tick": round(sent.cpu_s / plan.ticks * 1e6, 1),
        "subscriber_cpu_us_per_tick": round(seen.cpu_s / plan.ticks * 1e6, 1),
    }


def _cpu_s(daemon: DaemonProcess) -> float:
    return sum_samples(daemon.get("/metrics") or "", "process_cpu_seconds_total")
