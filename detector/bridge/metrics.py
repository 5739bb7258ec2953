"""Every metric of the bridge; its process has a registry and a port of its own."""

from __future__ import annotations

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    Info,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)

from detector import __version__

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
_LATE_SECONDS = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 7200.0)


class BridgeMetrics:
    """All of them, with every target there from the start. A target is named by its kind, host and
    port; a path is a hash, for it may be a secret."""

    def __init__(
        self, registry: CollectorRegistry, targets: tuple[str, ...] = (), *, process: bool = False
    ) -> None:
        """process: also expose memory, CPU and file descriptors of this process."""
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it untyped

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"detector_bridge_{name}", text, ("target", *labels), registry=registry)

        def gauge(name: str, text: str) -> Gauge:
            return Gauge(f"detector_bridge_{name}", text, ("target",), registry=registry)

        def seconds(name: str, text: str, buckets: tuple[float, ...]) -> Histogram:
            return Histogram(
                f"detector_bridge_{name}", text, ("target",), buckets=buckets, registry=registry
            )

        self.delivered = counter("delivered_total", "Events a target took (resends not counted)")
        self.refused = counter("refused_total", "Events a target refused for good")
        self.left_out = counter(
            "left_out_total",
            "Events that were not sent: muted, not_an_alert, gave_up (bridge.give_up_after_s), "
            "deleted (from the topic before they were read)",
            "reason",
        )
        self.retries = counter("retries_total", "Attempts that failed and are made again")
        self.broker_errors = counter("broker_errors_total", "Times the broker was lost")
        self.access_refused = counter(
            "access_refused_total", "Times the broker was lost because it refused us"
        )
        self.target_up = gauge("target_up", "1: the last attempt was answered; 0: it failed")
        self.lag = gauge("lag_records", "Events of the alert topic that wait for the target")
        self.open_alerts = gauge("open_alerts", "Alerts the target was told of that are open")
        self.attempt = seconds("attempt_seconds", "Time of an attempt", _SECONDS)
        self.delay = seconds(
            "delay_seconds", "From the detection of a change to its delivery", _LATE_SECONDS
        )
        build = Info("detector_bridge_build", "This program", registry=registry)
        build.info({"version": __version__})
        if process:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        for target in targets:
            self.target_up.labels(target).set(1)
            for one in (
                self.delivered,
                self.refused,
                self.retries,
                self.broker_errors,
                self.access_refused,
            ):
                one.labels(target)
            for reason in ("muted", "not_an_alert", "gave_up", "deleted"):
                self.left_out.labels(target, reason)
            for other in (self.lag, self.open_alerts, self.attempt, self.delay):
                other.labels(target)


def bridge_metric_names() -> frozenset[str]:
    """The base names a scrape shows."""
    registry = CollectorRegistry()
    BridgeMetrics(registry)
    suffix = {"counter": "_total", "info": "_info"}
    return frozenset(f.name + suffix.get(f.type, "") for f in registry.collect())
