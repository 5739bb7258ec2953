"""The reader in C never leaves its buffer, whatever the bytes: run under AddressSanitizer and
UndefinedBehaviorSanitizer, in a process of its own."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

import detector
from tests.transport.fetched import GZIP, Made, batch, sealed

_SOURCE = Path(detector.__file__).parent / "native" / "batches.c"
_HEADERS = Path(sysconfig.get_path("include"), "Python.h")
_SEED, _ROUNDS = 11, 40_000

# Each buffer is an allocation of its own (PYTHONMALLOC=malloc) and of its very size: a slice of an
# array is, an array made of bytes has room to grow.
_FUZZ = """
import array, random, struct, sys
import _batches
chance, rounds = random.Random(int(sys.argv[1])), int(sys.argv[2])
seeds = [open(name, "rb").read() for name in sys.argv[3:]]
taken = left = 0
for _ in range(rounds):
    data = bytearray(chance.choice(seeds))
    for _ in range(chance.choice((0, 1, 1, 2, 5))):
        at = chance.randrange(len(data))
        data[at] = chance.choice((0, 1, 2, 0x7E, 0x7F, 0x80, 0xFE, 0xFF, chance.randrange(256)))
    del data[chance.choice((len(data), len(data), chance.randrange(len(data) + 1))):]
    if len(data) > 61 and chance.random() < 0.7:
        length = struct.unpack_from(">i", data, 8)[0]
        if 49 <= length <= len(data) - 12:
            own = array.array("B", data[21:12 + length])[:]
            struct.pack_into(">I", data, 17, _batches.crc32c(own))
            assert _batches.crc32c_plain(own) == _batches.crc32c(own)
    own = array.array("B", data)[:]
    end, _, _, records, columns = _batches.run(own, chance.choice((0, 0, 0, 1, 61, -1)), 64)
    columns = memoryview(columns).cast("q")
    capacity = len(columns) // 7
    for row in range(records):
        for start, length in ((2, 3), (4, 5)):
            begin, size = columns[start * capacity + row], columns[length * capacity + row]
            assert 0 <= begin <= begin + max(size, 0) <= end <= len(own) and size >= -1
    taken, left = taken + records, left + (end < len(own))
    body = array.array("B", data[61:])[:]
    numbers = [chance.choice((0, 5, 2**63 - 1, -2**63)) for _ in range(3)]
    _batches.body(body, chance.choice((0, 1, 3, 7, -1, 2**31 - 1)), chance.choice((0, 8)), *numbers)
assert taken > rounds // 4 and left > rounds // 4, (taken, left)
print("unharmed", taken, left)
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="needs gcc")
@pytest.mark.skipif(not _HEADERS.exists(), reason="needs the headers of Python")
def test_no_bytes_lead_out_of_the_buffer(tmp_path: Path) -> None:
    sanitizers = [
        Path(_said("gcc", f"-print-file-name={name}")) for name in ("libasan.so", "libubsan.so")
    ]
    if not all(path.is_absolute() and path.exists() for path in sanitizers):
        pytest.skip("needs the sanitizers of gcc")
    built = tmp_path / "_batches.abi3.so"
    _said(
        *("gcc", "-std=c11", "-O1", "-g", "-shared", "-fPIC", "-DPy_LIMITED_API=0x030B0000"),
        *("-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer"),
        *("-I", str(_HEADERS.parent), str(_SOURCE), "-o", str(built)),
    )
    seeds = []
    chance = random.Random(_SEED)
    for number, made in enumerate(_seeds(chance)):
        seeds.append(tmp_path / f"{number}.bin")
        seeds[-1].write_bytes(made)
    done = subprocess.run(
        [sys.executable, "-c", _FUZZ, str(_SEED), str(_ROUNDS), *map(str, seeds)],
        env={
            **os.environ,
            "LD_PRELOAD": " ".join(map(str, sanitizers)),
            # Python itself leaves memory behind when it ends.
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": str(tmp_path),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stderr[-3000:]
    assert done.stdout.startswith("unharmed")


def _seeds(chance: random.Random) -> list[bytes]:
    def some(limit: int) -> bytes | None:
        return chance.choice([None, b"", chance.randbytes(chance.randrange(limit))])

    def made(count: int, limit: int = 20) -> list[Made]:
        return [
            Made(n, 2**40 + chance.randrange(9999), some(limit), some(limit), [("name", some(9))])
            for n in range(count)
        ]

    plain = [batch(made(n), base=1000) for n in (1, 2, 5)]
    huge = sealed(b"\x7f" + b"\xff" * 7 + plain[1][8:])  # offsets at the end of what there is
    return [
        *plain,
        plain[0] + plain[2] + plain[1],
        batch(made(3, 300)),
        batch(made(9, 300), codec=GZIP),
        huge,
    ]


def _said(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
