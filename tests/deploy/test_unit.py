"""The systemd units: systemd takes them, they are shut in, and their times fit the programs'."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from detector.bridge.process import STOP_S
from detector.config import Config
from detector.errors import EXIT_HUNG, ConfigError, UsageError

SYSTEMD = Path(__file__).resolve().parents[2] / "deploy" / "systemd"
UNITS = {name: SYSTEMD / f"{name}.service" for name in ("detector", "detector-bridge")}
#: 0 nothing, 10 everything; of systemd-analyze security.
MOST_EXPOSED = 1.5


@pytest.fixture(params=UNITS)
def unit(request: pytest.FixtureRequest) -> Path:
    return UNITS[str(request.param)]


@pytest.fixture
def service(unit: Path) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    section = ""
    for line in unit.read_text().splitlines():
        if line.startswith("["):
            section = line
        elif section == "[Service]" and line and not line.startswith("#"):
            name, _, value = line.partition("=")
            found.setdefault(name, []).append(value)
    return found


def test_systemd_understands_every_line(unit: Path, tmp_path: Path) -> None:
    analyze = _program("systemd-analyze")
    # The program of the unit is not installed here: another one that is there stands for it.
    text = re.sub(
        r"^ExecStart=\S+", f"ExecStart={shutil.which('true')}", unit.read_text(), flags=re.M
    )
    (tmp_path / unit.name).write_text(text)
    done = _run(analyze, "verify", "--man=no", "--recursive-errors=no", str(tmp_path / unit.name))
    ours = [line for line in done.stderr.splitlines() if "detector" in line]
    assert done.returncode == 0, done.stderr
    assert ours == []


def test_a_line_that_systemd_does_not_know_would_be_seen(unit: Path, tmp_path: Path) -> None:
    analyze = _program("systemd-analyze")
    (tmp_path / unit.name).write_text(unit.read_text() + "\n[Service]\nProtectHoem=yes\n")
    done = _run(analyze, "verify", "--man=no", str(tmp_path / unit.name))
    assert "ProtectHoem" in done.stderr


def test_the_service_is_shut_in(unit: Path) -> None:
    analyze = _program("systemd-analyze")
    done = _run(analyze, "security", "--offline=yes", "--json=short", str(unit))
    if "unrecognized option" in done.stderr:
        pytest.skip("systemd-analyze is too old to judge a file")
    tests: list[dict[str, Any]] = json.loads(done.stdout)
    exposed = {t["json_field"]: float(t["exposure"]) for t in tests if t.get("exposure")}
    # It serves the page and reaches the broker: of the network it needs the ordinary families.
    assert {name for name, much in exposed.items() if much >= 0.3} <= {
        "PrivateNetwork", "IPAddressDeny", "RestrictAddressFamilies_AF_INET_INET6",
        "RootDirectoryOrRootImage",
    }  # fmt: skip
    limit = _run(
        analyze, "security", "--offline=yes", f"--threshold={int(MOST_EXPOSED * 10)}", str(unit)
    )
    assert limit.returncode == 0, limit.stdout.splitlines()[-1:]


def test_the_times_of_the_unit_are_above_those_of_the_program(
    service: dict[str, list[str]],
) -> None:
    delivery, bridge = Config().delivery, Config().bridge
    assert float(service["WatchdogSec"][-1]) > delivery.hang_timeout_s
    stop_s = delivery.stop_timeout_s
    if "--bridge" in service["ExecStart"][0]:
        stop_s = max(bridge.timeout_s, bridge.exec_timeout_s) + STOP_S
    assert float(service["TimeoutStopSec"][-1]) > stop_s
    assert float(service["TimeoutStartSec"][-1]) > delivery.retry_timeout_s


def test_it_starts_again_after_all_but_what_somebody_must_mend(
    service: dict[str, list[str]],
) -> None:
    assert service["Type"] == ["notify"]
    assert service["Restart"] == ["on-failure"]
    final = {int(code) for code in service["RestartPreventExitStatus"][0].split()}
    assert final == {UsageError("").exit_code, ConfigError("").exit_code}
    assert EXIT_HUNG not in final


def test_it_writes_nowhere_but_in_its_state_directory(service: dict[str, list[str]]) -> None:
    assert service["ProtectSystem"] == ["strict"]
    assert "ReadWritePaths" not in service
    assert service["WorkingDirectory"] == [f"/var/lib/{service['StateDirectory'][0]}"]
    (user,) = re.findall(r"^u (\S+)", (SYSTEMD / "detector.sysusers.conf").read_text(), re.M)
    assert service["User"] == [user]


def _program(name: str) -> str:
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} not found: there is no systemd")
    return found


def _run(*command: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "SYSTEMD_LOG_LEVEL": "warning", "LANG": "C.UTF-8"}
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=False, env=environment
    )
