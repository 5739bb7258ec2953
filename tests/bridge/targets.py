"""A local HTTP target that answers as it is told and remembers what it was sent."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from tests.kafka_broker import free_ports
from tests.processes import DEADLINE_S


@dataclass(frozen=True)
class Request:
    path: str
    headers: dict[str, str]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)


class Target:
    """answers: statuses in turn, the last for ever. hang: an event; requests wait for it."""

    def __init__(
        self, *answers: int, headers: dict[str, str] | None = None, body: bytes = b""
    ) -> None:
        self._answers, self._headers, self._body = list(answers) or [200], headers or {}, body
        self.requests: list[Request] = []
        self.hang: threading.Event | None = None
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answer_with(self, *answers: int) -> None:
        with self._lock:
            self._answers = list(answers)

    def taken(self) -> list[Request]:
        """So far."""
        with self._lock:
            return list(self.requests)

    def event_ids(self) -> list[str]:
        """Of structured events."""
        return [request.json()["id"] for request in self.taken()]

    def start(self) -> Target:
        target = self

        class Handler(BaseHTTPRequestHandler):
            timeout = 30.0

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
                status = target._remember(Request(self.path, dict(self.headers), body))
                if target.hang is not None:
                    target.hang.wait(DEADLINE_S)
                self.send_response(status)
                for name, value in target._headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(target._body)))
                self.end_headers()
                self.wfile.write(target._body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # who hung up

        self._server = Server(("127.0.0.1", self.port), Handler)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def _remember(self, request: Request) -> int:
        with self._lock:
            self.requests.append(request)
            return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    def stop(self) -> None:
        if self.hang is not None:
            self.hang.set()
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Target:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


class Dripping:
    """Answers 200 and then sends a byte now and then, for ever."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._over = threading.Event()
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def __enter__(self) -> Dripping:
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.recv(1 << 20)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
            while not self._over.wait(0.5):
                connection.sendall(b".")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._over.set()
        self._listener.close()


def free_port() -> int:
    """Below the ephemeral ports, so that no client is given it meanwhile."""
    return free_ports()[0]
