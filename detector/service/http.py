"""/metrics, /livez, /readyz and a page for people, on one port, in a thread of its own."""

from __future__ import annotations

import contextlib
import html
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from detector.errors import ConfigError

Probe = Callable[[], str | None]  # None: fine; otherwise what is wrong, in a line
Facts = Callable[[], Sequence[tuple[str, str]]]


class HttpServer:
    """Serves until closed. Port 0 picks a free one; see address."""

    def __init__(
        self, *, host: str, port: int, registry: CollectorRegistry, live: Probe, ready: Probe,
        facts: Facts,
    ) -> None:  # fmt: skip
        self._host, self._port = host, port
        self._registry, self._live, self._ready, self._facts = registry, live, ready, facts
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
            self._server = ThreadingHTTPServer((self._host, self._port), self._handler())
        except OSError as error:
            raise ConfigError(
                f"http.port: cannot listen on {self._host}:{self._port}: {error.strerror}"
            ) from None
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="http", daemon=True).start()

    def close(self) -> None:
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(outer._registry))
                elif path == "/livez":
                    self._probe(outer._live())
                elif path == "/readyz":
                    self._probe(outer._ready())
                elif path == "/":
                    page = _page(outer._facts(), outer._live(), outer._ready())
                    self._answer(200, "text/html; charset=utf-8", page.encode())
                else:
                    self._answer(404, "text/plain; charset=utf-8", b"not found\n")

            def _probe(self, wrong: str | None) -> None:
                status, text = (200, "ok") if wrong is None else (503, wrong)
                self._answer(status, "text/plain; charset=utf-8", f"{text}\n".encode())

            def _answer(self, status: int, kind: str, body: bytes) -> None:
                with contextlib.suppress(ConnectionError):  # who hung up wants no answer
                    self._send(status, kind, body)

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
                """A scrape each few seconds is no news."""

        return Handler


def _page(facts: Sequence[tuple[str, str]], live: str | None, ready: str | None) -> str:
    rows = [("live", live or "yes"), ("ready", ready or "yes"), *facts]
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>detector</title>'
        '<meta http-equiv="refresh" content="5"><style>body{font:16px sans-serif;margin:2rem}'
        "th{text-align:left;padding:.2rem 2rem .2rem 0;font-weight:600}</style>"
        f'<h1>detector</h1><table>{cells}</table><p><a href="/metrics">metrics</a> '
        '<a href="/livez">livez</a> <a href="/readyz">readyz</a></p></html>'
    )
