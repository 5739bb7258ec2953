"""Moments: nanoseconds since 1970 (UTC) in the program, other units and text outside of it.

The one place that knows the units; each way of reading stands beside its way of writing.
"""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import numpy as np

from detector.core.ticks import Float64, Int64

TimestampUnit = Literal["s", "ms", "us", "ns", "iso8601"]
#: Nanoseconds in each unit that counts in numbers.
UNIT_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
#: The largest moment: 64 bits of nanoseconds reach from 1677 to 2262.
LAST_NS = 2**63 - 1

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}(\d+)")
_YEAR_1_NS, _YEAR_9999_NS = -62_135_596_800 * 10**9, 253_402_300_800 * 10**9 - 1


def parse_moment(moment: Any, unit: TimestampUnit) -> int:
    """A moment in its unit to nanoseconds. ISO 8601 without offset is UTC.

    Raises ValueError if it is no moment or beyond 64 bits of nanoseconds (1677 ... 2262).
    """
    if unit == "iso8601":
        if not isinstance(moment, str):
            raise ValueError(moment)
        when = datetime.fromisoformat(moment)
        beyond = _BEYOND_MICROSECONDS.search(moment)  # digits that a datetime cannot hold
        rest_ns = int(beyond[1].ljust(3, "0")[:3]) if beyond else 0
        if when.tzinfo is None:
            when = when.replace(tzinfo=UTC)
        delta = when - _EPOCH
        result = (delta.days * 86400 + delta.seconds) * 10**9 + delta.microseconds * 1000 + rest_ns
    elif isinstance(moment, int):
        result = moment * UNIT_NS[unit]
    elif math.isfinite(moment):
        whole = math.floor(moment)
        # np.rint as in float_to_ns: the same moment gives the same nanosecond on both ways.
        result = whole * UNIT_NS[unit] + int(np.rint((moment - whole) * UNIT_NS[unit]))
    else:
        raise ValueError(moment)
    if abs(result) > LAST_NS:
        raise ValueError(moment)
    return result


def write_moment(ns: int, unit: TimestampUnit) -> int | float | str:
    """The inverse of parse_moment: whole where it can be, ISO 8601 in UTC."""
    if unit == "iso8601":
        if ns % 1000:
            return rfc3339(ns)
        when = datetime.fromtimestamp(ns // 10**9, UTC)
        return when.replace(microsecond=ns % 10**9 // 1000).isoformat()
    whole, rest = divmod(ns, UNIT_NS[unit])
    return whole if rest == 0 else ns / UNIT_NS[unit]


def float_to_ns(moments: Float64, factor: int) -> Int64:
    """(n,) moments in a unit of factor nanoseconds, well inside LAST_NS, to nanoseconds. Whole
    and fraction apart: a float of seconds keeps what digits it has."""
    whole = np.floor(moments)
    fraction: Int64 = np.rint((moments - whole) * factor).astype(np.int64)
    result: Int64 = whole.astype(np.int64) * factor + fraction
    return result


def rfc3339(ns: int) -> str:
    """UTC with the nanoseconds kept: 2014-05-02T12:30:00.123456789Z, which parse_moment reads as
    iso8601. A moment outside the years 1 ... 9999 (a record can carry any timestamp) becomes the
    nearest inside."""
    seconds, rest = divmod(min(max(ns, _YEAR_1_NS), _YEAR_9999_NS), 10**9)
    moment = _EPOCH + timedelta(seconds=seconds)
    return f"{moment.replace(tzinfo=None).isoformat()}.{rest:09d}Z"
