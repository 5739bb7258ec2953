"""What a request is answered with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

_TEXT = "text/plain; charset=utf-8"


@dataclass(frozen=True, slots=True)
class Answer:
    """kind: its Content-Type."""

    status: int
    kind: str
    body: bytes

    @classmethod
    def text(cls, status: int, line: str) -> Answer:
        return cls(status, _TEXT, f"{line}\n".encode())


Route = Callable[[], Answer]
