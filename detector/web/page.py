"""A page for people: what the daemon is and how it is."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence

from detector.web.answers import Answer, Route
from detector.web.probes import Probe

#: Names and values to be shown.
Facts = Callable[[], Sequence[tuple[str, str]]]


def page_route(live: Probe, ready: Probe, facts: Facts) -> Route:
    def answer() -> Answer:
        rows = [("live", live() or "yes"), ("ready", ready() or "yes"), *facts()]
        return Answer(200, "text/html; charset=utf-8", _page(rows).encode())

    return answer


def _page(rows: Sequence[tuple[str, str]]) -> str:
    cells = "".join(
        f"<tr><th>{html.escape(name)}</th><td>{html.escape(value)}</td></tr>"
        for name, value in rows
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>detector</title>'
        '<meta http-equiv="refresh" content="5"><style>body{font:16px sans-serif;margin:2rem}'
        "th{text-align:left;padding:.2rem 2rem .2rem 0;font-weight:600}</style>"
        f'<h1>detector</h1><table>{cells}</table><p><a href="/metrics">metrics</a> '
        '<a href="/livez">livez</a> <a href="/readyz">readyz</a></p></html>'
    )
