"""A model directory is replaced in one step: whoever reads finds the old one or the new one,
whatever happens in between."""

from __future__ import annotations

import errno
import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path

import pytest

from detector.errors import ArtifactError
from detector.model import directory, replacing
from detector.model.directory import load_artifact, save_artifact
from detector.model.replacing import previous, replace_directory
from tests.artifacts import make_artifact
from tests.processes import wait_for


def names(path: Path) -> list[str]:
    return sorted(p.name for p in path.iterdir())


def without_exchange(*_: object) -> None:
    raise OSError(errno.EINVAL, "this file system exchanges nothing")


@pytest.mark.parametrize("exchange", [True, False])
def test_what_was_there_is_gone_and_nothing_else_is_left(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not exchange:
        monkeypatch.setattr(replacing, "_exchange", without_exchange)
    path = tmp_path / "model"
    replace_directory(path, {"a": b"1", "b": b"2"})
    replace_directory(path, {"a": b"3"})
    assert (path / "a").read_bytes() == b"3"
    assert (names(path), names(tmp_path)) == (["a"], ["model"])


@pytest.mark.parametrize("exchange", [True, False])
def test_a_reader_always_finds_a_whole_model(
    tmp_path: Path, exchange: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While two models take turns under one name."""
    if not exchange:
        monkeypatch.setattr(replacing, "_exchange", without_exchange)
    models = [make_artifact(tmp_path / f"m{seed}", seed=seed) for seed in range(2)]
    place, stop = tmp_path / "model", threading.Event()
    save_artifact(place, models[0].manifest, models[0].files)

    def take_turns() -> None:
        turn = 0
        while not stop.is_set():
            turn += 1
            save_artifact(place, models[turn % 2].manifest, models[turn % 2].files)

    writer = threading.Thread(target=take_turns)
    writer.start()
    seen = set[str]()
    try:
        for _ in range(300):
            found = load_artifact(place)
            expected = models[0] if found.version == models[0].version else models[1]
            assert found.files == expected.files
            seen.add(found.version)
    finally:
        stop.set()
        writer.join()
    assert len(seen) == 2
    assert names(tmp_path) == ["m0", "m1", "model"]


def test_a_crash_between_two_renames_leaves_the_old_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the file system cannot exchange directories."""
    old = make_artifact(tmp_path / "model", seed=0)
    new = make_artifact(tmp_path / "other", seed=1)
    monkeypatch.setattr(replacing, "_exchange", without_exchange)
    rename, done = Path.rename, 0

    def die(self: Path, target: Path) -> Path:
        nonlocal done
        done += 1
        if done == 2:
            raise KeyboardInterrupt
        return rename(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "rename", die)
        with pytest.raises(KeyboardInterrupt):
            save_artifact(old.path, new.manifest, new.files)
    assert not old.path.exists()
    assert previous(old.path).is_dir()
    assert load_artifact(old.path).version == old.version
    save_artifact(old.path, new.manifest, new.files)
    assert load_artifact(old.path).version == new.version
    assert names(tmp_path) == ["model", "other"]


def test_an_error_between_two_renames_brings_the_old_model_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    replace_directory(tmp_path / "model", {"a": b"1"})
    monkeypatch.setattr(replacing, "_exchange", without_exchange)
    rename = Path.rename

    def fail(self: Path, target: Path) -> Path:
        if self.name.startswith(".model-"):
            raise OSError(errno.EIO, "Input/output error")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", fail)
    with pytest.raises(OSError, match="Input/output error"):
        replace_directory(tmp_path / "model", {"a": b"2"})
    assert (tmp_path / "model" / "a").read_bytes() == b"1"
    assert names(tmp_path) == ["model"]


def test_what_killed_processes_left_goes_when_it_is_old(tmp_path: Path) -> None:
    stale, fresh, other = (
        tmp_path / name for name in (".model-abcdefgh", ".model-ijklmnop", ".models-abcdefg")
    )
    for draft in (stale, fresh, other):
        draft.mkdir()
        (draft / "manifest.json").write_text("{}")
    for draft in (stale, other):
        os.utime(draft, (0, 0))
    replace_directory(tmp_path / "model", {"a": b"1"})
    assert names(tmp_path) == [".model-ijklmnop", ".models-abcdefg", "model"]


def save_for_ever(path: Path, one: Path, other: Path) -> None:
    """Runs in a process of its own, until it is killed."""
    models = [load_artifact(one), load_artifact(other)]
    while True:
        for model in models:
            save_artifact(path, model.manifest, model.files)


@pytest.mark.parametrize("wait", range(5))
def test_a_kill_at_any_moment_leaves_a_whole_model(tmp_path: Path, wait: int) -> None:
    models = [make_artifact(tmp_path / f"m{seed}", seed=seed).path for seed in range(2)]
    place = tmp_path / "model"
    process = multiprocessing.get_context("spawn").Process(
        target=save_for_ever, args=(place, *models)
    )
    process.start()
    try:
        wait_for(place.exists, "the first model is there")
        before = place.stat().st_ino
        wait_for(lambda: place.stat().st_ino != before, "it was replaced")
        threading.Event().wait(0.003 * wait)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
    finally:
        process.kill()
        process.join()
    assert load_artifact(place).version in {"random-0", "random-1"}


def test_a_write_that_fails_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_artifact(tmp_path / "model", seed=0)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(replacing, "_write", full)
    with pytest.raises(ArtifactError, match="No space left"):
        save_artifact(old.path, old.manifest, old.files)
    assert load_artifact(old.path).version == old.version
    assert names(tmp_path) == ["model"]


@pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")
def test_on_linux_both_stand_at_every_moment(tmp_path: Path) -> None:
    """No moment without a model: the names are exchanged."""
    one, other = tmp_path / "one", tmp_path / "other"
    for path in (one, other):
        path.mkdir()
        (path / path.name).touch()
    replacing._exchange(one, other)
    assert (names(one), names(other)) == (["other"], ["one"])


def test_a_model_that_is_replaced_while_it_is_read_is_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = make_artifact(tmp_path / "model", seed=0)
    new = make_artifact(tmp_path / "other", seed=1)
    verified, done = directory._verified, False

    def replaced_meanwhile(path: Path, name: str, sha: str) -> bytes:
        nonlocal done
        if not done:
            done = True
            save_artifact(old.path, new.manifest, new.files)
        return verified(path, name, sha)

    monkeypatch.setattr(directory, "_verified", replaced_meanwhile)
    assert load_artifact(old.path).version == new.version
