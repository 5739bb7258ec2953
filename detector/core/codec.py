"""Records (bytes) to a TickBatch, and the records that are none with the reason.

Knows the formats and nothing of brokers. The fast path decodes each record straight into a
typed struct (msgspec); only a record that fails is looked at again, slowly, to say why.
"""

from __future__ import annotations

import json
import math
import re
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import msgspec
import numpy as np

from detector.core.slots import SeriesTable
from detector.core.ticks import Int64, Reject, TickBatch
from detector.errors import ConfigError

TimestampUnit = Literal["s", "ms", "us", "ns", "iso8601"]
_NS = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_INT64 = 2**63 - 1
#: Of a series, in characters: an alert repeats the name, and a broker limits its records.
LONGEST_NAME = 1000
_BEYOND_MICROSECONDS = re.compile(r"[.,]\d{6}(\d+)")


@dataclass(frozen=True, slots=True)
class RecordBlock:
    """Consecutive records of one partition, as the broker holds them."""

    topic: str
    partition: int
    offsets: Sequence[int]
    timestamps_ms: Sequence[int]
    keys: Sequence[bytes | None]
    values: Sequence[bytes | None]

    def __len__(self) -> int:
        return len(self.offsets)

    def split(self, offset: int) -> tuple[RecordBlock, RecordBlock]:
        """The records below an offset, and the rest."""
        at = bisect_left(self.offsets, offset)
        return self._part(slice(0, at)), self._part(slice(at, None))

    def _part(self, rows: slice) -> RecordBlock:
        return RecordBlock(
            self.topic,
            self.partition,
            self.offsets[rows],
            self.timestamps_ms[rows],
            self.keys[rows],
            self.values[rows],
        )


@dataclass(frozen=True, slots=True)
class TickFormat:
    """How a tick is written. series_from "key" takes the name from the record's key."""

    format: Literal["json", "msgpack"]
    series_from: Literal["field", "key"]
    series_field: str
    timestamp_field: str
    timestamp_unit: TimestampUnit
    max_record_bytes: int


