"""What is written in C, built with the sanitizers of addresses and of undefined behaviour, reads
hostile records without a report."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import detector

ROOT = Path(detector.__file__).parents[1]


def _library(name: str) -> str | None:
    """Of the compiler, as a path; None where it has none."""
    gcc = shutil.which("gcc")
    if gcc is None or not sys.platform.startswith("linux"):
        return None
    asked = [gcc, f"-print-file-name={name}"]
    found = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    return found if Path(found).is_absolute() else None


def _headers() -> Path:
    return Path(sysconfig.get_paths()["include"])


pytestmark = pytest.mark.skipif(
    _library("libasan.so") is None or not (_headers() / "Python.h").exists(),
    reason="no gcc with its sanitizers, or no headers of Python",
)

#: Puts the module that was built into the place of the usual one, then runs the program.
_RUN = """
import importlib.util, runpy, sys
spec = importlib.util.spec_from_file_location("detector.native._ticks", sys.argv.pop(1))
module = importlib.util.module_from_spec(spec)
spec.loader.exec_module(module)
sys.modules["detector.native._ticks"] = module
runpy.run_module(sys.argv.pop(1), run_name="__main__", alter_sys=True)
"""


def _build(source: Path, into: Path) -> Path:
    built = into / "_ticks.abi3.so"
    subprocess.run(
        [
            "gcc", "-shared", "-fPIC", "-std=c11", "-O1", "-g", "-fno-omit-frame-pointer",
            "-DPy_LIMITED_API=0x030B0000", "-fsanitize=address,undefined",
            "-fno-sanitize-recover=undefined", f"-I{_headers()}", str(source), "-o", str(built),
        ],
        check=True,
    )  # fmt: skip
    return built


def _run(built: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LD_PRELOAD": _library("libasan.so") or "",
        "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1",
        "PYTHONMALLOC": "malloc",
        "PYTHONPATH": str(ROOT),
    }
    return subprocess.run(
        [sys.executable, "-c", _RUN, str(built), program, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


@pytest.mark.parametrize("seed", ["1", "2"])
def test_no_byte_beyond_a_record_is_read(tmp_path: Path, seed: str) -> None:
    built = _build(ROOT / "detector" / "native" / "ticks.c", tmp_path)
    done = _run(built, "tests.core.hostile_json", seed, "4000")
    assert done.returncode == 0, done.stderr[-4000:]
    ticks, left = (int(part.split()[0]) for part in done.stdout.split(","))
    assert ticks > 1000
    assert left > 1000


def test_the_sanitizer_sees_such_a_byte(tmp_path: Path) -> None:
    """Else the test above says nothing."""
    source = (ROOT / "detector" / "native" / "ticks.c").read_text()
    wrong = tmp_path / "ticks.c"
    wrong.write_text(source.replace("p + length, row, code)", "p + length + 1, row, code)"))
    for header in (ROOT / "detector" / "native").glob("*.h"):
        shutil.copy(header, tmp_path)
    assert wrong.read_text() != source
    done = _run(_build(wrong, tmp_path), "tests.core.hostile_json", "1", "500")
    assert done.returncode != 0
    assert "AddressSanitizer" in done.stderr
