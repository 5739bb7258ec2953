"""CloudEvents over HTTP.

https://github.com/cloudevents/spec/blob/v1.0.2/cloudevents/bindings/http-protocol-binding.md
"""

from __future__ import annotations

import msgspec

from detector.bridge.events import Event
from detector.bridge.http import HttpTarget
from detector.bridge.verdicts import Attempt
from detector.core.cloudevents import CONTENT_TYPE


class _Data(msgspec.Struct):
    data: msgspec.Raw
    datacontenttype: str = "application/json"


def structured(event: Event) -> tuple[bytes, dict[str, str]]:
    """The body and its headers: the event as it was published."""
    return event.raw, {"Content-Type": CONTENT_TYPE}


def binary(event: Event) -> tuple[bytes, dict[str, str]]:
    """The attributes as headers, the data as the body."""
    whole = msgspec.json.decode(event.raw, type=_Data)
    headers = {
        "ce-specversion": "1.0",
        "ce-id": event.id,
        "ce-source": event.source,
        "ce-type": event.type,
        "ce-subject": event.subject,
        "ce-time": event.time,
    }
    told = {name: encoded(value) for name, value in headers.items() if value}
    return bytes(whole.data), {**told, "Content-Type": whole.datacontenttype}


def encoded(value: str) -> str:
    """As 3.1.3.2 of the binding has it: what is not printable ASCII, a space, a double quote or a
    percent sign as the bytes of its UTF-8."""
    return "".join(
        c if "!" <= c <= "~" and c not in '"%' else "".join(f"%{b:02X}" for b in _utf8(c))
        for c in value
    )


def _utf8(character: str) -> bytes:
    return character.encode(errors="replace")


class Webhook:
    def __init__(self, target: HttpTarget, *, mode: str) -> None:
        self._target = target
        self._bind = binary if mode == "binary" else structured

    def send(self, event: Event) -> Attempt:
        body, headers = self._bind(event)
        return self._target.post(body, headers)

    def close(self) -> None:
        self._target.close()
