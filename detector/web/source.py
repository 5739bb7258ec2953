"""What is asked of the daemon: the service has it, and nothing else of the daemon is known here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from prometheus_client import CollectorRegistry, Counter, Gauge


class News(Protocol):
    """Something to be told to those who listen. kind: "state", "alert" or "series"; name: of the
    alert or the series."""

    @property
    def kind(self) -> str: ...

    @property
    def name(self) -> str: ...


class Source(Protocol):
    """Answers at once, with what the loop has handed over last; wishes are heard by the loop at the
    end of a round. Mappings are ready to be JSON. Times are on clock_s."""

    @property
    def most_watched(self) -> int: ...

    def clock_s(self) -> float: ...

    def live(self) -> str | None:
        """None: fine; otherwise what is wrong, in a line."""

    def ready(self) -> str | None: ...

    def want_state(self, for_s: float) -> None: ...

    def want_names(self, for_s: float) -> None: ...

    def watch(self, names: frozenset[str]) -> None: ...

    def listen(self, listener: Callable[[Sequence[Any]], None] | None) -> None:
        """listener is given News, in the loop's thread."""

    def told(self, news: Any) -> Mapping[str, Any]:
        """The content of News."""

    def state(self) -> tuple[float, Mapping[str, Any]] | None: ...

    def names(self) -> tuple[float, Sequence[str]] | None: ...

    def series(self, name: str) -> tuple[float, Mapping[str, Any] | None] | None: ...

    def alerts(self) -> Sequence[Mapping[str, Any]]: ...

    def alert(self, alert_id: str) -> Mapping[str, Any] | None: ...


@dataclass(frozen=True, slots=True)
class Tally:
    """viewers: those who follow events now; dropped: those who stopped reading; refused: requests
    and connections, by reason."""

    viewers: Gauge
    dropped: Counter
    refused: Counter


@dataclass(frozen=True, slots=True)
class Site:
    """Everything that is shown."""

    registry: CollectorRegistry
    source: Source
    tally: Tally
