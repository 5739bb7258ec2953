"""Ends a process whose loop hangs: the client library's commit can wait without bound.

A thread of its own looks at the clock; when the loop has not moved for too long, or has not
ended in time after it was told to, the process ends at once. What was not committed is read
again after the restart.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable

from detector.errors import EXIT_HUNG
from detector.service.logs import event

_LOOK_EVERY_S = 0.5
_LAST_WORDS_S = 2.0


class Watchdog:
    """hung says what is wrong, None while all is well; end ends the process."""

    def __init__(
        self, hung: Callable[[], str | None], *, end: Callable[[int], object] = os._exit
    ) -> None:
        self._hung, self._end = hung, end
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopped.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stopped.wait(_LOOK_EVERY_S):
            wrong = self._hung()
            if wrong is not None:
                # Whoever reads the log may hang too, and hold the loop with it.
                last_words = threading.Thread(target=_say, args=(wrong,), daemon=True)
                last_words.start()
                last_words.join(_LAST_WORDS_S)
                self._end(EXIT_HUNG)
                return


def _say(wrong: str) -> None:
    event("hung: this process ends, start it again", level=logging.CRITICAL, why=wrong)
