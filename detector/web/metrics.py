"""/metrics: the registry in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from detector.web.answers import Answer, Route


def metrics_route(registry: CollectorRegistry) -> Route:
    return lambda: Answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
