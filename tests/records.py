"""Records of every kind a topic may hold, and what must become of each.

Written from the documented rules, without the package: what is expected here is not computed
by what is tested.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

#: What the configuration of the tests that use this must say.
MAX_RECORD_BYTES = 20_000
START_S = 1_700_000_000.0


@dataclass(frozen=True, slots=True)
class Sent:
    """A record, and the (index, reason) of each tick in it that must be refused."""

    key: bytes | None
    value: bytes | None
    refused: tuple[tuple[int, str], ...] = ()


@dataclass(slots=True)
class Account:
    """What must become of ticks of one field: the rules of time and windows, tick by tick."""

    length: int
    stride: int = 1
    max_gap_s: float | None = None
    outcomes: Counter[str] = field(default_factory=Counter)
    _newest: dict[str, tuple[float, float]] = field(default_factory=dict)
    _run: dict[str, int] = field(default_factory=dict)

    def tick(self, series: str, timestamp: float, value: float) -> bytes:
        """Account for an intact tick; returns it as JSON."""
        self.outcomes[self._outcome(series, timestamp, value)] += 1
        return intact(series, timestamp, value)

    def poison(self, sent: Sent) -> Sent:
        """Account for the refused ticks of a record."""
        self.outcomes["rejected"] += len(sent.refused)
        return sent

    def _outcome(self, series: str, timestamp: float, value: float) -> str:
        newest = self._newest.get(series)
        if newest is not None and timestamp < newest[0]:
            return "late"
        if newest == (timestamp, value):
            return "duplicate"
        self._newest[series] = (timestamp, value)
        gap = newest is None or (
            self.max_gap_s is not None and timestamp - newest[0] > self.max_gap_s
        )
        run = self._run[series] = 1 if gap else self._run[series] + 1
        if run < self.length:
            return "warming"
        return "strided" if (run - self.length) % self.stride else "scored"


def intact(series: str, timestamp: float, value: float) -> bytes:
    return json.dumps({"series": series, "timestamp": timestamp, "value": value}).encode()


def poison(series: str) -> list[Sent]:
    """At least one record for every reason but series_limit; each is refused as a whole."""
    key = series.encode()

    def tick(**changed: str) -> bytes:
        fields = {"series": f'"{series}"', "timestamp": f"{START_S}", "value": "0.1"} | changed
        return ("{" + ", ".join(f'"{k}": {v}' for k, v in fields.items()) + "}").encode()

    found: dict[str, list[bytes | None]] = {
        "null": [None],
        "too_large": [tick(padding=f'"{"x" * MAX_RECORD_BYTES}"'), b" " * (MAX_RECORD_BYTES + 1)],
        "not_decodable": [
            b"", b"not json", b"{", tick() + b"}", b"\xff\xfe\x00", b"\x00" * 50,
            tick(series='"\xff"').replace("\xff".encode(), b"\xff"), tick()[:-1], b"[" * 5000,
        ],
        "missing_field": [
            b"{}", tick().replace(b"value", b"other"), tick().replace(b"timestamp", b"time"),
            tick().replace(b"series", b"name"),
        ],
        "wrong_type": [
            tick(value='"0.1"'), tick(value="null"), tick(value="true"), tick(value="[0.1]"),
            tick(value='{"value": 0.1}'), b"3", b'"text"', b"null", b"true",
        ],
        "not_finite": [
            tick(value="NaN"), tick(value="Infinity"), tick(value="-Infinity"), tick(value="1e999"),
            tick(value="1" + "0" * 400),
        ],
        "bad_timestamp": [
            tick(timestamp='"2023-11-14T22:13:20"'), tick(timestamp="null"),
            tick(timestamp="true"), tick(timestamp="1e300"), tick(timestamp="[1]"),
            tick(timestamp="10000000000"),
        ],
        "no_series": [tick(series="5"), tick(series="null"), tick(series='["a"]')],
    }  # fmt: skip
    return [
        Sent(key, value, ((0, reason),)) for reason, values in found.items() for value in values
    ]


def stream(account: Account, *, series: list[str], ticks: int, seed: int) -> list[Sent]:
    """Ticks of each series with everything that may go wrong among them, spikes that alert too.

    The key of a record is its series, so that a partition holds whole series.
    """
    random = np.random.default_rng(seed)
    now_s = dict.fromkeys(series, START_S)
    records: list[Sent] = []
    for n in range(ticks):
        for name in series:
            key = name.encode()
            now_s[name] += float(np.round(random.uniform(0.01, 1.0), 3))
            if random.random() < 0.01:
                now_s[name] += 3600.0  # a gap, above any max_gap_s of the tests
            value = float(random.normal(0, 0.1)) if n % 50 < 47 else 100.0
            records.append(Sent(key, account.tick(name, now_s[name], value)))
            if random.random() < 0.05:
                records.append(Sent(key, account.tick(name, now_s[name], value)))
            if random.random() < 0.05:
                records.append(Sent(key, account.tick(name, now_s[name] - 5.0, value)))
            if random.random() < 0.05:  # several ticks in a record, one of them no tick
                parts = [account.tick(name, now_s[name] + 0.1 * i, 0.1 * i) for i in (1, 2, 3)]
                now_s[name] += 0.3
                array = b"[" + b", ".join([parts[0], b'"no tick"', *parts[1:]]) + b"]"
                records.append(account.poison(Sent(key, array, ((1, "wrong_type"),))))
    records.append(Sent(series[0].encode(), b"[]"))  # no tick at all
    for sent in poison(series[0]):
        account.poison(sent)
        records.insert(int(random.integers(len(records))), sent)
    return records
