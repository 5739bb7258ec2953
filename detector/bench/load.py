"""A load for the daemon, and what is seen of it: topics of our own, ticks with spikes, the
metrics, and the alerts as a subscriber sees them."""

from __future__ import annotations

import multiprocessing
import os
import time
from collections.abc import Container
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import yaml

from detector.bench.machine import FIELDS, LENGTH
from detector.build import tick_format
from detector.clients.daemon_process import DaemonProcess, sum_samples
from detector.clients.pacer import Pacer
from detector.config import Config, parse_config, plain
from detector.core.alerts import ANOMALIES, State
from detector.core.cloudevents import decode_alert
from detector.core.encoders import make_encoder
from detector.core.records import Message
from detector.errors import DetectorError, UsageError
from detector.transport.configured import make_broker

SERIES = 64


def bench_config(config: Config, directory: Path) -> Path:
    """The user's transport and delivery, with topics and files of our own."""
    stamp = f"bench-{os.getpid()}-{time.time_ns()}"
    tree: dict[str, Any] = {
        "transport": config.transport,
        "features": {f: f for f in FIELDS},
        "window": {"length_ticks": LENGTH},
        # Evidence: none of the bench's noise is as rare, and each of its spikes is rarer.
        "threshold": {"method": "fixed", "value": 3.5},
        "alerts": {"topic": f"{stamp}-alerts", "open_after": 1, "of_last": 1, "resolve_after": 8},
        "input": {"topic": f"{stamp}-ticks", "format": config.input.format},
        "engine": config.engine,
        "limits": {"threads": config.limits.threads},
        "dead_letters": {"topic": f"{stamp}-dead"},
        "state": {**msgspec.to_builtins(config.state), "topic": f"{stamp}-state"},
        "delivery": msgspec.to_builtins(config.delivery),
        "topics": msgspec.to_builtins(config.topics),
        "embedded": {**msgspec.to_builtins(config.embedded), "path": str(directory / "b.sqlite")},
        "kafka": {
            **plain(config.kafka),
            "group": stamp,
            "transactional_id": stamp,
        },
        "http": {"port": 0},
    }
    parse_config(tree)
    path = directory / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    path.chmod(0o600)  # it may hold a password
    return path


def publish(config: Config, ticks: int, *, rate: float | None, spikes: bool, first: int) -> None:
    """Standard-normal ticks of 64 series in turn; a spike in one of them five times a second
    of stream time."""
    publisher = make_broker(config).publisher()
    pacer = Pacer(rate)
    most = make_encoder(tick_format(config)).together
    batch_size = most if rate is None else max(1, int(rate / 100))
    # Odd, so that each of the series has its turn, and has forgotten the last when it comes again.
    every = 0 if not spikes or rate is None else int(rate / 5) | 1
    spiked = range(every - 1, first + ticks, every) if every else ()
    try:
        for start in range(first, first + ticks, batch_size):
            n = min(batch_size, first + ticks - start)
            batch = tick_messages(config, start, n, spikes=spiked)
            pacer.wait(n)
            publisher.publish(config.input.topic, batch)
        publisher.flush()
    finally:
        publisher.close()


def tick_messages(
    config: Config,
    first: int,
    ticks: int,
    *,
    spikes: Container[int] = (),
    each: bool = False,
    series: int = SERIES,
) -> list[Message]:
    """Ticks by their numbers, from first on, as the configuration wants them written: standard
    normal but for the spikes. A tick's number is its series, in turn of so many, and its time, in
    ms. each: a message a tick, whatever the format holds at once."""
    values = np.random.default_rng(first).normal(0, 1, (ticks, len(FIELDS))).round(4).tolist()
    form = tick_format(config)
    encoder, packed = make_encoder(form), form.format == "packed"
    found: list[Message] = []
    for i, row in enumerate(values, first):
        fields = dict.fromkeys(FIELDS, 1e6) if i in spikes else dict(zip(FIELDS, row, strict=True))
        encoder.add(f"series-{i % series:02d}", i * 10**6 if packed else i / 1000, fields)
        if each:
            found += encoder.take()
    found += encoder.take()
    # The partition is given: hashing keys would cost the publisher a third more.
    partitions = config.topics.partitions
    return [replace(one, partition=int((one.key or b"")[-2:]) % partitions) for one in found]


def watch(daemon: DaemonProcess, ticks: int) -> tuple[float, float]:
    """(ticks a second, CPU seconds) while the daemon works off what was published before."""
    samples: list[tuple[float, float]] = []
    deadline = time.monotonic() + 300
    cpu_before = sum_samples(daemon.get("/metrics") or "", "process_cpu_seconds_total")
    while time.monotonic() < deadline:
        text = daemon.get("/metrics") or ""
        seen = sum_samples(text, "detector_ticks_total")
        if seen > (samples[-1][1] if samples else 0):
            samples.append((time.monotonic(), seen))
        if seen >= ticks:
            cpu_s = sum_samples(text, "process_cpu_seconds_total") - cpu_before
            (t0, n0), (t1, n1) = samples[0], samples[-1]
            if len(samples) < 3:
                raise UsageError("too few ticks to measure a rate: raise --ticks")
            return (n1 - n0) / (t1 - t0), cpu_s
        time.sleep(0.1)
    raise DetectorError(f"only {seen:.0f} of {ticks} ticks were processed in 300 s")


def measure_delays(
    config: Config, daemon: DaemonProcess, first: int, ticks: int, rate: float
) -> list[float]:
    """From the broker's timestamp of the tick to a subscriber's sight of the alert, in ms."""
    reader = make_broker(config).reader(config.alerts.topic, from_beginning=False)
    # A process of its own: in one with the subscriber they would wait for each other's turn.
    publisher = multiprocessing.get_context("spawn").Process(
        target=publish,
        args=(config, ticks),
        kwargs={"rate": rate, "spikes": True, "first": first},
    )
    publisher.start()
    delays_ms = []
    try:
        while publisher.is_alive():
            for record in reader.poll(timeout_s=0.1):
                seen_ms = time.time() * 1e3
                alert = decode_alert(record.value or b"").alert
                if alert.state is State.OPENED and alert.kind in ANOMALIES:
                    delays_ms.append(seen_ms - alert.received_ms)
    finally:
        publisher.join()
        reader.close()
    if publisher.exitcode != 0:
        raise DetectorError(f"the publisher ended with {publisher.exitcode}")
    if not delays_ms:
        raise DetectorError("no alert came: the benchmark measured nothing")
    return delays_ms
