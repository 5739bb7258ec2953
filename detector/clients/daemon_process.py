"""The daemon as a process of its own, watched through its HTTP port, for demo and benchmarks."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType

from detector.config import environment_without_options
from detector.errors import DetectorError


class DaemonProcess:
    """`detector run` with its log in a file; a context that ends it with SIGTERM. The file of its
    configuration is all it obeys: options in the environment have their place there or none."""

    def __init__(self, config: Path, model: Path, log: Path, *, under: Sequence[str] = ()) -> None:
        """under: options of Python that come before its own, such as -m cProfile."""
        self._config, self._model, self._log = config, model, log
        self._under = under
        self._process: subprocess.Popen[bytes] | None = None
        self.address = ""

    def __enter__(self) -> DaemonProcess:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, *self._under, "-m", "detector", "run"),
                    *("--config", self._config, "--model", self._model),
                ],
                stdout=subprocess.DEVNULL,
                stderr=log,
                env=environment_without_options(),
            )
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        code = self.stop()
        if error is None and code != 0:
            raise DetectorError(f"the daemon ended with {code}: {self._tail()}")

    def wait_ready(self, timeout_s: float = 60.0) -> None:
        """Return when /readyz says so. Raises DetectorError if it never does."""
        deadline = time.monotonic() + timeout_s
        while time.monotonic() < deadline and self.running():
            if not self.address:
                for line in self._log.read_text().splitlines():
                    if " serving " in line:
                        self.address = line.rpartition("address=")[2]
            if self.address and self.get("/readyz") is not None:
                return
            time.sleep(0.01)
        raise DetectorError(f"the daemon is not ready: {self._tail()}")

    def wait_accounted(self, ticks: int, timeout_s: float) -> str:
        """The metrics once they account for that many ticks. Raises DetectorError if never."""
        deadline = time.monotonic() + timeout_s
        seen = 0.0
        while time.monotonic() < deadline and self.running():
            text = self.get("/metrics") or ""
            seen = sum_samples(text, "detector_ticks_total")
            if seen >= ticks:
                return text
            time.sleep(0.05)
        raise DetectorError(
            f"{ticks} ticks were published, the metrics account for {seen:.0f}: {self._tail()}"
        )

    def get(self, path: str) -> str | None:
        """The body of a page, None unless the answer is 200."""
        try:
            with urllib.request.urlopen(self.address + path, timeout=5) as answer:
                text: str = answer.read().decode()
                return text
        except OSError:
            return None

    @property
    def pid(self) -> int:
        assert self._process is not None, "not started"
        return self._process.pid

    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def stop(self) -> int:
        """SIGTERM, wait, and the exit code; kill after a deadline."""
        if self._process is None:
            return 0
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(30)
            except subprocess.TimeoutExpired:
                self._process.kill()
        return self._process.wait()

    def end(self, number: signal.Signals) -> None:
        """Send a signal that ends it, without waiting; nothing if it has ended."""
        if self.running() and self._process is not None:
            self._process.send_signal(number)

    def _tail(self) -> str:
        return self._log.read_text()[-1000:]


def sum_samples(exposition: str, name: str) -> float:
    """The sum of a metric's samples in Prometheus' text format."""
    lines = (line.rpartition(" ") for line in exposition.splitlines())
    return sum(float(v) for left, _, v in lines if left.partition("{")[0] == name)


def by_label(exposition: str, name: str, label: str) -> dict[str, float]:
    """A metric's samples by the value of one label, added up over the others."""
    found: dict[str, float] = {}
    for line in exposition.splitlines():
        left, _, value = line.rpartition(" ")
        base, _, labels = left.partition("{")
        if base == name and f'{label}="' in labels:
            key = labels.partition(f'{label}="')[2].partition('"')[0]
            found[key] = found.get(key, 0.0) + float(value)
    return found
