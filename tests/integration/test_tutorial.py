"""The tutorial, command by command, as a stranger would follow it."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bridge.targets import free_port

ROOT = Path(__file__).parents[2]
_PORTS = ("9464", "9465", "9093")  # of the page, the bridge, Alertmanager
_DEADLINE_S = 240


@pytest.mark.training
def test_the_tutorial_leads_from_a_csv_to_a_page(tmp_path: Path) -> None:
    for program in ("prometheus-alertmanager", "amtool", "curl"):
        if shutil.which(program) is None:
            if os.environ.get("CI") == "true":
                pytest.fail(f"{program} is not installed")
            pytest.skip(f"{program} is not installed")
    (tmp_path / "deploy").symlink_to(ROOT / "deploy")
    ports = {usual: str(free_port()) for usual in _PORTS}
    script = _script(ports, tmp_path)
    environment = os.environ | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "DETECTOR_HTTP__PORT": ports["9464"],
        "DETECTOR_BRIDGE__PORT": ports["9465"],
        "DETECTOR_TRAINING__EPOCHS": "4",
    }
    process = subprocess.Popen(
        ["bash", "-e", "-c", script],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        told, _ = process.communicate(timeout=_DEADLINE_S)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        told, _ = process.communicate()
        logs = "".join(p.read_text()[-2000:] for p in tmp_path.glob("var/tutorial/*.log"))
        pytest.fail(f"not done within {_DEADLINE_S} s:\n{told}\n{logs}")
    assert process.returncode == 0, told
    assert re.search(r"DetectorAnomaly .* pump is anomalous", told), told
    # Whether it is critical at once or escalates a few ticks later is up to the training.
    assert re.search(r" opened +(warning|critical) pump .* vibration \d\d%", told), told
    assert "muted pump as" in told
    assert '"series": "pump"' in told


def _script(ports: dict[str, str], where: Path) -> str:
    """Everything but the installation, on ports of our own."""
    page = (ROOT / "docs" / "tutorial.md").read_text()
    first, *others = re.findall(r"^```sh\n(.*?)^```", page, re.DOTALL | re.MULTILINE)
    assert first.startswith("make install\n. .venv/bin/activate\n")
    script = "\n".join([first.split("activate\n", 1)[1], *others])
    for usual, free in ports.items():
        script = script.replace(usual, free)
    listening = f"--cluster.listen-address= --web.listen-address=127.0.0.1:{ports['9093']}"
    assert "--cluster.listen-address=" in script
    script = script.replace("--cluster.listen-address=", listening)
    # Those in the background end with the script, however it ends.
    return f"trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n{script}\necho done in {where.name}\n"
