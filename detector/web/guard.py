"""Around every request: only what reads and is small goes in, nothing goes out without the headers
that keep a browser from doing more than it should, and whatever goes wrong is answered."""

from __future__ import annotations

import asyncio
import logging

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from detector.web.connections import Connections
from detector.web.source import Tally

_LOGGER = logging.getLogger("detector.web")
#: For an answer to be taken; streams of events have a limit of their own.
TAKEN_S = 10.0
#: Bytes of a request's path and query.
MOST_TARGET = 4096
EVENTS = "/api/v1/events"

_HEADERS = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
    "permissions-policy": "camera=(), geolocation=(), microphone=()",
}


class Guard:
    def __init__(self, app: ASGIApp, connections: Connections, tally: Tally) -> None:
        self._app, self._connections, self._tally = app, connections, tally

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            return
        began = False

        async def dressed(message: Message) -> None:
            nonlocal began
            if message["type"] == "http.response.start":
                began = True
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                # Files are asked for again and answered in a line if they are the same.
                headers.setdefault("cache-control", "no-cache" if "etag" in headers else "no-store")
            await send(message)

        try:
            refusal = self._refusal(scope)
            app = self._app if refusal is None else refusal
            async with asyncio.timeout(None if scope["path"] == EVENTS else TAKEN_S):
                await app(scope, receive, dressed)
        except TimeoutError:
            self._tally.refused.labels("slow").inc()
            await self._connections.abort(scope, receive)
        except Exception:  # the outermost of a request: it is answered, whatever went wrong
            _LOGGER.exception("%s %s", scope["method"], scope["path"][:200])
            if began:
                await self._connections.abort(scope, receive)
            else:
                answer = PlainTextResponse("internal error, see the log\n", 500)
                await answer(scope, receive, dressed)

    def _refusal(self, scope: Scope) -> PlainTextResponse | None:
        headers = Headers(scope=scope)
        if scope["method"] not in ("GET", "HEAD"):
            return self._refused("method", 405, "only GET and HEAD: nothing can be changed here")
        if headers.get("content-length", "0") != "0" or "transfer-encoding" in headers:
            return self._refused("body", 413, "a request has no body here")
        if len(scope["raw_path"]) + len(scope["query_string"]) > MOST_TARGET:
            return self._refused("size", 414, f"the address is longer than {MOST_TARGET} bytes")
        return None

    def _refused(self, reason: str, status: int, line: str) -> PlainTextResponse:
        self._tally.refused.labels(reason).inc()
        headers = {"connection": "close"}  # what else is sent on it is not waited for
        if status == 405:
            headers["allow"] = "GET, HEAD"
        return PlainTextResponse(f"{line}\n", status, headers=headers)
