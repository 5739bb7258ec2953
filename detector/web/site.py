"""What is answered where: a new page is a file beside this one and a line in it."""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp

from detector.web.api import Api, Json
from detector.web.connections import Connections
from detector.web.guard import Guard
from detector.web.metrics import metrics_route
from detector.web.page import page_routes
from detector.web.probes import probe_route
from detector.web.source import Site
from detector.web.viewers import Viewers


def make_app(site: Site, viewers: Viewers, connections: Connections) -> ASGIApp:
    app = Starlette(
        routes=[
            probe_route("/livez", site.source.live),
            probe_route("/readyz", site.source.ready),
            metrics_route(site.registry),
            *Api(site.source, viewers, connections, site.tally).routes(),
            *page_routes(),
        ],
        exception_handlers={HTTPException: _refused, 500: _failed},
    )
    app.router.redirect_slashes = False
    return Guard(app, connections, site.tally)


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if request.url.path.startswith("/api/"):
        return Json({"error": error.detail}, error.status_code, headers=error.headers)
    line = "not found" if error.status_code == 404 else error.detail
    return PlainTextResponse(f"{line}\n", error.status_code, headers=error.headers)


async def _failed(_: Request, __: Exception) -> Response:
    return PlainTextResponse("internal error, see the log\n", 500)
