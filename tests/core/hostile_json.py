"""JSON records as nobody should send them, and ticks as nobody would write them; seeded.

As a program: python -m tests.core.hostile_json SEED COUNT reads twice so many of them, in buffers
of their own, so that a sanitizer sees a byte read beyond them.
"""

from __future__ import annotations

import sys
from random import Random

import numpy as np

from detector.core.columns_of_json import JsonColumns
from detector.core.records import RecordBlock
from detector.core.slices import Slices
from detector.core.tick_format import TickFormat

FIELDS = ("bid", "ask")
_SPACES = ("", "", "", " ", "\n", "\t ", "\r\n", "\x0b", "\ufeff")
_NAMES = (
    "a", "b", "EURUSD", "näme", "日本", "\U0001f600", "x" * 999, "é" * 1000, "x" * 1001, "", "a b",
    "\x7f",
)  # fmt: skip
_KEYS = ("bid", "ask", "series", "timestamp", "other", "bi", "bidd", "", "µ", "b\\u0069d", "\\q")
_WORDS = ("true", "false", "null", "NaN", "Infinity", "-Infinity", "nul", "tru", "-", "+1", ".5")
_STRINGS = (
    '""', '"x"', '"\\n"', '"\\u00e9"', '"\\ud83d\\ude00"', '"\\ud800"', '"\\q"', '"\\u12"',
    '"\x01"', '"é"', '"\\"', '"a', '"\\u0000"', '"\\/"',
)  # fmt: skip
_DIGITS = "0123456789"
_ODD_BYTES = b'\x00\x1f "\\{}[]:,-+.eE0159tfnu\x7f\x80\xbf\xc2\xc0\xe0\xed\xa0\xf4\xf5\xff'


def number(random: Random) -> str:
    """A number literal, usual, odd or none at all."""
    kind = random.randrange(9)
    if kind < 3:
        return repr(round(random.gauss(1.07, 3), random.randrange(7)))
    if kind == 3:
        return str(random.randrange(-(10 ** random.randrange(1, 25)), 10**10))
    if kind == 4:
        return repr(random.uniform(-1, 1) * 10.0 ** random.randrange(-40, 40))
    if kind == 5:
        whole = "".join(random.choices(_DIGITS, k=random.randrange(1, 22)))
        part = "".join(random.choices(_DIGITS, k=random.randrange(0, 22)))
        return f"{random.choice(('', '-'))}{whole}.{part}"
    if kind == 6:
        sign = random.choice(("", "+", "-"))
        return f"{random.randrange(100)}{random.choice('eE')}{sign}{random.randrange(0, 400)}"
    if kind == 7:
        return random.choice(("0", "-0", "-0.0", "0.0", "1e400", "00", "1.", "1e", "9" * 19))
    return random.choice(_WORDS)


def moment(random: Random) -> str:
    kind = random.randrange(6)
    if kind < 3:
        return repr(1_700_000_000 + random.randrange(10**6) / 10 ** random.randrange(7))
    if kind == 3:
        return str(random.choice((0, 1_700_000_000, 2**53, 2**63 - 1, 9223372036, 9223372037)))
    return repr(random.uniform(-2e10, 2e10)) if kind == 4 else number(random)


def value(random: Random, depth: int = 0) -> str:
    kind = random.randrange(8)
    if kind < 4 or depth > 40:
        return number(random)
    if kind < 6:
        return random.choice(_STRINGS)
    inside = [value(random, depth + 1) for _ in range(random.randrange(4))]
    if kind == 6:
        return f"[{','.join(inside)}]"
    keys = random.choices(_KEYS, k=len(inside))
    return "{" + ", ".join(f'"{k}":{v}' for k, v in zip(keys, inside, strict=True)) + "}"


def tick(random: Random) -> str:
    pairs = [
        ("series", f'"{random.choice(_NAMES[:6])}"'),
        ("timestamp", moment(random) if random.random() < 0.3 else "1700000000.123"),
        ("bid", number(random) if random.random() < 0.3 else "1.07012"),
        ("ask", "3"),
    ]
    if random.random() < 0.2:
        random.shuffle(pairs)
    while random.random() < 0.3:
        chosen = random.choice(_KEYS[4:] if random.random() < 0.7 else _KEYS)
        pairs.insert(random.randrange(len(pairs) + 1), (chosen, value(random)))
    if random.random() < 0.05:
        del pairs[random.randrange(len(pairs))]
    if random.random() < 0.1:
        pairs[0] = ("series", f'"{random.choice(_NAMES)}"')
    space = random.choice(_SPACES) if random.random() < 0.2 else ""
    return "{" + space + ",".join(f'"{k}":{space}{v}' for k, v in pairs) + space + "}"


def record(random: Random) -> bytes | None:
    kind = random.randrange(20)
    if kind == 0:
        return random.choice((None, b"", b"{}", b"[]", b" [ ] ", b"7", b"[7]", b"[[]]", b"[" * 50))
    if kind == 1:
        depth = random.choice((1, 5, 30, 31, 32, 33, 40, 500, 2000))
        deep = "[" * depth + "]" * depth
        return f'{{"series":"a","timestamp":1,"bid":1,"ask":2,"x":{deep}}}'.encode()
    text = tick(random)
    if kind < 6:
        text = f"[{','.join(tick(random) for _ in range(random.randrange(6)))}]"
    found = bytearray(text.encode(errors="replace"))
    while found and random.random() < 0.25:
        at, change = random.randrange(len(found)), random.randrange(4)
        if change == 0:
            found[at] = random.choice(_ODD_BYTES)
        elif change == 1:
            found.insert(at, random.choice(_ODD_BYTES))
        elif change == 2:
            del found[at : at + random.randrange(1, 4)]
        else:
            del found[at:]
    return bytes(found)


def key(random: Random) -> bytes | None:
    return random.choice(
        (None, b"", b"a", "näme".encode(), b"\xff", b"x" * 1001, b"b", b"\xe2\x82")
    )


def _read_each(seed: int, count: int) -> None:
    """Alone in a buffer that was allocated for it."""
    random = Random(seed)
    forms = [TickFormat("json", s, "series", "timestamp", "s", 3000) for s in ("field", "key")]
    readers = [JsonColumns(form, FIELDS) for form in forms]
    assert all(reader.able for reader in readers)
    ticks = left = 0
    for _ in range(count):
        bodies = [record(random), record(random)]
        columns = [_in_buffers(bodies), _in_buffers([key(random), key(random)])]
        block = RecordBlock("ticks", 0, [0, 1], [-1, -1], columns[1], columns[0])
        for reader in readers:
            found, unusual = reader.read(block)
            ticks, left = ticks + len(found.row), left + len(unusual)
    sys.stdout.write(f"{ticks} ticks, {left} records left\n")


def _in_buffers(values: list[bytes | None]) -> Slices:
    """NumPy allocates as many bytes as there are, where bytes have one more."""
    whole = Slices.of(values)
    buffer = np.frombuffer(whole.buffer, np.uint8).copy()
    return Slices(buffer, whole.start, whole.length)  # type: ignore[arg-type]  # a buffer


if __name__ == "__main__":
    _read_each(int(sys.argv[1]), int(sys.argv[2]))
