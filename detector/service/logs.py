"""Log events with fields, as text or as one JSON object a line, on standard error."""

from __future__ import annotations

import json
import logging
import sys
from datetime import UTC, datetime

_LOGGER = logging.getLogger("detector")


def configure(*, level: str, form: str) -> None:
    """form: "text" or "json". Other libraries' warnings go the same way."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if form == "json" else _Text())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    _LOGGER.setLevel(level.upper())
    # kafka-python logs each retry as an error; what matters reaches us as an exception.
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def event(message: str, *, level: int = logging.INFO, **fields: object) -> None:
    """Log an event; fields are named values with their units in the names."""
    _LOGGER.log(level, message, extra={"fields": fields})


def tells(level: int) -> bool:
    """Whether an event of this level is logged at all."""
    return _LOGGER.isEnabledFor(level)


def _moment(record: logging.LogRecord) -> str:
    return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        entry = {
            "time": _moment(record),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, default=str)


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        tail = "".join(f" {name}={value}" for name, value in fields.items())
        line = f"{_moment(record)} {record.levelname.lower():7} {record.getMessage()}{tail}"
        return f"{line}\n{self.formatException(record.exc_info)}" if record.exc_info else line
