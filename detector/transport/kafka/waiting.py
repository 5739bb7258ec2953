"""What the client's threads wait with."""

from __future__ import annotations

import selectors
from typing import Any


class Selector(selectors.DefaultSelector):
    """Says without words that a socket is not registered. The client asks before each wait, and
    finds out by the KeyError; Python's describes the socket in it, addresses of both ends
    included: a sixth of the CPU time of a transaction (kafka-python 3.0.12)."""

    def __init__(self) -> None:
        super().__init__()
        self._keys: dict[Any, selectors.SelectorKey] = {}

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = super().register(fileobj, events, data)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        key = self._keys[fileobj] = super().modify(fileobj, events, data)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        self._keys.pop(fileobj, None)
        return super().unregister(fileobj)

    def get_key(self, fileobj: Any) -> selectors.SelectorKey:
        return self._keys[fileobj]

    def close(self) -> None:
        self._keys.clear()
        super().close()
