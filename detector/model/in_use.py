"""Whether a model directory is that of a running detector, told by a lock on its manifest that ends
with the process. It keeps nobody from replacing the model: it lets him be told. (Not whoever
replaces it once more: the lock went with the model that the detector runs.)"""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator
from pathlib import Path

from detector.model.directory import MANIFEST


@contextlib.contextmanager
def held(path: Path) -> Iterator[None]:
    """While a detector runs with the model. Where nothing can be locked (some network file
    systems), nobody is told."""
    descriptor = _open(path)
    try:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def in_use(path: Path) -> bool:
    """Whether somebody holds it, as far as can be told."""
    descriptor = _open(path)
    if descriptor is None:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    finally:
        os.close(descriptor)
    return False


def _open(path: Path) -> int | None:
    try:
        return os.open(path / MANIFEST, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
