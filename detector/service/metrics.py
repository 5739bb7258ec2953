"""Every metric of the daemon, in one place; prometheus_client is imported here (and in the page
that serves it) and nowhere else.

Counters move when the transaction that holds the work has committed, so they agree with what
subscribers see. Per-window histograms are fed whole arrays: no Python call per window.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
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
from prometheus_client.core import HistogramMetricFamily, Metric
from prometheus_client.registry import Collector

from detector import __version__
from detector.core.alerts import Alert, Severity, State
from detector.core.pipeline import KIND, SILENCE
from detector.core.ticks import REJECT_REASONS, Float64, Outcome

# A _created series beside every counter would double the scrape.
disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it untyped

_SECONDS = (
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 0.5,
    1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SCORES = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 1024)
STAGES = ("poll", "decode", "process", "commit")


class ArrayHistogram(Collector):
    """A histogram that takes an array of observations at once."""

    def __init__(
        self, name: str, documentation: str, buckets: Sequence[float], registry: CollectorRegistry
    ) -> None:
        self._name, self._documentation = name, documentation
        self._edges = np.array(buckets, np.float64)
        self._counts = np.zeros(len(buckets) + 1, np.int64)
        self._sum = 0.0
        registry.register(self)

    def observe(self, values: NDArray[np.floating]) -> None:
        """Add finite values; a bucket holds what is at most its bound."""
        bucket = np.searchsorted(self._edges, values, side="left")
        self._counts += np.bincount(bucket, minlength=len(self._counts))
        self._sum += float(values.sum())

    def collect(self) -> Iterable[Metric]:
        cumulative = np.cumsum(self._counts).tolist()
        bounds = [*(repr(float(e)) for e in self._edges), "+Inf"]
        family = HistogramMetricFamily(self._name, self._documentation)
        family.add_metric([], list(zip(bounds, cumulative, strict=True)), self._sum)
        yield family


class Metrics:
    """All metrics, with every label value there from the start."""

    def __init__(self, registry: CollectorRegistry, *, process: bool = False) -> None:
        """process: also expose memory, CPU and file descriptors of this process."""

        def counter(name: str, text: str, *labels: str) -> Counter:
            return Counter(f"detector_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, *labels: str) -> Gauge:
            return Gauge(f"detector_{name}", text, labels, registry=registry)

        def seconds(name: str, text: str, *labels: str) -> Histogram:
            return Histogram(f"detector_{name}", text, labels, buckets=_SECONDS, registry=registry)

        self.registry = registry
        self.ticks = counter(
            "ticks_total", "Ticks read, by what became of them; the sum is all ticks", "outcome"
        )
        self.rejected = counter("ticks_rejected_total", "Ticks rejected, by reason", "reason")
        self.windows = counter("windows_scored_total", "Windows scored")
        self.alerts = counter("alerts_total", "Alert events committed", "kind", "severity", "state")
        self.dead_letters = counter("dead_letters_total", "Dead letters committed")
        self.gaps = counter("gaps_total", "Gaps above window.max_gap_s: windows that began anew")
        self.transactions = counter(
            "transactions_total",
            "Transactions, by outcome; unknown: failed, and nobody here can tell what it did",
            "outcome",
        )
        self.state_records = counter("state_records_total", "Series whose state was written")
        self.state_bytes = counter("state_bytes_total", "Bytes of state written")
        self.restored = counter(
            "restored_series_total",
            "Series restored: resumed, warming (another model's state, or ticks were lost) or "
            "no_room (limits.max_series)",
            "outcome",
        )
        self.replayed = counter(
            "replayed_ticks_total", "Ticks processed again, silently, to restore state"
        )
        self.lost_records = counter(
            "lost_records_total", "Records deleted from the ticks topic before they were read"
        )
        self.rebalances = counter("rebalances_total", "Changes of the assigned partitions")
        self.scoring = seconds("scoring_seconds", "Pipeline time of a poll with windows to score")
        self.batch = Histogram(
            "detector_batch_windows", "Windows of a poll", buckets=_WINDOWS, registry=registry
        )
        self.tick_to_alert = seconds(
            "tick_to_alert_seconds",
            "From the broker's timestamp of the tick's record to the committed alert",
        )
        self.processing = seconds("processing_seconds", "Time in each stage of the loop", "stage")
        self.commit = seconds("commit_seconds", "Time of a transaction")
        self.score = ArrayHistogram(
            "detector_score", "Scores of windows; about 1 is normal", _SCORES, registry
        )
        self.lag = gauge(
            "consumer_lag_records", "Records in the topic not yet read", "topic", "partition"
        )
        self.last_tick = gauge("last_tick_timestamp_seconds", "Newest event time accepted")
        self.active_series = gauge("active_series", "Series with state")
        self.warming_series = gauge("warming_series", "Series without a full window yet")
        self.open_alerts = gauge("open_alerts", "Alerts open now")
        self.threshold = gauge("threshold", "Score above which a window is anomalous")
        self.restore = gauge("state_restore_seconds", "Time the last restore of state took")
        self.ready = gauge("ready", "1 while joined, restored and with a model")
        self.progress = gauge(
            "loop_last_progress_timestamp_seconds", "When the loop last completed a round"
        )
        self.model = Info("detector_model", "The model in use", registry=registry)
        build = Info("detector_build", "This program", registry=registry)
        build.info({"version": __version__})
        if process:
            ProcessCollector(registry=registry)
            PlatformCollector(registry=registry)
            GCCollector(registry=registry)
        for outcome in Outcome:
            self.ticks.labels(outcome.name.lower())
        for reason in REJECT_REASONS:
            self.rejected.labels(reason)
        for severity in Severity:
            for state in State:
                self.alerts.labels(KIND, severity.name.lower(), state.name.lower())
        for state in (State.OPENED, State.RESOLVED):
            self.alerts.labels(SILENCE, Severity.WARNING.name.lower(), state.name.lower())
        for result in ("committed", "aborted", "unknown"):
            self.transactions.labels(result)
        for result in ("resumed", "warming", "no_room"):
            self.restored.labels(result)
        for stage in STAGES:
            self.processing.labels(stage)

    def count_ticks(self, counts: Mapping[Outcome, int], reasons: Mapping[str, int]) -> None:
        """Ticks of a committed transaction."""
        for outcome, number in counts.items():
            self.ticks.labels(outcome.name.lower()).inc(number)
        for reason, number in reasons.items():
            self.rejected.labels(reason).inc(number)
        self.windows.inc(counts.get(Outcome.SCORED, 0))

    def count_alerts(self, alerts: Iterable[Alert], committed_s: float) -> None:
        """Alerts of a committed transaction. committed_s: wall clock, seconds."""
        for alert in alerts:
            self.alerts.labels(
                alert.kind, alert.severity.name.lower(), alert.state.name.lower()
            ).inc()
            self.tick_to_alert.observe(max(0.0, committed_s - alert.received_ms / 1000))

    def observe_scores(self, scores: Float64) -> None:
        """Scores by tick; NaN (no window) is left out."""
        scored = scores[~np.isnan(scores)]
        if len(scored):
            self.score.observe(scored)
            self.batch.observe(len(scored))


def metric_names() -> frozenset[str]:
    """The base names a scrape shows: detector_ticks_total, detector_scoring_seconds ..."""
    registry = CollectorRegistry()
    Metrics(registry)
    suffix = {"counter": "_total", "info": "_info"}
    return frozenset(f.name + suffix.get(f.type, "") for f in registry.collect())
