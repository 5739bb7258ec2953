"""The unit under a systemd that runs: shut in, watched, started again (make unit-check)."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.artifacts import make_artifact
from tests.deploy.booted import Booted
from tests.deploy.containers import run_in
from tests.deploy.dockerfile import Told
from tests.processes import samples, total, wait_for

pytestmark = [pytest.mark.outside, pytest.mark.timeout(1800)]

TOP = Path(__file__).resolve().parents[2]
WORK = Path(os.environ.get("IMAGE_CHECK_DIR", TOP / "build" / "image"))
LENGTH, TICKS = 8, 200
CONFIG = {
    "features": {"value": "value"},
    "window": {"length_ticks": LENGTH},
    "threshold": {"method": "fixed", "value": 1.0},
}
#: Quicker than the unit's, so that the test need not wait for so long.
DROP_IN = "[Service]\nWatchdogSec=8\nRestartSec=1\n"
LIFTED = """
[Service]
Type=notify
WatchdogSec=2
Environment=PYTHONUNBUFFERED=1
ExecStart=/opt/detector/bin/python /etc/lifted.py
"""
LIFTS = """
import time
from detector.config import supervision
from detector.service.supervisor import Supervision, Supervisor
told = Supervisor(Supervision(*supervision()))
told.ready()
told.lift()
time.sleep(6)
print("was left alone")
told.beat(time.monotonic(), "back")
time.sleep(600)
"""
DETECTOR = "/opt/detector/bin/detector"
UNIT = "detector.service"


@pytest.fixture(scope="module")
def lower() -> Path:
    """Debian with systemd, and what the image holds."""
    image, root = WORK / "stage-image", WORK / "unit"
    assert image.exists(), "make image-check builds what the unit starts"
    if not root.exists():
        made = root.with_name("unit-unfinished")
        shutil.rmtree(made, ignore_errors=True)
        subprocess.run(["cp", "-a", "--reflink=auto", str(image), str(made)], check=True)
        packages = "systemd util-linux"
        run_in(
            made, f"apt-get update && apt-get install -y --no-install-recommends {packages}", Told()
        )
        made.rename(root)
    shutil.rmtree(root / "opt" / "detector")
    subprocess.run(["cp", "-a", str(image / "opt" / "detector"), str(root / "opt")], check=True)
    shutil.rmtree(root / "var" / "lib" / "detector", ignore_errors=True)
    return root


@pytest.fixture(scope="module")
def system(lower: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Booted]:
    with Booted(lower, tmp_path_factory.mktemp("boot")) as booted:
        _install(booted, tmp_path_factory.mktemp("model") / "model")
        started = booted.execute("systemctl", "start", UNIT)
        assert started.returncode == 0, started.stderr
        yield booted


def _install(system: Booted, model: Path) -> None:
    """As docs/deploying.md says."""
    units = system.root / "etc" / "systemd" / "system"
    shutil.copy(TOP / "deploy" / "systemd" / UNIT, units)
    (units / f"{UNIT}.d").mkdir()
    (units / f"{UNIT}.d" / "test.conf").write_text(DROP_IN)
    users = system.root / "etc" / "sysusers.d"
    users.mkdir(exist_ok=True)
    shutil.copy(TOP / "deploy" / "systemd" / "detector.sysusers.conf", users / "detector.conf")
    assert system.execute("systemd-sysusers").returncode == 0
    (system.root / "etc" / "detector").mkdir(exist_ok=True)
    (system.root / "etc" / "detector" / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    done = system.execute("install", "-d", "-o", "detector", "-g", "detector", "/var/lib/detector")
    assert done.returncode == 0, done.stderr
    make_artifact(model, length=LENGTH)
    shutil.copytree(model, system.root / "var" / "lib" / "detector" / "model")
    assert system.execute("chmod", "-R", "a+rX", "/var/lib/detector/model").returncode == 0
    assert system.execute("systemctl", "daemon-reload").returncode == 0


def test_it_is_started_once_it_is_ready(system: Booted) -> None:
    assert system.shown(UNIT, "ActiveState") == "active"
    journal = system.execute("journalctl", "--no-pager", "-u", UNIT).stdout
    assert " ready " in journal
    wait_for(lambda: "ready: 1 partitions" in system.shown(UNIT, "StatusText"), "a status")
    assert "engine=native" in journal


def test_it_is_shut_in(system: Booted) -> None:
    status = (system.root / "proc" / system.shown(UNIT, "MainPID") / "status").read_text()
    fields = dict(line.split(":", 1) for line in status.splitlines())
    assert set(fields["Uid"].split()) != {"0"}
    assert int(fields["CapEff"], 16) == int(fields["CapBnd"], 16) == 0
    assert fields["NoNewPrivs"].strip() == "1"
    assert fields["Seccomp"].strip() == "2"


def test_it_does_its_work_in_there(system: Booted) -> None:
    publish(system, TICKS)
    wait_for(lambda: accounted(system) == TICKS, "all ticks are accounted for")


def test_one_that_stands_still_is_ended_and_started_again_and_loses_nothing(
    system: Booted,
) -> None:
    before = system.shown(UNIT, "MainPID")
    stopped = system.execute("systemctl", "kill", "--signal=STOP", UNIT)
    assert stopped.returncode == 0, stopped.stderr
    wait_for(
        lambda: (
            system.shown(UNIT, "NRestarts") == "1" and system.shown(UNIT, "ActiveState") == "active"
        ),
        "systemd has started it again",
        timeout_s=180,
    )
    assert system.shown(UNIT, "MainPID") != before
    journal = system.execute("journalctl", "--no-pager", "-u", UNIT).stdout
    assert "Watchdog timeout" in journal
    publish(system, TICKS, since=TICKS)
    wait_for(lambda: accounted(system) == TICKS, "the new ones, and none twice")


def test_a_stop_ends_it_well(system: Booted) -> None:
    assert system.execute("systemctl", "stop", UNIT).returncode == 0
    assert system.shown(UNIT, "Result") == "success"
    assert system.shown(UNIT, "ExecMainStatus") == "0"


def test_a_configuration_that_is_wrong_is_not_tried_again(system: Booted) -> None:
    place = system.root / "etc" / "detector" / "config.yaml"
    place.write_text("misspelt: 1\n")
    assert system.execute("systemctl", "start", UNIT).returncode != 0
    assert system.shown(UNIT, "ExecMainStatus") == "78"
    assert system.shown(UNIT, "ActiveState") == "failed"
    assert system.shown(UNIT, "SubState") == "failed"


def test_a_watchdog_that_is_lifted_waits_and_is_back_with_the_next_beat(system: Booted) -> None:
    """As long as a broker is waited for, and no longer."""
    place = system.root / "etc" / "systemd" / "system" / "lifted.service"
    place.write_text(LIFTED)
    (system.root / "etc" / "lifted.py").write_text(LIFTS)
    assert system.execute("systemctl", "daemon-reload").returncode == 0
    started = system.execute("systemctl", "start", "lifted")
    assert started.returncode == 0, started.stderr
    wait_for(lambda: system.shown("lifted", "ActiveState") == "failed", "it is ended")
    assert system.shown("lifted", "Result") == "watchdog"
    assert "was left alone" in system.execute("journalctl", "--no-pager", "-u", "lifted").stdout


def publish(system: Booted, ticks: int, *, since: int = 0) -> None:
    lines = "".join(
        json.dumps({"series": "a", "timestamp": 1_700_000_000 + i, "value": i % 7}) + "\n"
        for i in range(since, since + ticks)
    )
    command = (
        f"cd /var/lib/detector && {DETECTOR} publish --config /etc/detector/config.yaml --data -"
    )
    user = ["setpriv", "--reuid=detector", "--regid=detector", "--clear-groups"]
    done = system.execute(*user, "sh", "-c", command, given=lines)
    assert done.returncode == 0, done.stderr


def accounted(system: Booted) -> float:
    url = "http://127.0.0.1:9464/metrics"
    code = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"
    done = system.execute("/opt/detector/bin/python", "-c", code)
    return total(samples(done.stdout), "detector_ticks_total") if not done.returncode else 0.0
