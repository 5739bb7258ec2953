"""The image, built step by step without an engine and started as one would (make image-check)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.artifacts import make_artifact
from tests.deploy.containers import Build, Container, debian, unavailable_reason
from tests.deploy.dockerfile import Told, stages
from tests.processes import samples, total, wait_for

pytestmark = [pytest.mark.outside, pytest.mark.timeout(3600)]

TOP = Path(__file__).resolve().parents[2]
DOCKERFILE = TOP / "deploy" / "Dockerfile"
#: Kept from one run to the next: the root of Debian alone.
WORK = Path(os.environ.get("IMAGE_CHECK_DIR", TOP / "build" / "image"))
#: Of the files, as `docker image ls` counts them too, before compression.
MOST_MB = 420
LENGTH = 8
TICKS = 200


@pytest.fixture(scope="module")
def image() -> tuple[Path, Told]:
    if reason := unavailable_reason():
        pytest.fail(f"{reason}: nothing can be said of the image")
    WORK.mkdir(parents=True, exist_ok=True)
    (base,) = {s.base for s in stages(DOCKERFILE.read_text()) if ":" in s.base}
    suite = base.removeprefix("debian:").removesuffix("-slim")
    return Build(DOCKERFILE, TOP, WORK, {base: debian(suite, WORK)}).run()


@pytest.fixture(scope="module")
def container(
    image: tuple[Path, Told], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Container]:
    root, told = image
    folder = tmp_path_factory.mktemp("mounted")
    make_artifact(folder / "model", length=LENGTH)
    (folder / "config").mkdir()
    (folder / "config" / "config.yaml").write_text(
        yaml.safe_dump(
            {
                "features": {"value": "value"},
                "window": {"length_ticks": LENGTH},
                "threshold": {"method": "fixed", "value": 1.0},
            }
        )
    )
    _readable(folder)
    with Container(
        root,
        told,
        folder / "log",
        mounts={"/etc/detector": folder / "config", "/var/lib/detector/model": folder / "model"},
        writable=["/tmp", *told.volumes],
        environment={"OMP_NUM_THREADS": "1"},
    ) as running:
        wait_for(
            lambda: (
                not running.running()
                or "event=ready" in running.log()
                or " ready " in running.log()
            ),
            "it is ready",
            timeout_s=120,
        )
        assert running.running(), running.log()
        yield running


def test_the_image_holds_what_the_daemon_needs_and_no_more(image: tuple[Path, Told]) -> None:
    root, told = image
    (packages,) = (root / "opt" / "detector" / "lib").glob("python3.*/site-packages")
    assert {p.name.split(".")[0] for p in (packages / "detector" / "native").glob("*.so")} == {
        "_batches", "_scoring", "_ticks",
    }  # fmt: skip
    names = {path.name for path in packages.iterdir()}
    assert {"numpy", "onnxruntime", "kafka"} <= names
    assert not {"tensorflow", "keras", "scipy", "pip", "setuptools"} & names
    assert not (root / "usr" / "bin" / "gcc").exists()
    assert not (root / "source").exists()
    assert told.labels["org.opencontainers.image.licenses"] == "Apache-2.0"
    assert _megabytes(root) < MOST_MB


def test_the_daemon_is_an_ordinary_user_without_rights(container: Container) -> None:
    status = container.status()
    assert status["Uid"].split() == ["10001"] * 4
    assert status["Gid"].split() == ["10001"] * 4
    assert int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 0
    assert status["NoNewPrivs"] == "1"


def test_the_root_is_read_only(container: Container) -> None:
    for place in ("/opt/detector/x", "/etc/x", "/var/lib/detector/model/x", "/etc/detector/x"):
        assert container.execute("touch", place).returncode != 0, place
    assert container.execute("touch", "/var/lib/detector/x", "/tmp/x").returncode == 0


def test_the_health_check_says_well(container: Container) -> None:
    assert container.health() == 0


def test_it_scores_with_the_native_engine_what_is_published(container: Container) -> None:
    lines = "".join(
        json.dumps({"series": "a", "timestamp": 1_700_000_000 + i, "value": i % 7}) + "\n"
        for i in range(TICKS)
    )
    config = "/etc/detector/config.yaml"
    sent = container.execute("detector", "publish", "--config", config, "--data", "-", given=lines)
    assert sent.returncode == 0, sent.stderr
    wait_for(lambda: _accounted(container) == TICKS, "all ticks are accounted for")
    assert "engine=native" in container.log()


def test_a_daemon_that_stands_still_is_unhealthy(container: Container) -> None:
    container.signal(signal.SIGSTOP)
    try:
        assert container.health() != 0
    finally:
        container.signal(signal.SIGCONT)
    wait_for(lambda: container.health() == 0, "it is well again")


def test_the_stop_signal_ends_it_well(container: Container) -> None:
    assert container.stop() == 0
    assert "stopped" in container.log()


def _accounted(container: Container) -> float:
    url = "http://127.0.0.1:9464/metrics"
    code = f"import urllib.request; print(urllib.request.urlopen({url!r}).read().decode())"
    done = container.execute("python", "-c", code)
    return total(samples(done.stdout), "detector_ticks_total") if not done.returncode else 0.0


def _megabytes(root: Path) -> float:
    done = subprocess.run(
        ["du", "-sx", "-B1", "--apparent-size", str(root)],
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stdout.split()[0]) / 1e6


def _readable(folder: Path) -> None:
    """To the image's user, up to the temporary folder."""
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    for parent in list(folder.parents)[:3]:
        if parent.owner() == "root" and "pytest" in parent.as_posix():
            parent.chmod(0o755)
