"""Work on several cores at once, in processes of their own: one that dies costs its piece of work
and nothing else, and all end at once when the work is broken off.

Processes are spawned, not forked: a network library must not be copied while it works. Each is
replaced after some pieces, so what such a library keeps does not add up.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Generic, TypeVar

Given = TypeVar("Given")
Found = TypeVar("Found")

_PIECES_A_PROCESS = 25
_END_S = 10.0


@dataclass(frozen=True, slots=True)
class Failed:
    """A piece of work that came to nothing: what its process said last."""

    reason: str


@dataclass(slots=True)
class _Worker(Generic[Given]):
    process: BaseProcess
    pipe: Connection
    number: int | None = None  # of the piece it works on
    pieces: int = 0


def in_processes(
    work: Callable[[Given], Found], pieces: Sequence[Given], *, jobs: int
) -> Generator[tuple[int, Found | Failed], None, None]:
    """The number of each piece and what became of it, in the order in which they are done. work:
    a function of a module. Closing the iterator, or any error in who reads it, ends the
    processes."""
    waiting = list(range(len(pieces)))[::-1]
    workers: list[_Worker[Given]] = []
    try:
        while waiting or any(one.number is not None for one in workers):
            while waiting and len(workers) < jobs:
                workers.append(_start(work))
            for one in workers:
                if one.number is None and waiting:
                    one.number = waiting.pop()
                    one.pieces += 1
                    one.pipe.send(pieces[one.number])
            busy = [one for one in workers if one.number is not None]
            ready = wait([one.pipe for one in busy])
            for one in busy:
                if one.pipe not in ready:
                    continue
                assert one.number is not None
                number, one.number = one.number, None
                try:
                    found: Found | Failed = one.pipe.recv()
                except (EOFError, ConnectionError):
                    one.process.join(_END_S)
                    found = Failed(f"its process ended with code {one.process.exitcode}")
                    workers.remove(one)
                    _end(one)
                else:
                    if isinstance(found, Failed):
                        one.process.join(_END_S)  # it still tells on stderr what happened
                    if isinstance(found, Failed) or one.pieces >= _PIECES_A_PROCESS:
                        workers.remove(one)
                        _end(one)
                yield number, found
    finally:
        for one in workers:
            _end(one)


def _start(work: Callable[[Given], Found]) -> _Worker[Given]:
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_run, args=(work, theirs), daemon=True)
    process.start()
    theirs.close()  # else nobody would notice that the process is gone
    return _Worker(process, ours)


def _end(worker: _Worker[Given]) -> None:
    worker.pipe.close()
    worker.process.kill()  # it holds nothing that anybody needs
    worker.process.join()


def _run(work: Callable[[Given], Found], pipe: Connection) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the process above ends this one
    while True:
        try:
            piece = pipe.recv()
        except EOFError:
            return
        try:
            found = work(piece)
        except Exception as error:  # a bug: said to who waits for the piece, then to the operator
            pipe.send(Failed(f"{type(error).__name__}: {error}"))
            raise
        pipe.send(found)
