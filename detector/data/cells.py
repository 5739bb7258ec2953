"""Cells of a table, text or numbers, to numbers and moments."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np

from detector.core.decoded import LONGEST_NAME
from detector.core.moments import LAST_NS, UNIT_NS, TimestampUnit, float_to_ns, parse_moment
from detector.core.ticks import Bool, Float64, Int64

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LAST_S = np.datetime64(LAST_NS // 10**9, "s")
_FIRST_S = np.datetime64(-LAST_NS // 10**9, "s")
#: Of a column.
Cells = Sequence[Any] | np.ndarray[Any, np.dtype[Any]]


def numbers(cells: Cells) -> Float64:
    """(n,) NaN where a cell is no number."""
    try:
        column = np.array(cells, np.float64)
        if column.ndim == 1:
            return column
        raise ValueError
    except (ValueError, TypeError, OverflowError):
        return np.array([_number(cell) for cell in cells])


def moments(cells: Cells, unit: TimestampUnit) -> Int64:
    """(n,) nanoseconds. Raises NoMomentError for the first cell that is none."""
    if isinstance(cells, np.ndarray):
        if cells.dtype.kind == "M":
            beyond = np.isnat(cells) | _beyond(cells)
            if beyond.any():
                raise NoMomentError(int(beyond.argmax()))
            found: Int64 = cells.astype("datetime64[ns]").astype(np.int64)
            return found
        if cells.dtype.kind not in "iuf":
            cells = cells.tolist()
    dates = len(cells) > 0 and isinstance(cells[0], datetime | np.datetime64)
    if unit != "iso8601" and not dates:
        found_or_none = _all_numbers(cells, UNIT_NS[unit])
        if found_or_none is not None:
            return found_or_none
    if isinstance(cells, np.ndarray):
        cells = cells.tolist()
    times = []
    for i, cell in enumerate(cells):
        try:
            times.append(moment(cell, unit))
        except ValueError:
            raise NoMomentError(i) from None
    return np.array(times, np.int64)


def moment(cell: Any, unit: TimestampUnit) -> int:
    """Nanoseconds. A datetime without a zone is UTC. Raises ValueError."""
    if isinstance(cell, datetime):
        try:
            found = _of_datetime(cell)
        except OverflowError:  # pandas: no number of nanoseconds
            raise ValueError(cell) from None
        if abs(found) > LAST_NS:
            raise ValueError(cell)
        return found
    if isinstance(cell, np.datetime64):
        cell = np.array([cell])
        return int(moments(cell, unit)[0])
    try:
        if isinstance(cell, str) and "T" in cell:  # an Arrow timestamp, whatever the unit
            return parse_moment(cell, "iso8601")
        return parse_moment(cell if unit == "iso8601" else _exact(cell), unit)
    except (TypeError, OverflowError):
        raise ValueError(cell) from None


def names(cells: Cells) -> list[str]:
    """Of series, as text. Raises NoNameError for the first cell that is none, as the daemon
    rejects it."""
    found: list[Any] = cells.tolist() if isinstance(cells, np.ndarray) else list(cells)
    texts = [one if type(one) is str else _name(one) for one in found]
    wrong = {text for text in set(texts) if not _is_name(text)}
    if wrong:
        raise NoNameError(next(i for i, text in enumerate(texts) if text in wrong))
    return texts


def _name(cell: Any) -> str:
    absent = cell is None or type(cell).__name__ in ("NAType", "NaTType") or cell != cell
    return "" if absent else str(cell)


def _is_name(text: str) -> bool:
    try:
        return len(text.encode()) > 0 and len(text) <= LONGEST_NAME
    except UnicodeEncodeError:  # half of a surrogate pair
        return False


class NoNameError(ValueError):
    """position: of the cell that names no series."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


class NoMomentError(ValueError):
    """position: of the cell that is no moment."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position


def _of_datetime(when: datetime) -> int:
    ns = getattr(when, "value", None)  # pandas keeps nanoseconds
    if isinstance(ns, int):
        if when != when:  # its NaT is a datetime too
            raise ValueError(when)
        return ns
    delta = (when if when.tzinfo else when.replace(tzinfo=UTC)) - _EPOCH
    return (delta.days * 86400 + delta.seconds) * 10**9 + delta.microseconds * 1000


def _beyond(cells: np.ndarray[Any, np.dtype[Any]]) -> Bool:
    """(n,) whether datetimes cannot be told in 64 bits of nanoseconds: NumPy lets them wrap."""
    seconds = cells.astype("datetime64[s]")
    result: Bool = (seconds <= _FIRST_S) | (seconds >= _LAST_S)
    return result


def as_written(cell: Any) -> Any:
    """A cell as a record holds it: text that is a number as a number, empty text as nothing,
    everything else as it is."""
    if not isinstance(cell, str):
        return cell.item() if isinstance(cell, np.generic) else cell
    if cell == "":
        return None
    try:
        number = _exact(cell)
    except ValueError:
        return cell
    return number if math.isfinite(number) and "_" not in cell else cell


def _all_numbers(cells: Cells, factor: int) -> Int64 | None:
    """Where all are numbers, or texts of whole ones."""
    if isinstance(cells, np.ndarray):
        floats = cells.dtype.kind == "f"
    else:
        floats = not all(isinstance(cell, int | str | np.integer) for cell in cells)
    if not floats:  # NumPy would cut others off, such as decimals
        try:
            whole = np.array(cells, np.int64)  # whole numbers, as text or not
            if len(whole) == 0 or np.abs(whole.astype(np.float64)).max() < 2**63 / factor:
                return whole * factor
        except (ValueError, TypeError, OverflowError):
            pass
    found = numbers(cells)
    if (np.abs(found) < min(2**63 / factor, 2**53)).all():  # false for NaN too
        return float_to_ns(found, factor)
    return None


def _exact(cell: Any) -> int | float:
    """A number from a cell; a whole one keeps all its digits."""
    if isinstance(cell, int | np.integer):
        return int(cell)
    if isinstance(cell, str | bytes):
        try:
            return int(cell)
        except ValueError:
            return float(cell)
    return float(cell)


def _number(cell: Any) -> float:
    try:
        return float(cell)
    except (ValueError, TypeError, OverflowError):
        return math.nan
