"""The alert topic for people and programs."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec

from detector.config import Config
from detector.errors import DataError
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
    """One line for people: when, state, severity, series, score, what contributed most,
    and what kind of fault it looks like."""
    data = event["data"]
    begin = f"{data['event_time'][:23]}Z {data['state']:9} {data['severity']:8} {data['series']:12}"
    if data["kind"] == "silence":
        return f"{begin} silent {data['score']:8.1f} s > {data['threshold']:g} s"
    if data["state"] == "resolved":
        return f"{begin} peak  {data['peak_score']:8.2f}"
    shares = sorted(data["contributions"].items(), key=lambda item: -item[1])[:3]
    why = " ".join(f"{name} {share:.0%}" for name, share in shares)
    fault = data.get("fault")
    like = f"  looks like {fault['kind']} ({fault['probability']:.0%})" if fault else ""
    return f"{begin} score {data['score']:8.2f} > {data['threshold']:.2f}  {why}{like}"


def published_alerts(config: Config) -> list[dict[str, Any]]:
    """Every event of the alert topic."""
    values: list[bytes] = []
    follow_alerts(config, from_beginning=True, forever=False, show=values.append)
    return [decode(value) for value in values]


def stored_alerts(path: Path) -> list[dict[str, Any]]:
    """Events as `detector alerts --json` prints them, one a line. Raises DataError."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    events = []
    for number, line in enumerate(lines, 1):
        try:
            event = decode(line)
            event["id"], *(event["data"][key] for key in ("alert_id", "state", "observed"))
        except (msgspec.DecodeError, KeyError, TypeError):
            raise DataError(f"{path}: line {number} is no alert") from None
        events.append(event)
    return events


def choose_alert(events: Sequence[dict[str, Any]], identity: str | None) -> dict[str, Any]:
    """The newest event whose id, or whose episode's, begins with identity, an opening before
    what came of it; None: the newest opening that has a window. Raises DataError."""
    if identity is None:
        found = [e for e in events if e["data"]["state"] == "opened" and e["data"]["observed"]]
        if not found:
            raise DataError(f"none of {len(events)} alert events is an opening with a window")
        return found[-1]
    own = [e for e in events if e["id"].startswith(identity)]
    found = own or [e for e in events if e["data"]["alert_id"].startswith(identity)]
    if not found:
        raise DataError(f"none of {len(events)} alert events has an id that begins with {identity}")
    opened = [e for e in found if e["data"]["state"] == "opened"]
    return (opened or found)[-1]


def decode(value: bytes) -> dict[str, Any]:
    event: dict[str, Any] = msgspec.json.decode(value)
    return event
