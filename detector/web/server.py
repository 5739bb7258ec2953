"""A site on one port, served in a thread of its own."""

from __future__ import annotations

import asyncio
import socket
import threading

import uvicorn

from detector.errors import ConfigError
from detector.web.connections import Connections
from detector.web.site import make_app
from detector.web.source import Site
from detector.web.viewers import Viewers

#: Connections taken up at once; others wait with the kernel.
_BACKLOG = 128
#: For those who are being answered, at the end.
_FAREWELL_S = 2


class HttpServer:
    """Serves until closed. Port 0 picks a free one; see address."""

    def __init__(self, site: Site, *, host: str, port: int) -> None:
        self.site, self._host, self._port = site, host, port
        self._serving: _Serving | None = None

    @property
    def address(self) -> str:
        if self._serving is None:
            raise ConfigError("the HTTP server is not started")
        host, port = self._serving.name[:2]
        return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"

    def start(self) -> None:
        """Raises ConfigError if the port is taken."""
        try:
            listening = _listen(self._host, self._port)
        except OSError as error:
            raise ConfigError(
                f"http.port: cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from None
        self._serving = _Serving(self.site, listening)
        self._serving.start()

    def close(self) -> None:
        if self._serving is not None:
            self._serving.end()
            self._serving = None


def _listen(host: str, port: int) -> socket.socket:
    family, kind, protocol, _, address = socket.getaddrinfo(
        host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    )[0]
    # The protocol is named: asyncio takes Nagle's algorithm off sockets that say TCP alone, and
    # with it every second answer on a connection comes 40 ms late.
    listening = socket.socket(family, kind, protocol)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except OSError:
        listening.close()
        raise
    return listening


class _Serving:
    """The thread, from start to end."""

    def __init__(self, site: Site, listening: socket.socket) -> None:
        self._listening, self.name = listening, listening.getsockname()
        self._viewers = Viewers(site.source, site.tally)
        connections = Connections(site.tally)
        self._server = uvicorn.Server(
            uvicorn.Config(
                make_app(site, self._viewers, connections),
                loop="asyncio",
                http=connections.protocol(),
                ws="none",
                lifespan="off",
                interface="asgi3",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                backlog=_BACKLOG,
                timeout_graceful_shutdown=_FAREWELL_S,
            )
        )
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="http", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._server.serve([self._listening]))
            self._loop.run_until_complete(self._loop.shutdown_default_executor())
        finally:
            self._loop.close()
            self._listening.close()

    def end(self) -> None:
        """Returns when the port is free."""
        self._server.should_exit = True
        try:
            self._loop.call_soon_threadsafe(self._viewers.close)
        except RuntimeError:
            return  # it has ended by itself
        self._thread.join(2 * _FAREWELL_S + 1)
