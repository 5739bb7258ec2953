"""Threads that come and go share one heap (the GNU C library)."""

from __future__ import annotations

import ctypes
import subprocess
import sys

import pytest

PROGRAM = """
import ctypes, sys, threading
from detector.service.heap import share_one_heap
if sys.argv[1] == "shared":
    share_one_heap()
libc = ctypes.CDLL(None)
libc.malloc.restype = libc.fopen.restype = ctypes.c_void_p
threads = [threading.Thread(target=libc.malloc, args=(1000,)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
out = ctypes.c_void_p(libc.fopen(b"/dev/stdout", b"w"))
libc.malloc_info(0, out)
libc.fclose(out)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_info"), reason="another C library")
def test_threads_share_one_heap() -> None:
    def heaps(how: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, how], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.count("<heap nr=")

    assert heaps("apart") > 1
    assert heaps("shared") == 1


def test_what_was_set_aside_is_not_looked_through_again() -> None:
    """Nor is anything lost that comes after."""
    program = """
import gc
import weakref
from detector.service.heap import set_aside

class Circle:
    def __init__(self):
        self.itself = self

early = Circle()
before = len(gc.get_objects())
set_aside()
assert gc.get_freeze_count() > before / 2
assert not any(one is early for one in gc.get_objects())
late = weakref.ref(Circle())
gc.collect()
assert late() is None
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
