"""Routes on one port, served in a thread of its own."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from detector.errors import ConfigError
from detector.web.answers import Answer, Route

_LOGGER = logging.getLogger("detector.web")
#: At once; each has a thread. One beyond them is hung up on.
MOST_CONNECTIONS = 64
#: For a request, or for the answer to be taken.
SILENT_S = 10.0


class HttpServer:
    """Serves until closed. Port 0 picks a free one; see address."""

    def __init__(self, routes: Mapping[str, Route], *, host: str, port: int) -> None:
        self._routes, self._host, self._port = routes, host, port
        self._server: ThreadingHTTPServer | None = None

    @property
    def address(self) -> str:
        if self._server is None:
            raise ConfigError("the HTTP server is not started")
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def start(self) -> None:
        """Raises ConfigError if the port is taken."""
        try:
            self._server = _Server((self._host, self._port), _handler(self._routes))
        except OSError as error:
            raise ConfigError(
                f"http.port: cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from None
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._room = threading.BoundedSemaphore(MOST_CONNECTIONS)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._room.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._room.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever asked has hung up, or never finished: no news either."""
        _LOGGER.debug("a request from %s was not answered", client_address, exc_info=True)


def _handler(routes: Mapping[str, Route]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = SILENT_S

        def do_GET(self) -> None:
            path = self.path.partition("?")[0]
            route = routes.get(path)
            try:
                answer = Answer.text(404, "not found") if route is None else route()
            except Exception:  # the outermost of a request: it is answered, whatever went wrong
                _LOGGER.exception("GET %s", path)
                answer = Answer.text(500, "internal error, see the log")
            with contextlib.suppress(ConnectionError):  # who hung up wants no answer
                self._send(answer)

        def _send(self, answer: Answer) -> None:
            self.send_response(answer.status)
            self.send_header("Content-Type", answer.kind)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
            """A scrape each few seconds is no news."""

    return Handler
