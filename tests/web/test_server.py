"""The HTTP port, asked over a real connection."""

from __future__ import annotations

import resource
import socket
import threading
import urllib.request
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, HTTPException

import pytest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from detector.errors import ConfigError
from detector.web import connections
from detector.web.server import HttpServer, _listen
from tests.processes import samples, wait_for
from tests.web.serving import Served, StillSource, serving


def raw(served: Served, request: bytes) -> bytes:
    """All that is answered before the other side hangs up."""
    with socket.create_connection(served.place, timeout=60) as client:
        try:
            client.sendall(request)
            return b"".join(iter(lambda: client.recv(65536), b""))
        except ConnectionError:
            return b""


def test_metrics_can_be_parsed_and_follow_the_counters() -> None:
    with serving(process=True) as served:
        status, kind, body = served.get("/metrics")
        assert (status, kind) == (200, CONTENT_TYPE_LATEST)
        assert samples(body)[("detector_dead_letters_total", ())] == 0
        assert samples(body)[("process_resident_memory_bytes", ())] > 0
        served.metrics.dead_letters.inc(3)
        body = served.get("/metrics?x=1")[2]
        assert samples(body)[("detector_dead_letters_total", ())] == 3


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_answers_200_while_fine_and_503_with_the_reason_else(path: str) -> None:
    wrong: dict[str, str | None] = {"/livez": None, "/readyz": None}
    source = StillSource(live=lambda: wrong["/livez"], ready=lambda: wrong["/readyz"])
    with serving(source) as served:
        assert served.get(path)[::2] == (200, "ok\n")
        wrong[path] = "not joined yet"
        assert served.get(path)[::2] == (503, "not joined yet\n")
        other = "/livez" if path == "/readyz" else "/readyz"
        assert served.get(other)[0] == 200
        wrong[path] = None
        assert served.get(path)[0] == 200


def test_the_page_and_all_it_needs_come_from_here() -> None:
    with serving() as served:
        status, kind, page = served.get("/")
        assert (status, kind) == (200, "text/html; charset=utf-8")
        assert "://" not in page
        for path in ("app.js", "page.css", "vendor/uPlot.iife.min.js", "vendor/uPlot-LICENSE"):
            assert served.get(f"/static/{path}")[0] == 200


@pytest.mark.parametrize(
    "path", ["/", "/metrics", "/livez", "/api/v1/state", "/static/app.js", "/x"]
)
def test_every_answer_tells_the_browser_to_do_nothing_else(path: str) -> None:
    with serving() as served:
        connection = HTTPConnection(*served.place, timeout=60)
        connection.request("GET", path)
        headers = dict(connection.getresponse().getheaders())
        connection.close()
    policy = headers["content-security-policy"].split("; ")
    assert "default-src 'none'" in policy
    assert "script-src 'self'" in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "no-referrer"
    assert "server" not in headers


@pytest.mark.parametrize(
    "path",
    ["/nothing", "/metrics/", "/../etc/passwd", "/livez/x", "/static/../server.py", "/static/",
     "/static/%2e%2e/server.py", "/static/..%2fserver.py"],
)  # fmt: skip
def test_other_paths_are_not_found(path: str) -> None:
    with serving() as served:
        assert served.get(path)[::2] == (404, "not found\n")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"])
@pytest.mark.parametrize("path", ["/", "/api/v1/alerts/x", "/metrics"])
def test_an_attempt_to_write_is_refused_and_counted(method: str, path: str) -> None:
    with serving() as served:
        connection = HTTPConnection(*served.place, timeout=60)
        connection.request(method, path, body=b"{}" if method in ("POST", "PUT") else None)
        answer = connection.getresponse()
        assert (answer.status, answer.getheader("allow")) == (405, "GET, HEAD")
        answer.read()
        connection.close()
        assert served.sample("web_refused_requests_total", reason="method") == 1


def test_a_head_has_the_headers_and_no_body() -> None:
    with serving() as served:
        request = urllib.request.Request(f"{served.address}/livez", method="HEAD")
        with urllib.request.urlopen(request, timeout=60) as answer:
            assert (answer.status, answer.read()) == (200, b"")