class _RefusedError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class Codec:
    """Decodes records that hold one tick (an object) or an array of ticks."""

    def __init__(self, form: TickFormat, fields: Sequence[str], series: SeriesTable) -> None:
        self._form = form
        self._fields = tuple(fields)
        self._series = series
        if form.series_from == "field" and form.series_field in self._fields:
            raise ConfigError(
                f"features: {form.series_field!r} is input.series_field, a name and no number"
            )
        moment = str if form.timestamp_unit == "iso8601" else int | float
        # Field names may be no identifiers: the struct numbers them and renames.
        spec: list[tuple[str, Any]] = [("t", moment)]
        names = {"t": form.timestamp_field}
        if form.series_from == "field":
            spec.append(("s", str))
            names["s"] = form.series_field
        for i, field in enumerate(self._fields):
            if field != form.timestamp_field:  # that one is there already
                spec.append((f"f{i}", float))
                names[f"f{i}"] = field
        self._getters = [
            "t" if field == form.timestamp_field else f"f{i}"
            for i, field in enumerate(self._fields)
        ]
        # msgspec takes no names that JSON would have to escape: such ticks all go the slow way.
        plain = not any(c in '\\"' or c < " " for name in names.values() for c in name)
        self._tick_type = msgspec.defstruct("Tick", spec, rename=names if plain else None, gc=False)
        decoder = msgspec.json.Decoder if form.format == "json" else msgspec.msgpack.Decoder
        tick: Any = self._tick_type
        self._decode = decoder(tick | list[tick]).decode if plain else _decode_nothing

    def decode(self, block: RecordBlock) -> tuple[TickBatch, list[Reject]]:
        """The ticks of a block in order, and a Reject for each tick or record that is none."""
        ticks: list[Any] = []
        source: list[int] = []  # row of the block for each tick
        index: list[int] = []
        names: list[str] = []
        rejects: list[Reject] = []
        decode, limit = self._decode, self._form.max_record_bytes
        by_key = self._form.series_from == "key"
        is_text = self._form.format == "json"
        for row, value in enumerate(block.values):
            try:
                if value is None or len(value) > limit:
                    raise ValueError
                if is_text and not value.isascii():
                    value.decode()  # msgspec does not look into fields it skips
                found = decode(value)
                key = _key_name(block.keys[row]) if by_key else ""
            except (ValueError, RecursionError):  # msgspec's errors and bad UTF-8 are ValueErrors
                found, positions, refused = self._second_look(block, row)
                rejects += refused
                key = _key_name(block.keys[row]) if by_key and found else ""
            else:
                if type(found) is not list:
                    ticks.append(found)
                    source.append(row)
                    index.append(0)
                    names.append(key)
                    continue
                positions = list(range(len(found)))
            ticks += found
            source += [row] * len(found)
            index += positions
            names += [key] * len(found)
        batch, bad = self._columns(block, ticks, source, index, names)
        return batch, rejects + bad

    def _columns(
        self,
        block: RecordBlock,
        ticks: list[Any],
        source: list[int],
        index: list[int],
        names: list[str],
    ) -> tuple[TickBatch, list[Reject]]:
        time_ns, untimely = self._times([t.t for t in ticks])
        if self._form.series_from == "field":
            names = [t.s for t in ticks]
        bad = dict.fromkeys(untimely, "bad_timestamp")
        if names and not 0 < min(map(len, names)) <= max(map(len, names)) <= LONGEST_NAME:
            nameless = {
                i: "no_series" for i, n in enumerate(names) if not 0 < len(n) <= LONGEST_NAME
            }
            keep_time = [i for i in range(len(ticks)) if i not in bad]
            time_ns = time_ns[[i not in nameless for i in keep_time]]
            bad |= nameless
        rejects: list[Reject] = []
        if bad:
            where, unit = self._form.timestamp_field, self._form.timestamp_unit
            rejects = [
                Reject(
                    block.partition,
                    block.offsets[source[i]],
                    index[i],
                    reason,
                    f"{where} = {str(ticks[i].t)[:80]!r} is no time in {unit}"
                    if reason == "bad_timestamp"
                    else f"the series' name is empty or longer than {LONGEST_NAME} characters",
                )
                for i, reason in bad.items()
            ]
            keep = [i for i in range(len(ticks)) if i not in bad]
            ticks = [ticks[i] for i in keep]
            source = [source[i] for i in keep]
            index = [index[i] for i in keep]
            names = [names[i] for i in keep]
        values = np.empty((len(ticks), len(self._fields)))
        for i, getter in enumerate(self._getters):
            values[:, i] = [getattr(t, getter) for t in ticks]
        rows = np.array(source, np.int64)
        batch = TickBatch(
            slot=self._series.slots(block.partition, names),
            time_ns=time_ns,
            values=values,
            partition=np.full(len(ticks), block.partition, np.int32),
            offset=np.asarray(block.offsets, np.int64)[rows],
            index=np.array(index, np.int32),
            received_ms=np.asarray(block.timestamps_ms, np.int64)[rows],
        )
        return batch, rejects

    def _times(self, moments: list[Any]) -> tuple[Int64, list[int]]:
        """Nanoseconds of the good moments, and the positions of the bad ones."""
        unit = self._form.timestamp_unit
        if unit != "iso8601":
            factor = _NS[unit]
            limit = _INT64 // factor
            if all(type(m) is int for m in moments):
                if not moments or (max(moments) <= limit and min(moments) >= -limit):
                    return np.array(moments, np.int64) * factor, []
            else:
                # An integer may be beyond the floats: the size is looked at before converting.
                if max(map(abs, moments)) < min(limit, 2**53):
                    column = np.array(moments, np.float64)
                    if np.isfinite(column).all():
                        return float_to_ns(column, factor), []
        times, bad = [], []
        for i, moment in enumerate(moments):
            try:
                times.append(parse_time(moment, unit))
            except ValueError:
                bad.append(i)
        return np.array(times, np.int64), bad

    # -- the slow path: why a record failed

    def _second_look(
        self, block: RecordBlock, row: int
    ) -> tuple[list[Any], list[int], list[Reject]]:
        """Good ticks of a record that failed as a whole, their indexes, and the refusals."""
        partition, offset = block.partition, block.offsets[row]
        try:
            content = self._parse(block.values[row])
            if self._form.series_from == "key":
                _require_key(block.keys[row])
        except _RefusedError as why:
            return [], [], [Reject(partition, offset, 0, why.reason, why.detail)]
        good, positions, refused = [], [], []
        several = content if isinstance(content, list) else [content]
        for i, one in enumerate(several):
            try:
                good.append(self._tick(one))
                positions.append(i)
            except _RefusedError as why:
                refused.append(Reject(partition, offset, i, why.reason, why.detail))
        return good, positions, refused

    def _parse(self, value: bytes | None) -> Any:
        if value is None:
            raise _RefusedError("null", "the record has no value")
        if len(value) > self._form.max_record_bytes:
            raise _RefusedError(
                "too_large",
                f"{len(value)} bytes exceed input.max_record_bytes = {self._form.max_record_bytes}",
            )
        try:
            if self._form.format == "json":
                return json.loads(value.decode())  # unlike msgspec it reads NaN: to name it
            return msgspec.msgpack.decode(value)
        except UnicodeDecodeError:
            raise _RefusedError("not_decodable", "invalid UTF-8") from None
        except (ValueError, RecursionError) as error:
            raise _RefusedError(
                "not_decodable", f"not {self._form.format}: {str(error)[:200]}"
            ) from None

    def _tick(self, one: Any) -> Any:
        if not isinstance(one, dict):
            raise _RefusedError("wrong_type", "a tick must be an object")
        form = self._form
        needed = [form.timestamp_field, *self._fields]
        if form.series_from == "field":
            needed.append(form.series_field)
        for field in needed:
            if field not in one:
                raise _RefusedError("missing_field", f"field {field!r} is absent")
        for field in self._fields:
            if field == form.timestamp_field:
                continue
            value = one[field]
            if isinstance(value, bool) or not isinstance(value, int | float):
                raise _RefusedError(
                    "wrong_type", f"field {field!r} is {_kind(value)}, not a number"
                )
            if not _is_finite(value):
                raise _RefusedError("not_finite", f"field {field!r} is not finite")
        if form.series_from == "field" and not _is_name(one[form.series_field]):
            found = _kind(one[form.series_field])
            raise _RefusedError("no_series", f"field {form.series_field!r} is {found}, no name")
        moment = one[form.timestamp_field]
        text = form.timestamp_unit == "iso8601"
        if isinstance(moment, bool) or not isinstance(moment, str if text else int | float):
            raise _RefusedError("bad_timestamp", f"{form.timestamp_field} is {_kind(moment)}")
        try:
            values: dict[str, Any] = {
                getter: float(one[field])
                for getter, field in zip(self._getters, self._fields, strict=True)
                if getter != "t"
            }
        except OverflowError:
            raise _RefusedError("not_finite", "a field is beyond the floats") from None
        if form.series_from == "field":
            values["s"] = one[form.series_field]
        return self._tick_type(t=moment, **values)


