"""A command that is run for each event."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence

from detector.bridge.events import Event, environment_of
from detector.bridge.verdicts import TAKEN, Attempt, Verdict

#: EX_DATAERR of sysexits.h: the command will never do with this event.
_NEVER = 65


class Command:
    """Without a shell, in a process group of its own, which is ended when its time is over. What
    it prints goes to standard error of the bridge."""

    def __init__(
        self,
        words: Sequence[str],
        *,
        timeout_s: float,
        link: str | None,
        environment: Mapping[str, str],
    ) -> None:
        """environment: what every command gets, without the secrets of the bridge."""
        self._words, self._timeout_s, self._link = list(words), timeout_s, link
        self._environment = dict(environment)

    def send(self, event: Event) -> Attempt:
        try:
            process = subprocess.Popen(
                self._words,
                stdin=subprocess.PIPE,
                stdout=sys.stderr.fileno(),
                env=self._environment | environment_of(event, self._link),
                start_new_session=True,
            )
        except (OSError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error)
            return Attempt(Verdict.FAILED, f"cannot be started: {why}")
        try:
            process.communicate(event.raw + b"\n", timeout=self._timeout_s)
        except subprocess.TimeoutExpired:
            self._end(process)
            return Attempt(Verdict.FAILED, f"has not ended within {self._timeout_s:g} s: killed")
        code = process.returncode
        if code == 0:
            return TAKEN
        if code == _NEVER:
            return Attempt(Verdict.REFUSED, f"ended with {_NEVER} (bad data)")
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        return Attempt(Verdict.FAILED, how)

    def _end(self, process: subprocess.Popen[bytes]) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        if process.stdin is not None:
            with contextlib.suppress(OSError):
                process.stdin.close()

    def close(self) -> None:
        """Nothing is held."""
