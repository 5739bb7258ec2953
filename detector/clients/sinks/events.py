"""The events as they are, one a line."""

from __future__ import annotations


def show(event: bytes) -> None:
    """Print it."""
    print(event.decode(), flush=True)
