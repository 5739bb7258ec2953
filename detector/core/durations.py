"""Durations as people write them: 90s, 5m, 2h, 1d, 1h30m."""

from __future__ import annotations

import re

_UNITS = {"d": 86_400, "h": 3_600, "m": 60, "s": 1}
_FORM = re.compile(r"(?:(\d{1,9})d)?(?:(\d{1,9})h)?(?:(\d{1,9})m)?(?:(\d{1,9})s)?")


def parse_duration(text: str) -> int:
    """In seconds. Raises ValueError if it is none, or nothing."""
    found = _FORM.fullmatch(text.strip())
    seconds = 0
    for number, unit in zip(found.groups() if found else (), _UNITS, strict=False):
        seconds += int(number or 0) * _UNITS[unit]
    if not seconds:
        raise ValueError(f"{text!r} is no duration like 90s, 2h or 1h30m")
    return seconds


def write_duration(seconds: int) -> str:
    """The inverse, in the largest units."""
    parts = []
    for unit, size in _UNITS.items():
        number, seconds = divmod(seconds, size)
        parts += [f"{number}{unit}"] if number else []
    return "".join(parts) or "0s"
