"""The alert topic for people and programs: followed, looked up."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path

from detector.config import Config
from detector.core.alerts import Alert, State
from detector.core.cloudevents import decode_alert
from detector.errors import DataError
from detector.transport.broker import Reader
from detector.transport.configured import make_broker, prepare_topics, topics

#: A log that ends in transaction markers may never look read to its end.
_GIVE_UP_S = 10.0
#: How long ticks may wait without one being processed before nobody is taken to work on them.
_PATIENCE_S = 5.0
_LOOK_EVERY_S = 0.5


def follow_alerts(config: Config, *, from_beginning: bool, show: Callable[[bytes], None]) -> None:
    """Hand each alert to show, for ever."""
    broker = make_broker(config)
    prepare_topics(config, broker)
    reader = broker.reader(config.alerts.topic, from_beginning=from_beginning)
    try:
        while True:
            for record in reader.poll(timeout_s=0.5):
                show(record.value or b"")
    finally:
        reader.close()


def read_alerts(
    config: Config,
    *,
    from_beginning: bool,
    show: Callable[[bytes], None],
    patience_s: float = _PATIENCE_S,
) -> int:
    """Hand the alerts there are to show, those of the ticks that wait now included: a worker that
    is at it is waited for, as long as it moves. Returns how many ticks were left."""
    broker = make_broker(config)
    prepare_topics(config, broker)
    reader = broker.reader(config.alerts.topic, from_beginning=from_beginning)
    try:
        ends = {p: stands.end for p, stands in broker.progress(topics(config)).items()}
        left, moved_s = _left(config, ends), time.monotonic()
        while left and time.monotonic() - moved_s < patience_s:
            _show_some(reader, show, timeout_s=_LOOK_EVERY_S)
            now = _left(config, ends)
            if now < left:
                moved_s = time.monotonic()
            left = now
        last_s = time.monotonic()
        while time.monotonic() - last_s < _GIVE_UP_S:
            if _show_some(reader, show, timeout_s=0.2):
                last_s = time.monotonic()
            elif reader.at_end():
                break
        return left
    finally:
        reader.close()


def _show_some(reader: Reader, show: Callable[[bytes], None], *, timeout_s: float) -> bool:
    records = reader.poll(timeout_s=timeout_s)
    for record in records:
        show(record.value or b"")
    return bool(records)


def _left(config: Config, ends: dict[int, int]) -> int:
    """Ticks (records) below ends that no worker has committed."""
    standing = make_broker(config).progress(topics(config))
    return sum(
        max(0, end - max(standing[p].first, standing[p].committed or 0))
        for p, end in ends.items()
        if p in standing
    )


def published_alerts(config: Config) -> list[Alert]:
    """Every event of the alert topic."""
    values: list[bytes] = []
    read_alerts(config, from_beginning=True, show=values.append, patience_s=0.0)
    return [decode_alert(value).alert for value in values]


def stored_alerts(path: Path) -> list[Alert]:
    """Events as `detector alerts --json` prints them, one a line. Raises DataError."""
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    alerts = []
    for number, line in enumerate(lines, 1):
        try:
            alerts.append(decode_alert(line).alert)
        except ValueError:
            raise DataError(f"{path}: line {number} is no alert") from None
    return alerts


def choose_alert(alerts: Sequence[Alert], identity: str | None) -> Alert:
    """The newest event whose id, or whose episode's, begins with identity, an opening before
    what came of it; None: the newest opening that has a window. Raises DataError."""
    if identity is None:
        found = [a for a in alerts if a.state is State.OPENED and len(a.observed)]
        if not found:
            raise DataError(f"none of {len(alerts)} alert events is an opening with a window")
        return found[-1]
    own = [a for a in alerts if a.id.startswith(identity)]
    found = own or [a for a in alerts if a.alert_id.startswith(identity)]
    if not found:
        raise DataError(f"none of {len(alerts)} alert events has an id that begins with {identity}")
    opened = [a for a in found if a.state is State.OPENED]
    return (opened or found)[-1]
