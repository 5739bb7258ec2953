"""Lines of text as they arrive from a stream of bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import IO

#: Told of each row that is none, in a line that names where it stands.
Wrong = Callable[[str], None]
#: A longer line is none.
LONGEST_LINE = 1 << 24


class Arriving:
    """The lines of a stream, without those of nothing at its beginning. A line that is no UTF-8
    text, or longer than LONGEST_LINE bytes, is told of and left out."""

    def __init__(self, stream: IO[bytes], name: str, wrong: Wrong) -> None:
        self._stream, self._name, self._wrong = stream, name, wrong
        self._lines: list[bytes | None] = []  # backwards: the next one is the last; None: too long
        self._rest: list[bytes] = []  # of a line that has not ended
        self._size, self._number = 0, 0

    @property
    def drained(self) -> bool:
        """Whether the next line has to be waited for."""
        return not self._lines

    @property
    def number(self) -> int:
        """Of the line that was given last, from 1."""
        return self._number

    def first(self) -> str:
        """Looked at, not taken; empty where there is none."""
        line = ""
        while not line.strip():
            line = next(self, "")
            if not line:
                return ""
        self._lines.append(line.encode())
        self._number -= 1
        return line

    def __iter__(self) -> Arriving:
        return self

    def __next__(self) -> str:
        while True:
            while not self._lines:
                self._fill()
            self._number += 1
            line = self._lines.pop()
            if line is None:
                self._wrong(
                    f"{self._name}: line {self._number} is longer than {LONGEST_LINE} bytes"
                )
                continue
            try:
                return line.decode("utf-8-sig" if self._number == 1 else "utf-8")
            except UnicodeDecodeError:
                self._wrong(f"{self._name}: line {self._number} is no UTF-8 text")

    def _fill(self) -> None:
        found = self._stream.read1(1 << 16)  # type: ignore[attr-defined]  # buffered streams
        if not found:
            if not self._size:
                raise StopIteration
            self._lines = [self._ended(b"")]
            return
        first, *others = found.split(b"\n")
        if others:
            *whole, rest = others
            self._lines = [line + b"\n" for line in reversed(whole)]
            self._lines.append(self._ended(first + b"\n"))
            first = rest
        self._size += len(first)
        if self._size > LONGEST_LINE:
            self._rest.clear()
        elif first:
            self._rest.append(first)

    def _ended(self, last: bytes) -> bytes | None:
        """The line whose last bytes these are."""
        size = self._size + len(last)
        line = b"".join([*self._rest, last])
        self._rest.clear()
        self._size = 0
        return line if size <= LONGEST_LINE else None
