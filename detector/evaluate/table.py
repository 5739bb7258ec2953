"""A table as people read it, and how figures are written in it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from detector.evaluate.bootstrap import Interval


@dataclass(frozen=True, slots=True)
class Table:
    """Cells as people read them."""

    title: str
    heads: tuple[str, ...]
    rows: Sequence[tuple[str, ...]]


class Figure(Protocol):
    """A figure that may have an interval; None where it is not known."""

    @property
    def value(self) -> float | None: ...
    @property
    def interval(self) -> Interval | None: ...


def shown(value: float | None, form: str = "{:.3f}") -> str:
    return "-" if value is None else form.format(value)


def percent(share: float | None) -> str:
    """A share in per cent, with two digits that say something."""
    return "-" if share is None else f"{two_digits(100 * share)} %"


def budget_name(budget: float) -> str:
    """As it is written in a configuration, and in per cent."""
    digits, _, power = f"{budget:.1e}".partition("e")
    return f"{digits.removesuffix('.0')}e{int(power)} ({percent(budget)})"


def two_digits(value: float | None) -> str:
    """Those that say something, and no exponent for what is large."""
    if value is None:
        return "-"
    return f"{value:.2g}" if abs(value) < 99.5 else f"{value:,.0f}"


def with_interval(mean: Figure, form: str = "{:.3f}") -> str:
    """The figure and, where there is one, its interval."""
    if mean.value is None:
        return "-"
    text = form.format(mean.value)
    if mean.interval is None:
        return text
    low, high = (form.format(end) for end in mean.interval)
    return f"{text} ({low} to {high})"
