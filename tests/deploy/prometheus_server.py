"""A real Prometheus for the tests, and the expressions that the project ships.

Knows how to run the server with the project's own rule files and how to ask it. Must not know
what the expressions mean or which of them should fire.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import yaml

from tests.processes import DEADLINE_S, Deadline

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
PROMETHEUS_CONFIG = DEPLOY / "prometheus" / "prometheus.yml"
DASHBOARDS = DEPLOY / "grafana" / "dashboards"

POLL_S = 0.1

# What Grafana would put in place of its variables. A minute holds many scrapes of the tests.
_GRAFANA_VARIABLES = {
    "__rate_interval": "1m",
    "__interval": "1m",
    "__range": "5m",
    "instance": ".*",
}

_NUMBER = r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?"
# A comparison with a number on its right; label matchers compare with quoted text.
_COMPARISON = re.compile(rf"\s*(?:==|!=|>=|<=|>|<)\s*(?:bool\s+)?{_NUMBER}(?![\w.\[])")


def prometheus_unavailable_reason() -> str | None:
    """One line that says why no Prometheus can be started here, or None when one can."""
    missing = [program for program in ("prometheus", "promtool") if shutil.which(program) is None]
    if not missing:
        return None
    return f"{' and '.join(missing)} not found: install Prometheus (Debian: apt install prometheus)"


def rule_expressions() -> Iterator[tuple[str, str]]:
    """(name, expression) of every recording and alerting rule, as shipped."""
    for path in rule_files():
        for group in yaml.safe_load(path.read_text())["groups"]:
            for rule in group["rules"]:
                yield rule.get("alert") or rule["record"], rule["expr"]


def panel_expressions() -> Iterator[tuple[str, str]]:
    """(dashboard/panel/letter, expression) of every panel, Grafana's variables replaced."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in panels(json.loads(path.read_text())):
            for target in panel.get("targets", []):
                name = f"{path.stem}/{panel['title']}/{target['refId']}"
                yield name, _without_variables(target["expr"])


def without_comparisons(expression: str) -> str:
    """The expression with each comparison taken away: it has a value although nothing fires."""
    return _COMPARISON.sub("", expression)


def rule_files() -> list[Path]:
    """The rule files that the shipped configuration loads."""
    patterns = yaml.safe_load(PROMETHEUS_CONFIG.read_text())["rule_files"]
    return sorted(path for p in patterns for path in PROMETHEUS_CONFIG.parent.glob(p))


def panels(dashboard: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Every panel, also those in a collapsed row."""
    for panel in dashboard["panels"]:
        yield panel
        yield from panel.get("panels", [])


@dataclass(frozen=True, slots=True)
class Sample:
    """One element of an instant vector. NaN is a value."""

    labels: dict[str, str]
    value: float


class PrometheusServer:
    """Scrapes ``targets`` (host:port) each second as job "detector", ``bridges`` as job
    "detector-bridge", with the project's rules.

    The address is a free loopback port, the data a temporary folder; ``stop`` removes it.
    """

    def __init__(
        self,
        targets: Sequence[str],
        *,
        bridges: Sequence[str] = (),
        start_timeout_s: float = DEADLINE_S,
    ) -> None:
        if not targets:
            raise ValueError("a Prometheus without targets has nothing to answer from")
        self._targets = {"detector": list(targets), "detector-bridge": list(bridges)}
        self._start_timeout_s = start_timeout_s
        self._data: Path | None = None
        self._log: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    def start(self) -> None:
        """Return when it answers queries; RuntimeError with its last words if it does not."""
        if self._process is not None:
            raise RuntimeError("this Prometheus is already started")
        address = f"127.0.0.1:{_free_port()}"
        self.url = f"http://{address}"
        self._data = Path(tempfile.mkdtemp(prefix="detector-prometheus-"))
        config = self._data / "prometheus.yml"
        config.write_text(yaml.safe_dump(self._config()))
        self._log = (self._data / "prometheus.log").open("wb")
        self._process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={self._data / 'tsdb'}",
                f"--web.listen-address={address}",
                "--log.level=warn",
            ],
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )
        try:
            self._wait_until_ready()
        except BaseException:
            self.stop()
            raise

    def query(self, expression: str) -> list[Sample]:
        """The instant vector of an expression now. ValueError if Prometheus refuses it."""
        question = urllib.parse.urlencode({"query": expression})
        try:
            with urllib.request.urlopen(f"{self.url}/api/v1/query?{question}", timeout=60) as reply:
                data = json.load(reply)["data"]
        except urllib.error.HTTPError as error:
            raise ValueError(f"{expression}: {error.read().decode(errors='replace')}") from None
        if data["resultType"] == "scalar":
            return [Sample({}, float(data["result"][1]))]
        return [Sample(s["metric"], float(s["value"][1])) for s in data["result"]]

    def wait_for(self, expression: str) -> list[Sample]:
        """Ask until the vector is not empty; AssertionError after the deadline."""
        deadline = Deadline()
        while not (samples := self.query(expression)):
            deadline.check(f"data for {expression}")
            time.sleep(POLL_S)
        return samples

    def stop(self) -> None:
        """End the server and remove its data. Safe to call twice."""
        if self._process is not None:
            self._process.terminate()
            try:
                self._process.wait(timeout=60)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait(timeout=60)
            self._process = None
        if self._log is not None:
            self._log.close()
            self._log = None
        if self._data is not None:
            shutil.rmtree(self._data)
            self._data = None

    def __enter__(self) -> PrometheusServer:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def _config(self) -> dict[str, Any]:
        shipped = yaml.safe_load(PROMETHEUS_CONFIG.read_text())["scrape_configs"]
        return {
            "global": {
                "scrape_interval": "1s",
                "scrape_timeout": "1s",
                "evaluation_interval": "1s",
            },
            "rule_files": [os.fspath(path) for path in rule_files()],
            # The shipped jobs, so that name and path are tested too; only the targets differ.
            "scrape_configs": [
                {**job, "static_configs": [{"targets": self._targets[job["job_name"]]}]}
                for job in shipped
            ],
        }

    def _wait_until_ready(self) -> None:
        assert self._process is not None
        deadline_s = time.monotonic() + self._start_timeout_s
        while True:
            if (status := self._process.poll()) is not None:
                raise RuntimeError(f"Prometheus ended with status {status}: {self._last_words()}")
            try:
                with urllib.request.urlopen(f"{self.url}/-/ready", timeout=10):
                    return
            except OSError:  # refused while it starts, 503 while it loads
                if time.monotonic() >= deadline_s:
                    raise RuntimeError(
                        f"Prometheus not ready within {self._start_timeout_s:g} s: "
                        f"{self._last_words()}"
                    ) from None
            time.sleep(POLL_S)

    def _last_words(self) -> str:
        assert self._data is not None
        lines = (self._data / "prometheus.log").read_text(errors="replace").splitlines()
        return " | ".join(lines[-3:]) or "it wrote nothing"


def _without_variables(expression: str) -> str:
    """Unknown variables stay, so that the query fails instead of meaning something else."""

    def value(match: re.Match[str]) -> str:
        name = match["braced"] or match["plain"]
        return _GRAFANA_VARIABLES.get(name, match[0])

    pattern = r"\$(?:\{(?P<braced>\w+)(?::\w+)?\}|(?P<plain>[A-Za-z_]\w*))"
    return re.sub(pattern, value, expression)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
