"""The link under which a detector finds its model, and the history of where it pointed.

The link is moved in one step; the history beside it (`LINK.history.jsonl`) has a line for each
move: when, who, from which model to which. Model directories stay where they are: whoever replays
what an earlier one judged, or goes back to it, finds it there.
"""

from __future__ import annotations

import contextlib
import fcntl
import getpass
import json
import os
import socket
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from detector.errors import ArtifactError
from detector.model.directory import MANIFEST, Artifact, load_artifact

#: Directories beside the link and its target that are looked at for a model of some version.
_MOST_LOOKED_AT = 1000


@dataclass(frozen=True, slots=True)
class Move:
    """time: RFC 3339, UTC; action: promote or rollback; model, path: what the link points to since;
    before: version and path of what it pointed to, "" for nothing."""

    time: str
    who: str
    action: str
    model: str
    path: str
    before: str
    before_path: str
    note: str = ""


def history_file(link: Path) -> Path:
    return link.with_name(f"{link.name}.history.jsonl")


def history(link: Path) -> list[Move]:
    """The oldest first. Raises ArtifactError if it is damaged."""
    try:
        lines = history_file(link).read_text().splitlines()
    except FileNotFoundError:
        return []
    try:
        return [Move(**json.loads(line)) for line in lines if line]
    except (ValueError, TypeError) as error:
        raise ArtifactError(f"{history_file(link)}: is damaged ({error}); move it away") from None


def move_link(link: Path, to: Artifact, *, action: str, note: str = "") -> Move:
    """Point the link to a model that was loaded. Raises ArtifactError."""
    place = to.path.resolve()
    try:
        with _alone(link):
            return _move(link, to, place, action, note)
    except OSError as error:
        raise ArtifactError(f"{link}: cannot be moved: {error.strerror}") from None


def _move(link: Path, to: Artifact, place: Path, action: str, note: str) -> Move:
    require_link(link)
    before = link.resolve() if link.is_symlink() else None
    known = history(link)
    move = Move(
        time=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
        who=f"{_user()}@{socket.gethostname()}",
        action=action,
        model=to.version,
        path=str(place),
        before="" if before is None else version_of(before) or "",
        before_path="" if before is None else str(before),
        note=note,
    )
    here = link.parent.resolve()
    target = place.relative_to(here) if place.is_relative_to(here) else place
    draft = link.with_name(f".{link.name}.new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(link)
    text = "".join(json.dumps(asdict(one)) + "\n" for one in [*known, move])
    written = history_file(link).with_name(f".{link.name}.history.new")
    with written.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    written.replace(history_file(link))
    descriptor = os.open(here, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
    return move


def require_link(link: Path) -> None:
    """Refuse what is there and is no link. Raises ArtifactError."""
    if link.exists() and not link.is_symlink():
        raise ArtifactError(
            f"{link}: is no link, so it cannot be moved to another model; once: "
            f"mv {link} {link}-1 && ln -s {link.name}-1 {link}"
        )
    if not link.parent.is_dir():
        raise ArtifactError(f"{link}: {link.parent} is no directory")


def before_last(link: Path) -> Path:
    """Where the link pointed before what it points to now. Raises ArtifactError."""
    require_link(link)
    now = str(link.resolve())
    for move in reversed(history(link)):
        if move.path == now and move.before_path and move.before_path != now:
            return Path(move.before_path)
    raise ArtifactError(f"{link}: its history knows nothing before {now}")


def version_of(directory: Path) -> str | None:
    """What its manifest says; None where there is none."""
    try:
        manifest: Any = json.loads((directory / MANIFEST).read_text())
        return str(manifest["model_version"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_model(link: Path, version: str) -> Artifact | None:
    """A model by its version: among those of the history, else beside the link and its target."""
    for directory in _candidates(link):
        if version_of(directory) == version:
            with contextlib.suppress(ArtifactError):
                return load_artifact(directory)
    return None


def _candidates(link: Path) -> Iterator[Path]:
    with contextlib.suppress(ArtifactError):
        for move in reversed(history(link)):
            yield from (Path(move.path), Path(move.before_path or move.path))
    seen = 0
    for parent in dict.fromkeys((link.parent.resolve(), link.resolve().parent)):
        with contextlib.suppress(OSError):
            for one in sorted(parent.iterdir()):
                seen += 1
                if seen > _MOST_LOOKED_AT:
                    return
                if (one / MANIFEST).is_file():
                    yield one


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name, in a container
        return str(os.getuid())


@contextlib.contextmanager
def _alone(link: Path) -> Iterator[None]:
    """While nobody else moves it."""
    descriptor = os.open(link.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
