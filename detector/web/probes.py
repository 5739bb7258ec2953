"""/livez and /readyz: 200, or 503 with what is wrong."""

from __future__ import annotations

from collections.abc import Callable

from detector.web.answers import Answer, Route

#: None: fine; otherwise what is wrong, in a line.
Probe = Callable[[], str | None]


def probe_route(probe: Probe) -> Route:
    def answer() -> Answer:
        wrong = probe()
        return Answer.text(200, "ok") if wrong is None else Answer.text(503, wrong)

    return answer
