"""Processes of a benchmark, so that none waits for another's turn, and what a process takes."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from detector.errors import DetectorError

#: For a process of ours to have its messages, or to say what it saw.
_DEADLINE_S = 120.0


@contextmanager
def own_process(target: Callable[..., None], *arguments: Any) -> Iterator[Connection]:
    """A process and our end of its pipe; it is gone when the context ends."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=target, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
        process.join(_DEADLINE_S)
    finally:
        if process.is_alive():
            process.kill()
        process.join()
        ours.close()


def receive(pipe: Connection, name: str, more_s: float = 0.0) -> Any:
    try:
        if pipe.poll(_DEADLINE_S + more_s):
            return pipe.recv()
    except EOFError:
        raise DetectorError(f"the {name} of the benchmark ended early") from None
    raise DetectorError(f"the {name} of the benchmark did not answer in {_DEADLINE_S:g} s")


def cpu_s_by_thread(pid: int) -> dict[int, float]:
    """Seconds of processor of each thread that a process has now, by its number: the first field of
    schedstat, in nanoseconds (Linux, Documentation/scheduler/sched-stats.rst)."""
    found = {}
    for thread in Path(f"/proc/{pid}/task").iterdir():
        try:
            text = (thread / "schedstat").read_text()
        except FileNotFoundError:
            continue  # it has ended
        found[int(thread.name)] = int(text.split()[0]) / 1e9
    return found
