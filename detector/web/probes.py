"""/livez and /readyz: 200, or 503 with what is wrong."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route


def probe_route(path: str, probe: Callable[[], str | None]) -> Route:
    async def answer(_: Request) -> Response:
        wrong = probe()
        if wrong is None:
            return PlainTextResponse("ok\n")
        return PlainTextResponse(f"{wrong}\n", 503)

    return Route(path, answer)
