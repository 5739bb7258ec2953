"""The alert topic for people and programs."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import msgspec

from detector.config import Config
from detector.service.wiring import make_broker, prepare_topics

#: A log that ends in transaction markers may never look read to its end.
_GIVE_UP_S = 10.0


def follow_alerts(
    config: Config,
    *,
    from_beginning: bool,
    forever: bool,
    show: Callable[[bytes], None],
    quiet_s: float = 1.0,
) -> int:
    """Hand each alert to show. Not forever: end when all is read and quiet_s brought nothing
    more. Returns how many there were."""
    broker = make_broker(config)
    prepare_topics(config, broker)
    reader = broker.reader(config.alerts.topic, from_beginning=from_beginning)
    count = 0
    try:
        last_s = time.monotonic()
        while True:
            for record in reader.poll(timeout_s=0.5):
                show(record.value or b"")
                count += 1
                last_s = time.monotonic()
            quiet = time.monotonic() - last_s >= quiet_s
            if (
                not forever
                and quiet
                and (reader.at_end() or time.monotonic() - last_s >= _GIVE_UP_S)
            ):
                return count
    finally:
        reader.close()


def alert_line(event: dict[str, Any]) -> str:
    """One line for people: when, state, severity, series, score and what contributed most."""
    data = event["data"]
    begin = f"{data['event_time'][:23]}Z {data['state']:9} {data['severity']:8} {data['series']:12}"
    if data["kind"] == "silence":
        return f"{begin} silent {data['score']:8.1f} s > {data['threshold']:g} s"
    if data["state"] == "resolved":
        return f"{begin} peak  {data['peak_score']:8.2f}"
    shares = sorted(data["contributions"].items(), key=lambda item: -item[1])[:3]
    why = " ".join(f"{name} {share:.0%}" for name, share in shares)
    return f"{begin} score {data['score']:8.2f} > {data['threshold']:.2f}  {why}"


def decode(value: bytes) -> dict[str, Any]:
    event: dict[str, Any] = msgspec.json.decode(value)
    return event
