"""`detector alerts` as a bridge in a process of its own, and a topic to follow."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from detector.config import Config, parse_config
from detector.transport.configured import make_broker, prepare_topics
from tests.bridge.events import message
from tests.processes import (
    DEADLINE_S,
    Samples,
    clean_environment,
    samples,
    total,
    wait_for,
    write_config,
)


class Topic:
    """The alert topic of a configuration. more: options of the section bridge."""

    def __init__(self, directory: Path, tree: Mapping[str, Any], **more: Any) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        bridge = {"port": 0, "keep_firing_s": 0.0, "longest_wait_s": 1.0, "timeout_s": 5.0} | more
        self.tree = {**tree, "bridge": bridge}
        self.path = write_config(directory / "config.yaml", self.tree)
        self.config: Config = parse_config(self.tree)
        self._broker = make_broker(self.config)
        prepare_topics(self.config, self._broker)

    def publish(self, *values: bytes) -> None:
        publisher = self._broker.publisher()
        try:
            publisher.publish(self.config.alerts.topic, [message(value) for value in values])
            publisher.flush()
        finally:
            publisher.close()


def embedded(directory: Path, **more: Any) -> Topic:
    path = str(directory / "broker.sqlite")
    return Topic(directory, {"embedded": {"path": path, "synchronous": "normal"}}, **more)


def over_kafka(directory: Path, servers: str, **more: Any) -> Topic:
    """Topics of its own."""
    name = f"bridge-{uuid.uuid4().hex[:10]}"
    tree = {
        "transport": "kafka",
        "kafka": {"bootstrap_servers": servers, "group": name, "transactional_id": name},
        "input": {"topic": f"{name}-ticks"},
        "alerts": {"topic": f"{name}-alerts"},
        "dead_letters": {"topic": f"{name}-dead"},
        "state": {"topic": f"{name}-state"},
        "topics": {"partitions": 2},
    }
    return Topic(directory, tree, group=name, topic=f"{name}-bridge", **more)


class RunningBridge:
    """A context that leaves no process behind."""

    def __init__(
        self,
        config: Path,
        *options: str,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "detector"),
    ) -> None:
        self._command = [*command, "alerts", "--config", str(config), *options]
        self._environment = clean_environment(environment)
        self._cwd = config.parent
        self._log = config.parent / f"bridge-{time.monotonic_ns()}.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def start(self) -> RunningBridge:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
            )
        return self

    def wait_ready(self) -> RunningBridge:
        def ready() -> bool:
            assert self.exit_code() is None, self.log()
            found = re.search(r"serving address=(\S+)", self.log())
            self.address = found[1] if found else ""
            return bool(self.address) and self.get("/readyz")[0] == 200

        wait_for(ready, "the bridge is ready")
        return self

    def get(self, path: str) -> tuple[int, str]:
        try:
            with urllib.request.urlopen(self.address + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    def metrics(self) -> Samples:
        status, text = self.get("/metrics")
        assert status == 200, text
        return samples(text)

    def wait_metric(self, name: str, least: float, **labels: str) -> None:
        wait_for(
            lambda: total(self.metrics(), f"detector_bridge_{name}", **labels) >= least,
            f"{name} reaches {least}",
        )

    def log(self) -> str:
        return self._log.read_text()

    def exit_code(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def wait(self) -> int:
        assert self._process is not None
        return self._process.wait(DEADLINE_S)

    def terminate(self) -> int:
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        self._process.wait(DEADLINE_S)

    def __enter__(self) -> RunningBridge:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.kill()
        if error is not None:  # shown with a test that fails
            sys.stdout.write(f"-- {self._log.name}:\n{self.log()[-3000:]}\n")
