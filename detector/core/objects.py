"""Records that hold objects (JSON, MessagePack), read one by one: whatever any of them holds.

Each is decoded straight into typed structs (msgspec); only a record that fails is looked at again,
slowly, to say why. What is read elsewhere for speed is read as it is here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import numpy as np

from detector.core.decoded import LONGEST_NAME, NAMELESS, Decoded
from detector.core.moments import LAST_NS, UNIT_NS, float_to_ns, parse_moment
from detector.core.records import RecordBlock
from detector.core.second_look import SecondLook
from detector.core.tick_format import TickFormat, key_name
from detector.core.ticks import Int64, Reject


def is_plain(name: str) -> bool:
    """Whether JSON need not escape a field's name."""
    return not any(c in '\\"' or c < " " for c in name)


class ObjectReader:
    """Reads records that hold one tick (an object) or an array of ticks."""

    def __init__(self, form: TickFormat, fields: Sequence[str]) -> None:
        self._form = form
        self._fields = tuple(fields)
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
        plain = all(map(is_plain, names.values()))
        tick: Any = msgspec.defstruct("Tick", spec, rename=names if plain else None, gc=False)
        self._second_look = SecondLook(form, self._fields, self._getters, tick)
        decoder = msgspec.json.Decoder if form.format == "json" else msgspec.msgpack.Decoder
        self._decode = decoder(tick | list[tick]).decode if plain else _decode_nothing

    def read(self, block: RecordBlock, rows: Sequence[int]) -> Decoded:
        """The ticks of these records of a block, and a Reject for each tick or record that is
        none. rows: ascending."""
        ticks: list[Any] = []
        source: list[int] = []  # row of the block for each tick
        index: list[int] = []
        names: list[str] = []
        rejects: list[Reject] = []
        decode, limit = self._decode, self._form.max_record_bytes
        by_key = self._form.series_from == "key"
        is_text = self._form.format == "json"
        some = len(rows) < len(block)
        values = [block.values[row] for row in rows] if some else block.values
        for row, value in zip(rows, values, strict=True):
            try:
                if value is None or len(value) > limit:
                    raise ValueError
                if is_text and not value.isascii():
                    value.decode()  # msgspec does not look into fields it skips
                found = decode(value)
                key = key_name(block.keys[row]) if by_key else ""
            except (ValueError, RecursionError):  # msgspec's errors and bad UTF-8 are ValueErrors
                found, positions, refused = self._second_look(block, row)
                rejects += refused
                key = key_name(block.keys[row]) if by_key and found else ""
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
        return self._columns(block, ticks, source, index, names, rejects)

    def _columns(
        self,
        block: RecordBlock,
        ticks: list[Any],
        source: list[int],
        index: list[int],
        names: list[str],
        rejects: list[Reject],
    ) -> Decoded:
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
        if bad:
            where, unit = self._form.timestamp_field, self._form.timestamp_unit
            rejects += [
                Reject(
                    block.partition,
                    int(block.offsets[source[i]]),
                    index[i],
                    reason,
                    f"{where} = {str(ticks[i].t)[:80]!r} is no time in {unit}"
                    if reason == "bad_timestamp"
                    else NAMELESS,
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
        rows, indexes = np.array(source, np.int64), np.array(index, np.int32)
        return Decoded(names, time_ns, values, rows, indexes, rejects)

    def _times(self, moments: list[Any]) -> tuple[Int64, list[int]]:
        """Nanoseconds of the good moments, and the positions of the bad ones."""
        unit = self._form.timestamp_unit
        if unit != "iso8601":
            factor = UNIT_NS[unit]
            limit = LAST_NS // factor
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
                times.append(parse_moment(moment, unit))
            except ValueError:
                bad.append(i)
        return np.array(times, np.int64), bad


def _decode_nothing(value: bytes) -> Any:
    raise ValueError(value)
