"""The connections there are: so many at once, none that says nothing, none that cannot be ended.

The server bounds neither the number of open connections nor how long a request may take to come.
"""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from typing import Any

from starlette.types import Receive, Scope
from uvicorn.protocols.http.h11_impl import H11Protocol

from detector.web.source import Tally

#: At once. One beyond them is told so and hung up on.
MOST_CONNECTIONS = 256
#: For a request to come.
SILENT_S = 10.0
#: What the kernel keeps for one who does not read, and for how long.
_SEND_BUFFER_BYTES = 65_536
_UNREAD_S = 60

_FULL = (
    b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: text/plain; charset=utf-8\r\n"
    b"Content-Length: 27\r\nRetry-After: 1\r\nConnection: close\r\n\r\ntoo many connections here.\n"
)


class Connections:
    """Of one server."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.held: dict[Any, asyncio.Transport] = {}  # by the address of the client

    async def abort(self, scope: Scope, receive: Receive) -> None:
        """Hang up, whatever is still to be sent; returns once that is known."""
        transport = self.held.get(scope["client"])
        if transport is None:
            return
        transport.abort()
        while (await receive())["type"] != "http.disconnect":
            pass

    def protocol(self) -> type[H11Protocol]:
        """What the server makes of each connection."""
        connections = self

        class Protocol(_Protocol):
            shared = connections

        return Protocol


class _Protocol(H11Protocol):
    shared: Connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as inherited
        self._mine = len(self.shared.held) < MOST_CONNECTIONS
        if not self._mine:
            self.shared.tally.refused.labels("connections").inc()
            transport.write(_FULL)
            transport.close()
            return
        super().connection_made(transport)
        self.shared.held[self.client] = transport
        _bound(transport)
        self._request: object = None
        self._silent = self.loop.call_later(SILENT_S, self._look)

    def _look(self) -> None:
        """Whoever has sent no request since the last look, and waits for no answer, is hung up
        on."""
        waits = self.cycle is not None and not self.cycle.response_complete
        if not waits and self.scope is self._request:
            self.transport.abort()
            return
        self._request = self.scope
        self._silent = self.loop.call_later(SILENT_S, self._look)

    def data_received(self, data: bytes) -> None:
        if self._mine:
            super().data_received(data)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._mine:
            return
        self._silent.cancel()
        self.shared.held.pop(self.client, None)
        if isinstance(exc, OSError) and exc.errno == errno.ETIMEDOUT:
            self.shared.tally.dropped.inc()
        super().connection_lost(exc)


def _bound(transport: asyncio.Transport) -> None:
    """One who stops reading is noticed after kilobytes, and one who vanished after a minute."""
    connection = transport.get_extra_info("socket")
    if connection is not None:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNREAD_S * 1000)


#: The server says in the log what others send that is no request.
logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
