"""What is answered where: a new page is a file beside this one and a line in it."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from detector.web.answers import Route
from detector.web.metrics import metrics_route
from detector.web.page import Facts, page_route
from detector.web.probes import Probe, probe_route


def routes(
    *, registry: CollectorRegistry, live: Probe, ready: Probe, facts: Facts
) -> dict[str, Route]:
    """By path."""
    return {
        "/": page_route(live, ready, facts),
        "/metrics": metrics_route(registry),
        "/livez": probe_route(live),
        "/readyz": probe_route(ready),
    }
