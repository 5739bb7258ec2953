"""Commands and daemons as processes of their own, and waiting with a deadline.

Knows how to start `python -m detector`, and ends every process it started. Must not know what
the tests send or expect.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import yaml
from prometheus_client.parser import text_string_to_metric_families

POLL_S = 0.02
#: Of whatever a process, a broker or a browser has to do: long, as a machine may be slow and others
#: may keep it busy. Who waits less than that says why.
DEADLINE_S = 120.0
Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


class Deadline:
    """For a loop that waits in its own way: it asks each time whether it is late."""

    def __init__(self, timeout_s: float = DEADLINE_S) -> None:
        self._timeout_s, self._began_s = timeout_s, time.monotonic()

    def check(self, what: object) -> None:
        """AssertionError saying what was awaited once the time is up. conftest.py knows the words:
        such a test is run once more."""
        if time.monotonic() - self._began_s >= self._timeout_s:
            raise AssertionError(f"not within {self._timeout_s:g} s: {what}")


def wait_for(condition: Callable[[], bool], what: str, *, timeout_s: float = DEADLINE_S) -> None:
    """Return when the condition holds; AssertionError saying what was awaited if it never does."""
    deadline = Deadline(timeout_s)
    while not condition():
        deadline.check(what)
        time.sleep(POLL_S)


def write_config(path: Path, tree: Mapping[str, Any]) -> Path:
    path.write_text(yaml.safe_dump(dict(tree), sort_keys=False))
    return path


def clean_environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This environment without the options of somebody's own detector, and with extra."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("DETECTOR_")}
    return kept | dict(extra or {})


def detector(
    *arguments: str | Path,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
    timeout_s: float = DEADLINE_S,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end."""
    return subprocess.run(
        [sys.executable, "-m", "detector", *map(str, arguments)],
        cwd=cwd,
        env=clean_environment(environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


def samples(exposition: str) -> Samples:
    """Every sample of a scrape by name and sorted labels."""
    return {
        (s.name, tuple(sorted(s.labels.items()))): s.value
        for family in text_string_to_metric_families(exposition)
        for s in family.samples
    }


def total(found: Samples, name: str, **labels: str) -> float:
    """The sum of a metric's samples that carry these labels."""
    wanted = set(labels.items())
    return sum(v for (n, have), v in found.items() if n == name and wanted <= set(have))


def by_label(found: Samples, name: str, label: str) -> dict[str, float]:
    """A metric's samples by one label; those at zero are left out."""
    result: dict[str, float] = {}
    for (n, have), value in found.items():
        if n == name and value:
            key = dict(have)[label]
            result[key] = result.get(key, 0.0) + value
    return result


class RunningDaemon:
    """`detector run` in a process, its log in a file; a context that leaves no process behind.

    command: what to start instead of `python -m detector`, for a run that is watched.
    """

    def __init__(
        self,
        config: Path,
        model: Path,
        *,
        cwd: Path,
        environment: Mapping[str, str] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "detector"),
    ) -> None:
        self._command = [*command, "run", "--config", str(config), "--model", str(model)]
        self._cwd, self._environment = cwd, clean_environment(environment)
        self._log = cwd / f"daemon-{time.monotonic_ns()}.log"
        self._output = self._log.with_suffix(".out")
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def __enter__(self) -> RunningDaemon:
        with self._log.open("wb") as log, self._output.open("wb") as output:
            self._process = subprocess.Popen(
                self._command,
                cwd=self._cwd,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        assert self._process is not None
        if self._process.poll() is None:
            self._process.kill()
        self._process.wait(DEADLINE_S)
        if error is not None:  # shown with a test that fails
            sys.stdout.write(f"-- the log of {self._log.name} ends:\n{self._last_words()}\n")

    def wait_ready(self, *, timeout_s: float = DEADLINE_S) -> None:
        def ready() -> bool:
            self._must_run()
            found = re.search(r"serving address=(\S+)", self.log())
            self.address = found[1] if found else ""
            return bool(self.address) and self.get("/readyz")[0] == 200

        wait_for(ready, "the daemon is ready", timeout_s=timeout_s)

    def wait_accounted(self, ticks: int, *, timeout_s: float = DEADLINE_S) -> Samples:
        """The metrics, once they account for that many ticks or more."""
        found: Samples = {}

        def accounted() -> bool:
            nonlocal found
            self._must_run()
            status, text = self.get("/metrics")
            if status != 200:  # it is about to end: the next look says how
                return False
            found = samples(text)
            return total(found, "detector_ticks_total") >= ticks

        try:
            wait_for(accounted, "", timeout_s=timeout_s)
        except AssertionError:
            seen = by_label(found, "detector_ticks_total", "outcome")
            raise AssertionError(
                f"{ticks} ticks were published, after {timeout_s:g} s the metrics account for "
                f"{seen}; {self._last_words()}"
            ) from None
        return found

    def metrics(self) -> Samples:
        status, text = self.get("/metrics")
        assert status == 200, text
        return samples(text)

    def get(self, path: str) -> tuple[int, str]:
        """Status and body; status 0 while nobody answers."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()
        except OSError as error:
            return 0, str(error)

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def exit_code(self) -> int | None:
        """None while it runs."""
        assert self._process is not None
        return self._process.poll()

    def signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def wait_ended(self, *, timeout_s: float = DEADLINE_S) -> int:
        """The exit code. TimeoutError, with the log, if it does not end."""
        assert self._process is not None
        try:
            return self._process.wait(timeout_s)
        except subprocess.TimeoutExpired as error:
            raise TimeoutError(f"still running after {timeout_s:.0f} s:\n{self.log()}") from error

    def terminate(self, *, timeout_s: float = DEADLINE_S) -> int:
        """SIGTERM; the exit code. TimeoutError, with the log, if it does not end."""
        self.signal(signal.SIGTERM)
        return self.wait_ended(timeout_s=timeout_s)

    def log(self) -> str:
        return self._log.read_text()

    def output(self) -> str:
        return self._output.read_text()

    def _must_run(self) -> None:
        assert self._process is not None
        code = self._process.poll()
        if code is not None:
            raise AssertionError(f"the daemon ended with {code}: {self._last_words()}")

    def _last_words(self) -> str:
        return "\n".join(line[:300] for line in self.log().splitlines()[-20:])
