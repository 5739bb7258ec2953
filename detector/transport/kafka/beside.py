"""One task at a time, beside the thread that asks for it."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable


class Beside:
    """A thread of its own, as long as it is open. Tasks are begun and ended by one thread at a
    time; wait may be called by any. A task that hangs ends with the process."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._tasks: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._error: BaseException | None = None
        self._ended_s = 0.0
        self._thread: threading.Thread | None = None

    def open(self) -> None:
        self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
        self._thread.start()

    def begin(self, task: Callable[[], None]) -> None:
        """The last task has ended."""
        assert self._thread is not None, "it is not open"
        assert self._idle.is_set(), "one at a time"
        self._idle.clear()
        self._tasks.put(task)

    def end(self, timeout_s: float | None) -> float | None:
        """How long ago the task begun last ended, in seconds; None: it has not, not within
        timeout_s. Raises what the task raised, once."""
        if not self._idle.wait(timeout_s):
            return None
        error, self._error = self._error, None
        if error is not None:
            raise error
        return time.monotonic() - self._ended_s

    def wait(self) -> None:
        """Return when no task is under way, whatever it came to."""
        self._idle.wait()

    def forget(self) -> None:
        """What the last task came to is of no interest."""
        self._idle.wait()
        self._error = None

    def close(self, *, timeout_s: float) -> None:
        """End the thread; a task under way has so long to end."""
        if self._thread is None:
            return
        ended = self._idle.wait(timeout_s)
        self._tasks.put(None)
        if ended:
            self._thread.join()
        self._thread = None
        self._idle.set()  # nobody waits for what was left behind

    def _run(self) -> None:
        while (task := self._tasks.get()) is not None:
            try:
                task()
            except BaseException as error:  # noqa: BLE001 - it is for who asked
                self._error = error
            del task  # what it holds may be large, and the next may be long in coming
            self._ended_s = time.monotonic()
            self._idle.set()
