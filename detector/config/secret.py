"""Text that is told to those who need it, and to nobody else."""

from __future__ import annotations

import hmac
from typing import Any

from msgspec import Struct, to_builtins

#: What stands where a secret would.
REDACTED = "***"


class Secret:
    """A password or a token. Whatever prints, formats or encodes it shows that there is one."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return f"Secret({REDACTED})"

    def __str__(self) -> str:
        return REDACTED

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._text.encode(), other._text.encode())

    def __hash__(self) -> int:
        return hash((Secret, self._text))

    def __reduce__(self) -> tuple[type[Secret], tuple[str]]:
        return Secret, (self._text,)  # to a process of our own


def plain(options: Struct) -> dict[str, Any]:
    """As YAML or JSON may hold them, secrets in clear: to be read again, never shown."""
    return _builtins(options, lambda secret: secret.reveal())


def redacted(options: Struct) -> dict[str, Any]:
    """As YAML or JSON may hold them, for people to see."""
    return _builtins(options, str)


def decode_secret(of: type, value: Any) -> Any:
    """What msgspec asks about types that it does not know."""
    if of is not Secret:
        raise NotImplementedError(of)
    if not isinstance(value, str) or not value:
        raise ValueError("must be text")
    return Secret(value)


def schema_of_secret(of: type) -> dict[str, Any]:
    """Likewise, of a JSON Schema."""
    if of is not Secret:
        raise NotImplementedError(of)
    return {"type": "string", "minLength": 1, "writeOnly": True}


def _builtins(options: Struct, write: Any) -> dict[str, Any]:
    def encode(value: Any) -> Any:
        if isinstance(value, Secret):
            return write(value)
        raise NotImplementedError(type(value))

    tree: dict[str, Any] = to_builtins(options, enc_hook=encode)
    return tree
