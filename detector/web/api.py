"""/api/v1: what the page shows, as JSON. docs/http-api.md describes it."""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from detector.web.connections import Connections
from detector.web.events import EventStream
from detector.web.source import Source, Tally
from detector.web.viewers import TooManyError, Viewer, Viewers

#: The loop hands over at the end of a round. For the state an older one does meanwhile.
_STATE_WAIT_S, _WAIT_S, _LOOK_S = 0.2, 2.0, 0.005
_STATE_AGE_S, _NAMES_AGE_S, _SERIES_AGE_S = 2.0, 5.0, 1.0
_MOST_FOUND, _MOST_LISTED, _MOST_OF_ONE = 200, 1200, 8

Handed = TypeVar("Handed")


class Json(Response):
    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return msgspec.json.encode(content)


class Api:
    def __init__(
        self, source: Source, viewers: Viewers, connections: Connections, tally: Tally
    ) -> None:
        self._source, self._viewers, self._tally = source, viewers, tally
        self._connections = connections
        self._names = _Names()

    def routes(self) -> list[Route]:
        return [
            Route("/api/v1/state", self._state),
            Route("/api/v1/alerts", self._alerts),
            Route("/api/v1/alerts/{alert_id}", self._alert),
            Route("/api/v1/series", self._search),
            Route("/api/v1/live", self._live),
            Route("/api/v1/events", self._events),
        ]

    async def _state(self, request: Request) -> Response:
        _only(request)
        source = self._source
        source.want_state(_STATE_AGE_S)
        handed = await self._newer(source.state, _STATE_AGE_S, _STATE_WAIT_S)
        age_s = None if handed is None else source.clock_s() - handed[0]
        state: Mapping[str, Any] = {} if handed is None else handed[1]
        health = {"live": source.live(), "ready": source.ready(), "age_seconds": age_s}
        return Json(health | dict(state))

    async def _alerts(self, request: Request) -> Response:
        _only(request, "state", "limit")
        wanted = request.query_params.get("state")
        if wanted not in (None, "open", "closed"):
            raise HTTPException(400, "state: open or closed")
        most = _number(request, "limit", default=_MOST_LISTED, most=_MOST_LISTED)
        found = [one for one in self._source.alerts() if wanted in (None, one["state"])]
        return Json({"total": len(found), "alerts": found[:most]})

    async def _alert(self, request: Request) -> Response:
        _only(request)
        found = self._source.alert(request.path_params["alert_id"])
        if found is None:
            raise HTTPException(404, "no such alert is open, or among the last that closed")
        return Json(found)

    async def _search(self, request: Request) -> Response:
        _only(request, "contains", "limit")
        contains = request.query_params.get("contains", "")
        most = _number(request, "limit", default=20, most=_MOST_FOUND)
        self._source.want_names(1.0)
        handed = await self._newer(self._source.names, _NAMES_AGE_S, _WAIT_S)
        if handed is None:
            raise HTTPException(503, "the loop has not answered")
        total, found = self._names.search(handed[1], contains, most)
        return Json({"contains": contains, "total": total, "series": found})

    async def _live(self, request: Request) -> Response:
        _only(request, "series")
        names = request.query_params.getlist("series")
        if len(names) != 1:
            raise HTTPException(400, "series: one name")
        (name,) = names
        try:
            with self._viewers.watching([name]):
                seen = await self._newer(lambda: self._source.series(name), _SERIES_AGE_S, _WAIT_S)
        except TooManyError as error:
            raise self._too_many(error) from None
        if seen is None:
            raise HTTPException(503, "the loop has not answered")
        if seen[1] is None:
            raise HTTPException(404, "no such series is known here")
        return Json(seen[1])

    async def _events(self, request: Request) -> ASGIApp:
        _only(request, "alerts", "state", "series")
        names = frozenset(request.query_params.getlist("series"))
        if len(names) > _MOST_OF_ONE:
            raise HTTPException(400, f"series: {_MOST_OF_ONE} at most")
        viewer = Viewer(
            alerts=_flag(request, "alerts"), state=_flag(request, "state"), series=names
        )
        try:
            self._viewers.require_room(viewer)
        except TooManyError as error:
            raise self._too_many(error) from None
        return EventStream(self._viewers, viewer, self._connections)

    def _too_many(self, error: TooManyError) -> HTTPException:
        self._tally.refused.labels("viewers").inc()
        return HTTPException(503, str(error), headers={"retry-after": "5"})

    async def _newer(
        self, handed: Callable[[], tuple[float, Handed] | None], age_s: float, wait_s: float
    ) -> tuple[float, Handed] | None:
        """What was handed over no longer ago than age_s, waited for; else what there is."""
        asked_s = self._source.clock_s()
        while True:
            there = handed()
            if there is not None and there[0] >= asked_s - age_s:
                return there
            if self._source.clock_s() - asked_s >= wait_s:
                return there
            await asyncio.sleep(_LOOK_S)


class _Names:
    """Looks for series; what is worked out of the names handed over last is kept."""

    def __init__(self) -> None:
        self._of: Sequence[str] = ()
        self._folded: list[tuple[str, str]] = []

    def search(self, names: Sequence[str], contains: str, most: int) -> tuple[int, list[str]]:
        """How many contain it, in whatever case, and the first of them: those that begin with it
        before the others."""
        if names is not self._of:
            self._of = names
            self._folded = [(name.casefold(), name) for name in set(names)]
        wanted = contains.casefold()
        found = [pair for pair in self._folded if wanted in pair[0]]
        first = heapq.nsmallest(
            most, found, key=lambda pair: (not pair[0].startswith(wanted), pair)
        )
        return len(found), [name for _, name in first]


def _only(request: Request, *known: str) -> None:
    unknown = sorted(set(request.query_params) - set(known))
    if unknown:
        raise HTTPException(
            400, f"unknown: {unknown[0][:100]}; known: {', '.join(known) or 'none'}"
        )


def _number(request: Request, name: str, *, default: int, most: int) -> int:
    given = request.query_params.get(name)
    if given is None:
        return default
    if not (given.isascii() and given.isdigit() and len(given) < 10 and 1 <= int(given) <= most):
        raise HTTPException(400, f"{name}: a number from 1 to {most}")
    return int(given)


def _flag(request: Request, name: str) -> bool:
    given = request.query_params.get(name, "0")
    if given not in ("0", "1"):
        raise HTTPException(400, f"{name}: 0 or 1")
    return given == "1"
