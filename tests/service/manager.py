"""A service manager's ear: a datagram socket, and what was said to it."""

from __future__ import annotations

import os
import socket
from pathlib import Path
from types import TracebackType

from tests.processes import wait_for


class Manager:
    """Listens at a path, or at an abstract name after @."""

    def __init__(self, address: Path | str) -> None:
        self.address = os.fspath(address)
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        abstract = self.address.startswith("@")
        self._socket.bind("\0" + self.address[1:] if abstract else self.address)
        self._socket.setblocking(False)
        self.words: list[dict[str, str]] = []

    def __enter__(self) -> Manager:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._socket.close()

    def environment(self, watchdog_s: float | None = None) -> dict[str, str]:
        watched = {} if watchdog_s is None else {"WATCHDOG_USEC": str(int(watchdog_s * 1e6))}
        return {"NOTIFY_SOCKET": self.address} | watched

    def hear(self) -> list[dict[str, str]]:
        """What was said since the last time."""
        new = []
        while True:
            try:
                text = self._socket.recv(65536).decode()
            except BlockingIOError:
                break
            new.append(dict(line.split("=", 1) for line in text.splitlines()))
        self.words += new
        return new

    def said(self, name: str, value: str = "1") -> bool:
        self.hear()
        return any(words.get(name) == value for words in self.words)

    def wait_said(self, name: str, value: str = "1") -> None:
        wait_for(lambda: self.said(name, value), f"{name}={value} is said")

    def wait_beats(self, beats: int) -> None:
        """So many from now on."""
        self.hear()
        before = self.beats()
        wait_for(lambda: bool(self.hear()) and self.beats() >= before + beats, f"{beats} beats")

    def beats(self) -> int:
        return sum("WATCHDOG" in words for words in self.words)
