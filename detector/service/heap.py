"""The memory of a process whose threads come and go, and that does not stop to tidy up."""

from __future__ import annotations

import ctypes
import gc

_M_ARENA_MAX = -8  # malloc.h of the GNU C library


def share_one_heap() -> None:
    """Let all threads allocate from one heap. The GNU C library gives each a heap of its own, up
    to eight a core, and a client that is told of a hand-over makes new threads: what they leave in
    one heap no other thread can use. Python's threads take turns anyway. Called before there are
    any; another C library stays as it is."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_ARENA_MAX, 1)


def set_aside() -> None:
    """Let the garbage collector leave alone what is there now: modules, model and broker live as
    long as the process. Looking through all of them takes a tenth of a second, again and again.
    Called when everything is put together."""
    gc.collect()
    gc.freeze()
