"""Where secrets come from: given, a file, or a program that prints them.

What is wrong with one is said without it.
"""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from detector.errors import ConfigError
from detector.transport.kafka.security import Source

_COMMAND_TIMEOUT_S = 10.0
_MOST_BYTES = 65_536


def given(text: str) -> Source:
    return lambda: text


def file(option: str, path: str) -> Source:
    """Its only line, read anew each time."""

    def read() -> str:
        try:
            with Path(path).open("rb") as opened:
                text = opened.read(_MOST_BYTES + 1)
        except OSError as error:
            raise ConfigError(f"{option}: {path}: {error.strerror}") from None
        return _one_line(option, path, text)

    return read


def command(option: str, arguments: Sequence[str]) -> Source:
    """What it prints, run anew each time; its complaints go where ours go."""

    def run() -> str:
        name = arguments[0]
        try:
            done = subprocess.run(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                timeout=_COMMAND_TIMEOUT_S,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise ConfigError(
                f"{option}: {name} has not ended within {_COMMAND_TIMEOUT_S:g} s"
            ) from None
        except OSError as error:
            raise ConfigError(f"{option}: {name}: {error.strerror}") from None
        if done.returncode != 0:
            raise ConfigError(f"{option}: {name} ended with exit code {done.returncode}")
        return _one_line(option, f"the output of {name}", done.stdout)

    return run


def _one_line(option: str, where: str, text: bytes) -> str:
    try:
        lines = text.decode().splitlines() if len(text) <= _MOST_BYTES else []
    except UnicodeDecodeError:
        lines = []
    if len(lines) != 1 or not lines[0]:
        raise ConfigError(f"{option}: {where}: must hold the secret in one line, and nothing else")
    return lines[0]
