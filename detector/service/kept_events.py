"""Events of open alerts as they are kept with the state of their partition, so that whoever goes on
with it can show what led to each: a replay brings their ticks back only in part.

The event that opened an alert and the one that made it critical are written as they are published,
in the same transaction, and deleted with the one that resolves it. Those without a window are not
kept: all that they say is in the state of their series.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping

from detector.core.alerts import Alert, State
from detector.core.cloudevents import decode_alert
from detector.core.records import Message
from detector.core.state import alert_key
from detector.service.logs import event

#: Of a partition; then the oldest goes. A few kilobytes each.
MOST_KEPT = 256
_KEPT = (State.OPENED, State.ESCALATED)


class KeptEvents:
    """Of one partition."""

    def __init__(self) -> None:
        self._keys: dict[bytes, None] = {}

    def __len__(self) -> int:
        return len(self._keys)

    def restored(self, keys: Iterable[bytes]) -> None:
        """These are saved."""
        self._keys = dict.fromkeys(keys)

    def note(self, alert: Alert, value: bytes) -> Iterator[Message]:
        """What is to be written of a new event, value: as it is published."""
        if alert.state is State.RESOLVED:
            for state in _KEPT:
                yield from self._drop(alert_key(alert.alert_id, state), alert.partition)
        elif alert.state in _KEPT and len(alert.observed):
            key = alert_key(alert.alert_id, alert.state)
            self._keys[key] = None
            yield Message(key, value, partition=alert.partition)
            while len(self._keys) > MOST_KEPT:
                yield from self._drop(next(iter(self._keys)), alert.partition)

    def _drop(self, key: bytes, partition: int) -> Iterator[Message]:
        if key in self._keys:
            del self._keys[key]
            yield Message(key, None, partition=partition)


def recall(kept: Mapping[bytes, bytes]) -> dict[str, list[Alert]]:
    """The events of each alert by its id, the opening first. One that cannot be read is left out:
    it is shown to people, and decides nothing."""
    found: dict[str, list[Alert]] = {}
    for key, value in kept.items():
        try:
            alert = decode_alert(value).alert
        except ValueError as error:
            event(
                "a saved event of an alert cannot be read: left out",
                level=logging.WARNING,
                key=key[:100],
                error=str(error)[:200],
            )
            continue
        found.setdefault(alert.alert_id, []).append(alert)
    for several in found.values():
        several.sort(key=lambda alert: alert.state)
    return found
