"""A real Apache Kafka for the tests: one node of its own, or the one the environment names.

Knows how to start, stop and kill a node through ``deploy/kafka/kafka.sh``. Must not know what
the tests put on it. With ``KAFKA_BOOTSTRAP_SERVERS`` set that broker is used instead; it belongs
to somebody else, so it is never stopped.
"""

from __future__ import annotations

import fcntl
import os
import random
import shutil
import socket
import subprocess
import tempfile
from pathlib import Path
from types import TracebackType

_ONE_AT_A_TIME = Path(tempfile.gettempdir()) / "detector-kafka.lock"
KAFKA_SH = Path(__file__).resolve().parents[1] / "deploy" / "kafka" / "kafka.sh"

# The first start may have to fetch the jars, with retries; the script has deadlines of its own.
COMMAND_TIMEOUT_S = 280.0

# Below the ephemeral ports (32768 on Linux). A client that retries a stopped broker on an
# ephemeral port can be given that very port as its own and so keep the broker from restarting.
PORTS = range(20_000, 32_000)


def kafka_unavailable_reason() -> str | None:
    """One line that says why no broker can be had here, or None when one can."""
    if _external_servers() is not None:
        return None
    if shutil.which("bash") is None:
        return "no Kafka broker: bash not found, and KAFKA_BOOTSTRAP_SERVERS is not set"
    checked = _kafka_sh("check")
    if checked.returncode == 0:
        return None
    missing = checked.stderr.strip().removeprefix("kafka.sh: ")
    return f"no Kafka broker: {missing}; or set KAFKA_BOOTSTRAP_SERVERS"


class KafkaBroker:
    """A node on free loopback ports with its data in a temporary folder.

    ``stop`` and ``kill`` keep the data and the address: ``start`` afterwards is a restart.
    ``close`` (or leaving the ``with`` block) stops the node and removes the data.
    ``properties``: a file with further lines of its configuration; such a node is always our own.
    """

    def __init__(self, properties: Path | None = None) -> None:
        self._properties = properties
        external = _external_servers() if properties is None else None
        self.is_external = external is not None
        self._port, self._controller_port = free_ports()
        self.bootstrap_servers = external or f"127.0.0.1:{self._port}"
        self._data: Path | None = None

    @property
    def data(self) -> Path | None:
        """Where its logs are; None: of an external broker, or not started yet."""
        return self._data

    def start(self) -> None:
        """Return when the node answers at ``bootstrap_servers``; RuntimeError if it does not."""
        if self.is_external:
            return
        if self._data is None:
            self._data = Path(tempfile.mkdtemp(prefix="detector-kafka-"))
        ports = ["--port", str(self._port), "--controller-port", str(self._controller_port)]
        if self._properties is not None:
            ports += ["--properties", str(self._properties)]
        with _ONE_AT_A_TIME.open("w") as lock:  # the first may have to fetch the jars
            fcntl.flock(lock, fcntl.LOCK_EX)
            self._run("start", *ports)

    def stop(self) -> None:
        """End the node cleanly (SIGTERM); the data stay."""
        if self._data is not None:
            self._run("stop")

    def kill(self) -> None:
        """End the node with SIGKILL, as a power failure would; the data stay."""
        if self.is_external:
            raise RuntimeError(
                f"the broker at {self.bootstrap_servers} is not ours to kill: "
                "unset KAFKA_BOOTSTRAP_SERVERS for the fault tests"
            )
        self._run("kill")

    def close(self) -> None:
        """Stop the node and remove its data. Safe to call twice."""
        if self._data is None:
            return
        self.stop()
        shutil.rmtree(self._data)
        self._data = None

    def log(self) -> str:
        """What the node has written so far; empty for an external broker."""
        if self._data is None or not (self._data / "kafka.log").exists():
            return ""
        return (self._data / "kafka.log").read_text(errors="replace")

    def __enter__(self) -> KafkaBroker:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, command: str, *options: str) -> None:
        if self._data is None:
            raise RuntimeError(f"cannot {command} a broker that was never started")
        done = _kafka_sh(command, "--data", str(self._data), *options)
        if done.returncode != 0:
            raise RuntimeError(f"kafka.sh {command} failed: {done.stderr.strip()}")


def _kafka_sh(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", str(KAFKA_SH), *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=COMMAND_TIMEOUT_S,
        check=False,
    )


def _external_servers() -> str | None:
    return os.environ.get("KAFKA_BOOTSTRAP_SERVERS") or None


def free_ports() -> tuple[int, int]:
    """Two different loopback ports that nobody listens on at this moment."""
    free: list[int] = []
    for port in random.sample(PORTS, 200):
        with socket.socket() as probe:
            # As the broker binds: a port still in TIME_WAIT from a past connection counts as free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        free.append(port)
        if len(free) == 2:
            return free[0], free[1]
    raise RuntimeError(f"no two free ports among 200 tried from {PORTS.start} to {PORTS.stop}")
