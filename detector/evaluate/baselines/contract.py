"""What a baseline is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from detector.core.ticks import Float32, Float64


class Fitted(Protocol):
    """Has learned."""

    def score(self, rows: Float32) -> Float64:
        """rows: (m, features), uninterrupted ticks of one series. One score a tick, (m,): the
        higher the more anomalous, NaN while warming; it reads no later tick."""
        ...


#: Rows of normal ticks (n, features), all finite, to something that scores. Raises DataError where
#: they do not suffice or a library is missing.
Fit = Callable[[Float32], Fitted]
