"""Where `detector alerts` puts what it follows. A new sink is a file here and a line in SINKS."""

from __future__ import annotations

import importlib
from collections.abc import Callable

from detector.errors import UsageError

#: Takes an event of the alert topic, in its order.
Sink = Callable[[bytes], None]
#: By name (`detector alerts --to NAME`) the module whose show it is; loaded when it is asked for.
SINKS = {"lines": "detector.clients.sinks.lines", "json": "detector.clients.sinks.events"}


def open_sink(name: str) -> Sink:
    """Raises UsageError."""
    if name not in SINKS:
        raise UsageError(f"--to: {name!r} is none of {', '.join(SINKS)}")
    show: Sink = importlib.import_module(SINKS[name]).show
    return show
