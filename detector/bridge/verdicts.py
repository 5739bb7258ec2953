"""What an attempt came to, and how long to wait for the next."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum

_FIRST_WAIT_S = 0.5
_LONGEST_ASKED_S = 300.0


class Verdict(Enum):
    """TAKEN: delivered. REFUSED: the target will never take this event. FAILED: it may, later."""

    TAKEN = "taken"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Attempt:
    """why: in a line, for people. wait_s: what the target asks to be left alone for."""

    verdict: Verdict
    why: str = ""
    wait_s: float | None = None


TAKEN = Attempt(Verdict.TAKEN)


class BackOff:
    """Waits that double from half a second to the longest, each shortened by up to half at random,
    so that bridges which lost a target together do not come back together."""

    def __init__(
        self, longest_s: float, *, uniform: Callable[[float, float], float] = random.uniform
    ) -> None:
        self._longest_s, self._uniform = longest_s, uniform
        self.failures = 0

    def wait_s(self, attempt: Attempt) -> float:
        """After one that failed."""
        whole_s = min(self._longest_s, _FIRST_WAIT_S * 2.0 ** min(self.failures, 30))
        self.failures += 1
        wait_s = whole_s * self._uniform(0.5, 1.0)
        return max(wait_s, min(attempt.wait_s or 0.0, _LONGEST_ASKED_S))

    def reset(self) -> None:
        self.failures = 0
