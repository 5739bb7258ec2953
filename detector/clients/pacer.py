"""A rate kept by waiting."""

from __future__ import annotations

import time
from collections.abc import Callable


class Pacer:
    """Holds back so that at most rate items a second pass; None lets all pass. Who comes late
    catches up, but not with more than catch_up_s of it; None: with all."""

    def __init__(
        self,
        rate: float | None,
        *,
        catch_up_s: float | None = None,
        monotonic_s: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._rate, self._catch_up_s = rate, catch_up_s
        self._monotonic_s, self._sleep = monotonic_s, sleep
        self._due_s: float | None = None  # of the next item

    def wait(self, items: int) -> None:
        """Return when items more may pass."""
        if self._rate is None:
            return
        now_s = self._monotonic_s()
        due_s = now_s if self._due_s is None else self._due_s
        if self._catch_up_s is not None:
            due_s = max(due_s, now_s - self._catch_up_s)
        if due_s > now_s:
            self._sleep(due_s - now_s)
        self._due_s = due_s + items / self._rate
