"""What a command that ended says: its output, or the one line of its refusal."""

from __future__ import annotations

import subprocess


def succeeded(done: subprocess.CompletedProcess[str]) -> str:
    """The output of a command that ended with 0 and complained of nothing."""
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout


def refusal(done: subprocess.CompletedProcess[str], code: int) -> str:
    """The one line of a command that ended with that code."""
    assert done.returncode == code, (done.returncode, done.stderr, done.stdout)
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("detector")
    return lines[0]
