"""The bridge as a process: a thread for each target, a port for metrics and probes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from socketserver import ThreadingMixIn
from typing import Protocol
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server
from wsgiref.types import StartResponse, WSGIEnvironment

from prometheus_client import CollectorRegistry, make_wsgi_app

from detector.bridge.delivery import Delivery
from detector.bridge.metrics import BridgeMetrics
from detector.bridge.reports import Reports
from detector.bridge.targets import Target
from detector.config import Config
from detector.errors import ConfigError, DetectorError
from detector.transport.broker import Broker, Follower

_LOGGER = logging.getLogger("detector.bridge")
STOP_S = 15.0


class Manager(Protocol):
    """The service manager, if one listens (service/supervisor.py)."""

    def due(self, now_s: float) -> bool: ...

    def beat(self, now_s: float, status: str) -> None: ...

    def ready(self) -> None: ...

    def stopping(self) -> None: ...

    def close(self) -> None: ...


class Bridge:
    """Runs until stopped, or until a target's thread fails."""

    def __init__(
        self,
        config: Config,
        broker: Broker,
        targets: Sequence[Target],
        manager: Manager,
        *,
        from_beginning: bool,
    ) -> None:
        self._config, self._broker, self._manager = config, broker, manager
        self._from_beginning = from_beginning
        self._stop, self._over = threading.Event(), threading.Event()
        self.registry = CollectorRegistry()
        names = tuple(target.name for target in targets)
        self._metrics = BridgeMetrics(self.registry, names, process=True)
        self._longest_s = max(target.attempt_s for target in targets)
        self._deliveries = [self._delivery(target) for target in targets]

    def stop(self) -> None:
        """May be called from a signal handler."""
        self._stop.set()
        self._over.set()

    def run(self) -> None:
        """Raises DetectorError: what a target's thread failed with."""
        bridge = self._config.bridge
        with _serving(self.registry, self.live, self.ready, bridge.host, bridge.port) as address:
            _LOGGER.info("serving", extra={"fields": {"address": address}})
            for delivery in self._deliveries:
                delivery.start()
            while not self._over.wait(1.0):  # a wait without end would hold up signals
                self._tell(time.monotonic())
            self._manager.stopping()
            self._stop.set()
            late = [d for d in self._deliveries if not d.join(self._longest_s + STOP_S)]
            self._manager.close()
        for delivery in self._deliveries:
            if delivery.failed is not None:
                raise delivery.failed
        if late:
            names = ", ".join(d.reports.target for d in late)
            raise DetectorError(f"{names}: did not stop in time")

    def _tell(self, now_s: float) -> None:
        """Ready once each target has found the broker; alive as long as each of them moves."""
        waiting, stuck = self.ready(), self.live()
        if waiting is None:
            self._manager.ready()
        if stuck is None and self._manager.due(now_s):
            self._manager.beat(now_s, waiting or f"{len(self._deliveries)} targets are told")

    def live(self) -> str | None:
        """What is wrong, in a line."""
        stuck = [d.reports.target for d in self._deliveries if d.reports.stuck()]
        return f"does not move: {', '.join(stuck)}" if stuck else None

    def ready(self) -> str | None:
        """A target that is down is no reason: restarting the bridge would not mend it."""
        waiting = [d.reports.target for d in self._deliveries if not d.reports.is_connected()]
        return f"not connected to the broker: {', '.join(waiting)}" if waiting else None

    def _delivery(self, target: Target) -> Delivery:
        config, reports = self._config, Reports(target.name, self._metrics)

        def follower() -> Follower:
            return self._broker.follower(
                f"{config.bridge.group}-{target.name}",
                config.alerts.topic,
                kept_in=config.bridge.topic,
                from_beginning=target.states or self._from_beginning,
                create=config.topics.create,
            )

        return Delivery(
            target.make(reports, self._stop),
            follower,
            reports,
            open_s=config.delivery.retry_timeout_s + 60.0,
            stop=self._stop,
            ended=self._over.set,
        )


class _Server(ThreadingMixIn, WSGIServer):
    """Who asks and then does not listen holds up nobody else."""

    daemon_threads = True


class _Quiet(WSGIRequestHandler):
    timeout = 10.0

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as inherited
        """A scrape each few seconds is no news."""


@contextlib.contextmanager
def _serving(
    registry: CollectorRegistry,
    live: Callable[[], str | None],
    ready: Callable[[], str | None],
    host: str,
    port: int,
) -> Iterator[str]:
    """/metrics, /livez and /readyz; gives the address. Raises ConfigError if the port is taken."""
    metrics = make_wsgi_app(registry)
    probes = {"/livez": live, "/readyz": ready}

    def answer(environment: WSGIEnvironment, start: StartResponse) -> list[bytes]:
        path = environment["PATH_INFO"]
        if path == "/metrics":
            found: list[bytes] = metrics(environment, start)
            return found
        probe = probes.get(path)
        wrong = "not found" if probe is None else probe()
        status = "404 Not Found" if probe is None else "503 Service Unavailable"
        start("200 OK" if wrong is None else status, [("Content-Type", "text/plain")])
        return [f"{wrong or 'ok'}\n".encode()]

    try:
        server = make_server(host, port, answer, server_class=_Server, handler_class=_Quiet)
    except OSError as error:
        raise ConfigError(
            f"bridge.port: cannot listen on {host}:{port}: {error.strerror}"
        ) from None
    thread = threading.Thread(target=server.serve_forever, name="http", daemon=True)
    thread.start()
    try:
        yield f"http://{host}:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
