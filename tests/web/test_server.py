"""The HTTP port, asked over a real connection."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.client import HTTPException

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST

from detector.errors import ConfigError
from detector.service.metrics import Metrics
from detector.web.server import MOST_CONNECTIONS, HttpServer
from detector.web.site import routes
from tests.processes import samples, wait_for


def fine() -> None:
    return None


@contextmanager
def serving(
    *,
    live: Callable[[], str | None] = fine,
    ready: Callable[[], str | None] = fine,
    facts: Sequence[tuple[str, str]] = (),
    registry: CollectorRegistry | None = None,
) -> Iterator[HttpServer]:
    registry = registry or CollectorRegistry()
    answered = routes(registry=registry, live=live, ready=ready, facts=lambda: facts)
    server = HttpServer(answered, host="127.0.0.1", port=0)
    server.start()
    try:
        yield server
    finally:
        server.close()


def get(url: str) -> tuple[int, str, str]:
    """Status, content type, body."""
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, answer.headers["Content-Type"], answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.headers["Content-Type"], error.read().decode()


def test_metrics_can_be_parsed_and_follow_the_counters() -> None:
    registry = CollectorRegistry()
    metrics = Metrics(registry, process=True)
    with serving(registry=registry) as server:
        status, kind, body = get(f"{server.address}/metrics")
        assert (status, kind) == (200, CONTENT_TYPE_LATEST)
        assert samples(body)[("detector_dead_letters_total", ())] == 0
        assert samples(body)[("process_resident_memory_bytes", ())] > 0
        metrics.dead_letters.inc(3)
        assert samples(get(f"{server.address}/metrics?x=1")[2])[
            ("detector_dead_letters_total", ())
        ] == 3  # fmt: skip


@pytest.mark.parametrize("path", ["/livez", "/readyz"])
def test_a_probe_answers_200_while_fine_and_503_with_the_reason_else(path: str) -> None:
    wrong: dict[str, str | None] = {"/livez": None, "/readyz": None}
    with serving(live=lambda: wrong["/livez"], ready=lambda: wrong["/readyz"]) as server:
        assert get(server.address + path)[::2] == (200, "ok\n")
        wrong[path] = "not joined yet"
        assert get(server.address + path)[::2] == (503, "not joined yet\n")
        other = "/livez" if path == "/readyz" else "/readyz"
        assert get(server.address + other)[0] == 200
        wrong[path] = None
        assert get(server.address + path)[0] == 200


def test_the_page_for_people_shows_the_facts_and_escapes_them() -> None:
    facts = [("series", "<script>alert('x')</script> & more"), ("<b>name</b>", "größe")]
    with serving(ready=lambda: "waits for <broker>", facts=facts) as server:
        status, kind, page = get(f"{server.address}/")
    assert (status, kind) == (200, "text/html; charset=utf-8")
    assert "<script>" not in page
    assert "<b>" not in page
    assert "<broker>" not in page
    assert "&lt;script&gt;alert(&#x27;x&#x27;)&lt;/script&gt; &amp; more" in page
    assert "größe" in page
    assert "waits for &lt;broker&gt;" in page


@pytest.mark.parametrize("path", ["/nothing", "/metrics/", "/../etc/passwd", "/livez/x"])
def test_other_paths_are_not_found(path: str) -> None:
    with serving() as server:
        assert get(server.address + path)[::2] == (404, "not found\n")


def test_a_port_that_is_taken_gives_one_line_that_names_the_option() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        server = HttpServer({}, host="127.0.0.1", port=port)
        with pytest.raises(ConfigError) as refused:
            server.start()
        server.close()
    assert str(refused.value).startswith(f"http.port: cannot listen on 127.0.0.1:{port}: ")
    assert "\n" not in str(refused.value)


def test_a_closed_server_frees_its_port_and_may_be_closed_again() -> None:
    with serving() as server:
        port = int(server.address.rpartition(":")[2])
        server.close()
        with socket.create_server(("127.0.0.1", port)):
            pass
        with pytest.raises(ConfigError):
            _ = server.address


def test_a_client_that_hangs_up_does_not_disturb_the_others(
    capfd: pytest.CaptureFixture[str],
) -> None:
    registry = CollectorRegistry()
    Metrics(registry)
    with serving(registry=registry) as server:
        host, port = server.address.removeprefix("http://").split(":")
        for _ in range(20):
            with socket.create_connection((host, int(port))) as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
                client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
        assert get(f"{server.address}/metrics")[0] == 200
    assert "Traceback" not in capfd.readouterr().err


def test_a_route_that_fails_is_answered(caplog: pytest.LogCaptureFixture) -> None:
    def broken() -> str | None:
        raise RuntimeError("dictionary changed size during iteration")

    with serving(live=broken) as server:
        assert get(f"{server.address}/livez")[::2] == (500, "internal error, see the log\n")
        assert get(f"{server.address}/readyz")[0] == 200
    assert "dictionary changed size" in caplog.text


def test_those_who_connect_and_say_nothing_cost_so_many_threads_and_no_more(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("detector.web.server.SILENT_S", 1.0)
    with serving() as server, ExitStack() as stack:
        host, port = server.address.removeprefix("http://").split(":")
        before = threading.active_count()
        for _ in range(MOST_CONNECTIONS + 20):
            stack.enter_context(socket.create_connection((host, int(port))))
        assert threading.active_count() - before <= MOST_CONNECTIONS

        def answers() -> bool:
            try:
                return get(f"{server.address}/livez")[0] == 200
            except (OSError, HTTPException):
                return False

        wait_for(answers, "those who say nothing are hung up on", timeout_s=30)
