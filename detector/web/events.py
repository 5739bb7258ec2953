"""/api/v1/events: what happens, as it happens (server-sent events)."""

from __future__ import annotations

import asyncio
import contextlib

from starlette.types import Receive, Scope, Send

from detector.web.connections import Connections
from detector.web.viewers import Viewer, Viewers, event

#: Something is said so often, so that a dead connection is noticed.
PING_S = 15.0
#: Who takes nothing for so long is dropped.
STOPPED_S = 10.0
_RENEW_S = 2.0


class EventStream:
    """An answer that lasts as long as its viewer follows."""

    def __init__(self, viewers: Viewers, viewer: Viewer, connections: Connections) -> None:
        self._viewers, self._viewer, self._connections = viewers, viewer, connections

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        viewer = self._viewer
        with self._viewers.joined(viewer):
            self._viewers.renew(viewer)
            leaving = asyncio.ensure_future(_left(receive))
            leaving.add_done_callback(lambda _: viewer.something.set())
            try:
                await self._begin(send)
                if scope["method"] != "HEAD":
                    await self._follow(send, leaving)
                if not leaving.done():
                    await _said(send, b"", more=False)
            except TimeoutError:
                self._viewers.dropped()
                leaving.cancel()
                await self._connections.abort(scope, receive)
            finally:
                leaving.cancel()

    async def _begin(self, send: Send) -> None:
        headers = [
            (b"content-type", b"text/event-stream; charset=utf-8"),
            (b"cache-control", b"no-store"),
            (b"x-accel-buffering", b"no"),  # nginx hands it on at once
        ]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await _said(send, b"retry: 2000\n\n" + event("hello", {"version": "v1"}))

    async def _follow(self, send: Send, leaving: asyncio.Future[None]) -> None:
        viewer, clock_s = self._viewer, asyncio.get_running_loop().time
        said_s = clock_s()
        while not leaving.done() and not viewer.ended:
            with contextlib.suppress(TimeoutError):  # timeout: no task is made, as wait_for does
                async with asyncio.timeout(_RENEW_S):
                    await viewer.something.wait()
            self._viewers.renew(viewer)
            if viewer.overrun:
                raise TimeoutError("it reads more slowly than alerts come")
            told = viewer.take()
            if not told and clock_s() - said_s >= PING_S:
                told = b": still here\n\n"
            if told:
                said_s = clock_s()
                await _said(send, told)


async def _said(send: Send, told: bytes, *, more: bool = True) -> None:
    """Raises TimeoutError if it is not taken."""
    async with asyncio.timeout(STOPPED_S):
        await send({"type": "http.response.body", "body": told, "more_body": more})


async def _left(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