def parse_time(moment: Any, unit: TimestampUnit) -> int:
    """A moment in its unit to nanoseconds since 1970. ISO 8601 without offset is UTC.

    Raises ValueError if it is no time or beyond 64 bits of nanoseconds (1677 ... 2262).
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
        result = moment * _NS[unit]
    elif math.isfinite(moment):
        whole = math.floor(moment)
        # np.rint as in float_to_ns: the same moment gives the same nanosecond on both ways.
        result = whole * _NS[unit] + int(np.rint((moment - whole) * _NS[unit]))
    else:
        raise ValueError(moment)
    if abs(result) > _INT64:
        raise ValueError(moment)
    return result


def float_to_ns(moments: np.ndarray[Any, np.dtype[np.float64]], factor: int) -> Int64:
    """Whole and fraction apart: a float of seconds keeps what digits it has."""
    whole = np.floor(moments)
    fraction: Int64 = np.rint((moments - whole) * factor).astype(np.int64)
    result: Int64 = whole.astype(np.int64) * factor + fraction
    return result


def _key_name(key: bytes | None) -> str:
    if not key:
        raise ValueError(key)
    return key.decode()


def _require_key(key: bytes | None) -> None:
    try:
        _key_name(key)
    except ValueError:
        raise _RefusedError("no_series", "the record's key holds no series name") from None


def _decode_nothing(value: bytes) -> Any:
    raise ValueError(value)


def _is_name(value: Any) -> bool:
    if not isinstance(value, str) or value == "":
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # half of a surrogate pair: no text that could be written again
        return False
    return True


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond the floats
        return False


def _kind(value: Any) -> str:
    if value is None:
        return "null"
    names = {bool: "a boolean", str: "a string", list: "an array", dict: "an object"}
    return names.get(type(value), "a number")
