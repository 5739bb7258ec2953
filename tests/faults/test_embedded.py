"""Faults 1, 2 and 16 on the embedded broker."""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.faults.crew import wait_stopped
from tests.faults.scene import Fault, Scene, make_scene

pytestmark = pytest.mark.faults


@pytest.fixture
def embedded(tmp_path: Path) -> Scene:
    return make_scene(tmp_path, bootstrap_servers=None)


def finish(scene: Scene) -> None:
    with scene.worker(1) as worker:
        worker.wait_ready()
        scene.wait_all_committed()
        assert worker.terminate() == 0, worker.log()


@pytest.mark.parametrize(
    ("point", "calls"),
    [
        ("embedded poll", (1, 2, 7)),
        ("embedded append", (1, 2, 7)),
        ("embedded commit", (1, 2, 7)),
        ("restored", (1, 1)),
        ("replay", (1, 1, 1)),
    ],
)
def test_fault_01_killed_at_a_point_of_the_loop(
    embedded: Scene, point: str, calls: tuple[int, ...]
) -> None:
    embedded.tree["state"]["interval_ms"] = 60_000 if point == "replay" else 500
    embedded.publish(1000)
    with embedded.worker(1, fault=Fault("embedded commit", when=3)) as worker:
        assert worker.wait_ended(timeout_s=60) == -signal.SIGKILL
    for when in calls:
        embedded.publish(900)
        with embedded.worker(1, fault=Fault(point, when=when)) as worker:
            assert worker.wait_ended(timeout_s=60) == -signal.SIGKILL, worker.log()
    embedded.publish(100)
    finish(embedded)
    seen = embedded.assert_exactly_golden()
    assert len(seen.alerts) > 50
    assert seen.letters


def test_fault_02_told_to_stop_under_load(embedded: Scene) -> None:
    for _ in range(3):
        with embedded.publishing(), embedded.worker(1) as worker:
            worker.wait_ready()
            worker.wait_accounted(500)
            assert worker.terminate(timeout_s=10) == 0, worker.log()
    finish(embedded)
    embedded.assert_exactly_golden()
    assert embedded.tallied() == embedded.published
    assert embedded.tallied("detector_replayed_ticks_total") == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 8 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    made = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", str(place)],
        capture_output=True,
        check=False,
    )
    if made.returncode:
        pytest.skip(f"no permission to mount: {made.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "--lazy", str(place)], check=True)


def test_fault_16_the_disk_fills_up(
    small_disk: Path, tmp_path: Path, tell: Callable[[str], None]
) -> None:
    scene = make_scene(
        tmp_path,
        bootstrap_servers=None,
        embedded={"path": str(small_disk / "broker.sqlite"), "retention_records": 10_000_000},
    )
    path, ballast = small_disk / "broker.sqlite", small_disk / "ballast"
    scene.publish(2000)
    with scene.worker(1) as worker:
        worker.wait_ready()
        worker.wait_accounted(1500)
        worker.signal(signal.SIGSTOP)
        wait_stopped(worker)
        scene.publish(4000)
        with closing(sqlite3.connect(path)) as database:  # its log keeps no room in reserve
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        with pytest.raises(OSError, match="No space left"):
            fill(ballast)
        worker.signal(signal.SIGCONT)
        assert worker.wait_ended(timeout_s=60) == 69, worker.log()
    words = worker.log().splitlines()[-1]
    tell(words[:300])
    assert "full" in words
    assert "broker.sqlite" in words
    ballast.unlink()
    finish(scene)
    scene.assert_exactly_golden()


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 512, 1):
            with contextlib.suppress(OSError):
                while True:
                    file.write(bytes(size))
        file.write(b"one more")


def test_fault_16_a_file_that_may_not_be_written(small_disk: Path, tmp_path: Path) -> None:
    scene = make_scene(
        tmp_path, bootstrap_servers=None, embedded={"path": str(small_disk / "broker.sqlite")}
    )
    scene.publish(1000)
    with scene.worker(1, fault=Fault("embedded commit", when=2)) as worker:
        worker.wait_ended(timeout_s=60)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    try:
        with scene.worker(1) as worker:
            assert worker.wait_ended(timeout_s=60) == 69, worker.log()
        words = worker.log().splitlines()[-1]
        assert "broker.sqlite" in words
        assert "embedded.path" in words
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    finish(scene)
    scene.assert_exactly_golden()