def test_a_request_of_a_megabyte_is_refused() -> None:
    mega = b"a" * 10**6
    with serving() as served:
        assert b"414" in raw(
            served, b"GET /?" + mega[:5000] + b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        ).split(b"\r\n")[0]  # fmt: skip
        for request in (
            b"GET /" + mega + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + mega + b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + mega,
        ):
            # What is left of it may be unread when we are hung up on: then the answer is lost.
            answer = raw(served, request).split(b"\r\n")[0]
            assert answer[9:10] in (b"4", b"")
        assert served.sample("web_refused_requests_total", reason="size") == 1
        assert served.sample("web_refused_requests_total", reason="body") == 1
        assert served.get("/livez")[0] == 200


def test_what_is_no_request_is_answered_and_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    with serving() as served:
        assert b" 400 " in raw(served, b"\x16\x03\x01\x00\xa5 no HTTP\r\n\r\n").split(b"\r\n")[0]
        assert served.get("/livez")[0] == 200
    assert not caplog.records


def test_a_port_that_is_taken_gives_one_line_that_names_the_option() -> None:
    with serving() as served, socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = HttpServer(served.server.site, host="127.0.0.1", port=port)
        with pytest.raises(ConfigError) as refused:
            server.start()
        server.close()
    assert str(refused.value).startswith(f"http.port: cannot listen on 127.0.0.1:{port}: ")
    assert "\n" not in str(refused.value)


def test_a_closed_server_frees_its_port_and_may_be_closed_again() -> None:
    with serving() as served:
        place = served.place
        served.server.close()
        with socket.create_server(place):
            pass
        with pytest.raises(ConfigError):
            _ = served.address


def test_a_client_that_hangs_up_does_not_disturb_the_others(
    capfd: pytest.CaptureFixture[str],
) -> None:
    with serving() as served:
        for _ in range(20):
            with socket.create_connection(served.place) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert served.get("/metrics")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_route_that_fails_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str | None:
        raise RuntimeError("dictionary changed size during iteration")

    with serving(StillSource(live=broken)) as served:
        assert served.get("/livez")[::2] == (500, "internal error, see the log\n")
        assert served.get("/readyz")[0] == 200
    assert "dictionary changed size" in caplog.text


def test_those_who_connect_and_say_nothing_are_hung_up_on_and_cost_no_thread(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(connections, "SILENT_S", 1.0)
    monkeypatch.setattr(connections, "MOST_CONNECTIONS", 64)
    with serving() as served, ExitStack() as stack:
        before = threading.active_count()
        for _ in range(64 + 20):
            stack.enter_context(socket.create_connection(served.place))
        assert threading.active_count() - before <= 1

        def answers() -> bool:
            try:
                return served.get("/livez")[0] == 200
            except (OSError, HTTPException):
                return False

        wait_for(answers, "those who say nothing are hung up on")
        assert served.sample("web_refused_requests_total", reason="connections") >= 1


def test_half_a_request_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "SILENT_S", 0.5)
    with serving() as served, socket.create_connection(served.place, timeout=60) as client:
        client.sendall(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")
        answer = b""
        while not answer.endswith(b"ok\n"):
            answer += client.recv(65536)
        client.sendall(b"GET /livez HTTP/1.1\r\nHos")
        with suppress(ConnectionResetError):
            assert client.recv(65536) == b""


def test_a_thousand_requests_at_once_are_all_answered_or_refused() -> None:
    statuses: list[str] = []
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)  # both ends are in this process
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 8192)), hard))

    def ask(served: Served) -> None:
        try:
            statuses.append(str(served.get("/api/v1/state")[0]))
        except (OSError, HTTPException):
            statuses.append("hung up")

    with serving() as served:
        threads = [threading.Thread(target=ask, args=(served,)) for _ in range(1000)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(120)
        assert len(statuses) == 1000
        assert set(statuses) <= {"200", "503", "hung up"}
        assert "200" in statuses
        assert served.get("/livez")[::2] == (200, "ok\n")


def test_answers_on_a_connection_do_not_wait_for_each_other() -> None:
    """asyncio takes Nagle's algorithm off sockets that name their protocol, and off no others."""
    listening = _listen("127.0.0.1", 0)
    with listening:
        assert listening.proto == socket.IPPROTO_TCP
