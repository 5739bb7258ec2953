"""Why a record could not be decoded: looked at again, slowly, tick by tick.

What is good of it goes on; everything else is refused with its reason.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import msgspec

from detector.core.records import RecordBlock
from detector.core.tick_format import TickFormat, key_name
from detector.core.ticks import Reject

#: Of the ticks of one record that are told one by one; of the others there is one for each reason.
MOST_REFUSALS = 100


class _RefusedError(Exception):
    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


class SecondLook:
    """At records that failed as a whole. getters: the attribute of a tick for each field, "t" for
    the one that is its time."""

    def __init__(
        self,
        form: TickFormat,
        fields: Sequence[str],
        getters: Sequence[str],
        make_tick: Callable[..., Any],
    ) -> None:
        self._form, self._fields = form, tuple(fields)
        self._getters, self._make_tick = tuple(getters), make_tick

    def __call__(self, block: RecordBlock, row: int) -> tuple[list[Any], list[int], list[Reject]]:
        """Good ticks of a record that failed as a whole, their indexes, and the refusals."""
        partition, offset = block.partition, int(block.offsets[row])
        try:
            content = self._parse(block.values[row])
            if self._form.series_from == "key":
                _require_key(block.keys[row])
        except _RefusedError as why:
            return [], [], [Reject(partition, offset, 0, why.reason, why.detail)]
        good, positions = [], []
        refused: list[Reject] = []
        further: dict[str, Reject] = {}
        several = content if isinstance(content, list) else [content]
        for i, one in enumerate(several):
            try:
                good.append(self._tick(one))
                positions.append(i)
            except _RefusedError as why:
                reason = why.reason
                if len(refused) < MOST_REFUSALS:
                    refused.append(Reject(partition, offset, i, reason, why.detail))
                elif reason in further:
                    further[reason] = replace(further[reason], ticks=further[reason].ticks + 1)
                else:
                    further[reason] = Reject(partition, offset, i, reason, why.detail)
        return good, positions, [*refused, *further.values()]

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
        return self._make_tick(t=moment, **values)


def _require_key(key: bytes | None) -> None:
    try:
        key_name(key)
    except ValueError:
        raise _RefusedError("no_series", "the record's key holds no series name") from None


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
