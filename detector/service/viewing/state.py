"""The state of the daemon as it is shown. What a model decides is asked of the current track."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from detector import __version__
from detector.core.moments import rfc3339
from detector.core.pipeline import Pipeline
from detector.service.health import Health
from detector.service.partitions import Partitions
from detector.service.viewing.recent import Pace

#: What a candidate beside the model in use has come to; None: there is none.
Beside = Callable[[], Mapping[str, Any] | None]


class StateView:
    """Called by the loop. broker: in words; beside: shown as it is."""

    def __init__(
        self,
        pipeline: Pipeline,
        partitions: Partitions,
        health: Health,
        pace: Pace,
        *,
        broker: str,
        wall_s: Callable[[], float],
        beside: Beside = lambda: None,
    ) -> None:
        self._pipeline, self._partitions, self._health = pipeline, partitions, health
        self._pace, self._broker, self._wall_s = pace, broker, wall_s
        self._beside = beside
        self._started_s = wall_s()

    def __call__(self) -> dict[str, Any]:
        pipeline, held, track = self._pipeline, self._partitions, self._pipeline.primary
        newest_ns, known = self._health.newest_ns, self._health.acquaintance
        ticks_s, windows_s = self._pace.rates()
        lag = {p.number: p.lag for p in held}
        return {
            "time": rfc3339(round(self._wall_s() * 1e9)),
            "started_time": rfc3339(round(self._started_s * 1e9)),
            "version": __version__,
            "broker": self._broker,
            "topic": pipeline.topic,
            "partitions": held.started,
            "restoring": sorted([*held.restoring, *held.replaying]),
            "lag": {"records": sum(n or 0 for n in lag.values()), "by_partition": lag},
            "throughput": {
                "ticks_per_second": ticks_s,
                "windows_per_second": windows_s,
                "ticks": self._pace.ticks,
                "windows": self._pace.windows,
            },
            "latency_seconds": self._pace.percentiles(),
            "series": {
                "active": pipeline.active_series(),
                "warming": pipeline.warming_series(),
                "cold": None if known is None else known.cold,
                "room": pipeline.stream.policy.max_series,
            },
            "open_alerts": pipeline.open_alerts(),
            "newest_tick": None if newest_ns is None else rfc3339(newest_ns),
            "model": {
                "version": track.policy.model_version,
                "alerts_of_kind": track.policy.kind,
                "features": list(track.features.names),
                "length_ticks": track.policy.length,
                "stride_ticks": track.policy.stride,
                "threshold": track.policy.threshold,
            },
            "engine": {"name": track.engine.name, "why": track.engine.why},
            "shadow": self._beside(),
        }
