"""Work for processes: they import it by its name."""

from __future__ import annotations

import os
import time


def double(piece: int) -> int:
    """Of 3 an error, of 4 the end of the process, of 5 no end."""
    if piece == 3:
        raise ValueError("three")
    if piece == 4:
        os._exit(9)
    if piece == 5:
        time.sleep(600)
    return 2 * piece


def which(_: int) -> int:
    return os.getpid()
