"""The page: files as they lie in static/. What they show they ask of the API."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Mount, Route
from starlette.staticfiles import StaticFiles

STATIC = Path(__file__).parent / "static"


def page_routes() -> Sequence[BaseRoute]:
    index = (STATIC / "index.html").read_bytes()

    async def page(_: Request) -> Response:
        return Response(index, media_type="text/html")

    return [Route("/", page), Mount("/static", StaticFiles(directory=STATIC))]
