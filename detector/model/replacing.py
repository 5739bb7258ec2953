"""A directory written as a whole: there, durable and complete, or not at all.

A directory that is there already is exchanged with its successor in one step of the file system
(renameat2 with RENAME_EXCHANGE, Linux 3.15), so at every moment one of the two stands under the
name. Where the file system cannot do that (NFS) the old one steps aside to `.NAME.previous` first:
after a crash in between readers find it there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
#: Writing a draft takes seconds: an older one is of a process that was killed.
_STALE_S = 3600.0
_UNSUPPORTED = {errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP}


def replace_directory(path: Path, files: Mapping[str, bytes]) -> None:
    """Write files into a directory at path, which holds nothing else afterwards. Raises OSError,
    and then what was there is there still."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    draft = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        draft.chmod(0o755)
        for name, content in files.items():
            _write(draft / name, content)
        _sync(draft)
        if path.exists():
            _swap(draft, path)
        else:
            draft.rename(path)
        _sync(path.parent)
    finally:
        if draft.exists():  # after an exchange: the old directory
            shutil.rmtree(draft)
    shutil.rmtree(previous(path), ignore_errors=True)


def previous(path: Path) -> Path:
    """Where the old directory stands for a moment, where an exchange cannot be had."""
    return path.with_name(f".{path.name}.previous")


def _sweep(path: Path) -> None:
    """Remove what killed processes have left."""
    for draft in path.parent.glob(f".{glob.escape(path.name)}-????????"):
        with contextlib.suppress(OSError):
            if time.time() - draft.stat().st_mtime > _STALE_S:
                shutil.rmtree(draft)


def _swap(draft: Path, path: Path) -> None:
    try:
        _exchange(draft, path)
    except OSError as error:
        if error.errno not in _UNSUPPORTED:
            raise
        aside = previous(path)
        shutil.rmtree(aside, ignore_errors=True)
        path.rename(aside)
        try:
            draft.rename(path)
        except OSError:
            aside.rename(path)
            raise


def _exchange(one: Path, other: Path) -> None:
    """Both names change places in one step."""
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:  # another C library, or another system
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS)) from None
    arguments = (_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    if renameat2(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _write(path: Path, content: bytes) -> None:
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _sync(directory: Path) -> None:
    """A directory's entries are durable only once it is itself."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
