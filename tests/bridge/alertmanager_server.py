"""A real Alertmanager for the tests: started on a free port, asked over its own API.

Must not know what the tests send.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import pytest
import yaml

from tests.processes import wait_for

PROGRAM = "prometheus-alertmanager"
#: It tells the webhook of every group as soon as may be.
ROUTE: dict[str, Any] = {
    "receiver": "page",
    "group_by": ["alertname"],
    "group_wait": "1s",
    "group_interval": "1s",
    "repeat_interval": "1h",
}


def alertmanager_program() -> str:
    """Skips where there is none, in CI fails."""
    found = shutil.which(PROGRAM) or shutil.which("alertmanager")
    if found is None:
        reason = f"no {PROGRAM}: install Alertmanager (Debian: prometheus-alertmanager)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return found


class AlertmanagerServer:
    """pages: URL of a webhook that it tells of groups. web: its --web.config.file (TLS, users)."""

    def __init__(
        self,
        directory: Path,
        *,
        port: int,
        pages: str,
        web: Mapping[str, Any] | None = None,
    ) -> None:
        self._directory = directory
        directory.mkdir(exist_ok=True)
        self._port, self._pages, self._web = port, pages, web
        self._process: subprocess.Popen[bytes] | None = None
        self.url = f"http{'s' if web and 'tls_server_config' in web else ''}://127.0.0.1:{port}"

    def start(self) -> AlertmanagerServer:
        """Return when it listens. Started again it has what it had: its data stay."""
        config = self._directory / "alertmanager.yml"
        receiver = {
            "name": "page",
            "webhook_configs": [{"url": self._pages, "send_resolved": True}],
        }
        config.write_text(yaml.safe_dump({"route": ROUTE, "receivers": [receiver]}))
        options = []
        if self._web is not None:
            web = self._directory / "web.yml"
            web.write_text(yaml.safe_dump(dict(self._web)))
            options = [f"--web.config.file={web}"]
        with (self._directory / "alertmanager.log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    alertmanager_program(),
                    f"--config.file={config}",
                    f"--storage.path={self._directory / 'data'}",
                    f"--web.listen-address=127.0.0.1:{self._port}",
                    "--cluster.listen-address=",
                    *options,
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        wait_for(self._listens, "Alertmanager listens")
        return self

    def _listens(self) -> bool:
        assert self._process is not None
        words = (self._directory / "alertmanager.log").read_text()
        assert self._process.poll() is None, words[-1000:]
        try:
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=60).close()
        except urllib.error.HTTPError:
            return True  # it wants a password
        except urllib.error.URLError as error:
            return "CERTIFICATE" in str(error)  # of TLS that this question does not know
        except OSError:
            return False
        return True

    def alerts(self) -> list[dict[str, Any]]:
        """Those that are active."""
        with urllib.request.urlopen(f"{self.url}/api/v2/alerts?active=true", timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def series(self) -> set[tuple[str, str]]:
        """(series, severity) of what is active."""
        return {(a["labels"]["series"], a["labels"]["severity"]) for a in self.alerts()}

    def groups(self) -> list[dict[str, Any]]:
        url = f"{self.url}/api/v2/alerts/groups"
        with urllib.request.urlopen(url, timeout=60) as answer:
            found: list[dict[str, Any]] = json.load(answer)
        return found

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def __enter__(self) -> AlertmanagerServer:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()
