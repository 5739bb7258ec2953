"""What a command that ended says: its output, or the one line of its refusal."""

from __future__ import annotations

import contextlib
import io
import subprocess
from pathlib import Path

from detector.cli.main import main


def trained_here(*arguments: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Run a command that trains in this process, which has TensorFlow already: to load it takes
    longer than the trainings of the tests."""
    out, errors = io.StringIO(), io.StringIO()
    given = [str(argument) for argument in arguments]
    with (
        contextlib.chdir(cwd),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(errors),
    ):
        code = main(given)
    return subprocess.CompletedProcess(given, code, out.getvalue(), errors.getvalue())


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
