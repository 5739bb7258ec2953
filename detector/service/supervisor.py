"""What a service manager is told: ready, alive, stopping, and a line of status (sd_notify(3)).

Knows the protocol, a datagram of NAME=value lines to a socket, and how often to speak. Must not
know what ready means. Says nothing where nobody listens, and never waits: what a socket that is
full does not take goes with the next word.
"""

from __future__ import annotations

import contextlib
import socket
from dataclasses import dataclass

#: Beats go out so many times in the time after which the manager takes the process for hung.
_BEATS_IN_TIME = 4
#: And so often where it does not watch: for the line of status.
_STATUS_EVERY_S = 5.0
#: A start may take so much longer, counted anew from each beat (restoring a large state).
_STARTING_S = 120
#: As the manager counts: no watching at all.
_FOR_EVER_US = 2**64 - 1


@dataclass(frozen=True, slots=True)
class Supervision:
    """address: of the manager's socket, a path or an abstract name after @; None: nobody listens.
    watchdog_us: after so long without a beat it ends the process; None: it does not watch."""

    address: str | None = None
    watchdog_us: int | None = None


class Supervisor:
    def __init__(self, asked: Supervision) -> None:
        self._watchdog_us = asked.watchdog_us
        self._address = asked.address
        self._socket: socket.socket | None = None
        if asked.address is not None:
            self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
            self._socket.setblocking(False)
        watched_s = (asked.watchdog_us or 0) / 1e6 or float("inf")
        self._every_s = min(watched_s / _BEATS_IN_TIME, _STATUS_EVERY_S)
        self._told_s = -1e9
        self._has_started = False
        self._is_lifted = False
        self._unsent: dict[str, str] = {}

    def due(self, now_s: float) -> bool:
        """Whether a beat is: it costs nothing to ask."""
        late = now_s - self._told_s >= self._every_s
        return self._socket is not None and (late or self._is_lifted)

    def beat(self, now_s: float, status: str) -> None:
        """The loop goes round."""
        self._told_s = now_s
        words = {"STATUS": status, "WATCHDOG": "1"}
        if self._is_lifted:
            words["WATCHDOG_USEC"] = str(self._watchdog_us)
        if not self._has_started:
            words["EXTEND_TIMEOUT_USEC"] = str(_STARTING_S * 1_000_000)
        self._is_lifted = False
        self._tell(words)

    def ready(self) -> None:
        """The start has ended; what comes after it is told in the status."""
        if not self._has_started:
            self._has_started = True
            self._tell({"READY": "1"})

    def lift(self) -> None:
        """No beat until the next one: what comes may take long."""
        if self._watchdog_us is not None:
            self._is_lifted = True
            self._tell({"WATCHDOG_USEC": str(_FOR_EVER_US)})

    def stopping(self) -> None:
        self._tell({"STOPPING": "1", "STATUS": "stopping"})

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _tell(self, words: dict[str, str]) -> None:
        if self._socket is None or self._address is None:
            return
        self._unsent |= words
        lines = "\n".join(f"{name}={value}" for name, value in self._unsent.items())
        with contextlib.suppress(OSError):  # full, or the manager starts anew: with the next word
            self._socket.sendto(lines.encode(), _of_the_kernel(self._address))
            self._unsent.clear()


def _of_the_kernel(address: str) -> str:
    """An abstract name begins with a zero byte there."""
    return "\0" + address[1:] if address.startswith("@") else address
