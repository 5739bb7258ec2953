"""What viewers ask of the loop, bounded. Written by the thread that serves them, read by the loop:
what is read is replaced as a whole."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from detector.service.viewing.shown import News

#: Series that are watched at once, by all viewers together.
MOST_WATCHED = 64

Listener = Callable[[list[News]], None]


@dataclass(slots=True)
class Requests:
    """watched: names of series; names_s, state_s: until when, on the monotonic clock, somebody
    wants the names of all series, or the state; listener: is told the news, in the loop's thread,
    and must not wait; None: nobody listens."""

    watched: frozenset[str] = frozenset()
    names_s: float = 0.0
    state_s: float = 0.0
    listener: Listener | None = None
