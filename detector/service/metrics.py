"""Every metric of the daemon, in one place; prometheus_client is imported here (and in the page
that serves it) and nowhere else.

Counters move when the transaction that holds the work has committed, so they agree with what
subscribers see. Per-window histograms are fed whole arrays: no Python call per window.
"""

from __future__ import annotations

import math
import time
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
from detector.core.alerts import (
    MODEL_DRIFT,
    NEW_NORMAL,
    RECONSTRUCTION,
    SILENCE,
    Alert,
    Severity,
    State,
)
from detector.core.rehearsal import Forecast
from detector.core.scores import LARGEST, Acquaintance
from detector.core.thresholds.deployed import Deployed
from detector.core.ticks import REJECT_REASONS, Float64, Outcome
from detector.service.checkpoint import Restored
from detector.service.model_metrics import ModelMetrics

_SECONDS = (
    50e-6, 100e-6, 250e-6, 500e-6, 1e-3, 2.5e-3, 5e-3, 10e-3, 25e-3, 50e-3, 100e-3, 250e-3, 0.5,
    1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
_WINDOWS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
_SCORES = (0.1, 0.25, 0.5, 0.75, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128, 256, 1024)
PERCENTILES = ("50", "90", "100")
WEB_REFUSALS = ("method", "body", "size", "slow", "viewers", "connections")
STAGES = ("poll", "decode", "process", "commit", "wait", "show")


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


class Stages:
    """Time in each stage of the loop, on the clock and of the CPU: what a stage waits for is only
    in the first. CPU time is that of the thread that is in the stage; threads of the engine
    (limits.threads above 1) and of the Kafka client are in neither."""

    def __init__(self, wall: Histogram, cpu: Counter) -> None:
        self._stages = {name: Stage(wall.labels(name), cpu.labels(name)) for name in STAGES}

    def of(self, stage: str) -> Stage:
        """Of what happens inside, also where it raises."""
        return self._stages[stage]


class Stage:
    """One at a time, in one thread."""

    def __init__(self, wall: Histogram, cpu: Counter) -> None:
        self._wall, self._cpu = wall, cpu
        self._began_s = self._began_cpu_s = 0.0

    def __enter__(self) -> None:
        self._began_s, self._began_cpu_s = time.perf_counter(), time.thread_time()

    def __exit__(self, *_: object) -> None:
        self._cpu.inc(max(0.0, time.thread_time() - self._began_cpu_s))
        self._wall.observe(time.perf_counter() - self._began_s)


class Metrics:
    """All metrics, with every label value there from the start."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        alert_kind: str = RECONSTRUCTION,
        process: bool = False,
    ) -> None:
        """alert_kind: of the model's alerts; process: also expose memory, CPU and file descriptors
        of this process."""
        # A _created series beside every counter would double the scrape. A default of the whole
        # process: the daemon has one of its own.
        disable_created_metrics()  # type: ignore[no-untyped-call]  # the library left it untyped
        self._lag_of: set[int] = set()

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
        self.muted_alerts = counter("muted_alerts_total", "Alert events committed as muted")
        self.mutes_in_force = gauge("mutes_in_force", "Mutes in force in a partition held")
        self.access_refused = counter(
            "access_refused_total",
            "Times the broker did not let us follow the commands topic, which is tried again; any "
            "other refusal ends the process (77)",
        )
        self.commands_refused = counter(
            "commands_refused_total", "Records of the commands topic that cannot be used: left out"
        )
        self.dead_letters = counter("dead_letters_total", "Dead letters committed")
        self.above = counter("windows_above_threshold_total", "Windows above the threshold")
        self.not_finite = counter(
            "windows_not_finite_total",
            "Windows whose error was not finite: they count as strange as can be, and alert",
        )
        self.new_normals = counter(
            "new_normals_total",
            "Incidents that lasted so long that they are learned from (threshold.adaptive)",
        )
        self.forgotten = counter(
            "forgotten_series_total", "Series not heard for limits.forget_after_s: they left"
        )
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
        self.pipeline = seconds(
            "pipeline_seconds", "Time of a poll's ticks in the pipeline, where there were windows"
        )
        self.scoring = seconds(
            "scoring_seconds", "Deprecated, will go with version 0.3: detector_pipeline_seconds"
        )
        self.batch = Histogram(
            "detector_batch_windows", "Windows of a poll", buckets=_WINDOWS, registry=registry
        )
        self.tick_to_alert = seconds(
            "tick_to_alert_seconds",
            "From the broker's timestamp of the tick's record to the committed alert",
        )
        self.processing = Stages(
            seconds("processing_seconds", "Time in each stage of the loop", "stage"),
            counter(
                "processing_cpu_seconds_total",
                "CPU time of the loop's thread in each stage",
                "stage",
            ),
        )
        self.commit = seconds("commit_seconds", "Time of a transaction")
        self.score = ArrayHistogram("detector_score", "Finite scores of windows", _SCORES, registry)
        self.lag = gauge(
            "consumer_lag_records", "Records in the topic not yet read", "topic", "partition"
        )
        self.last_tick = gauge("last_tick_timestamp_seconds", "Newest event time accepted")
        self.active_series = gauge("active_series", "Series with state")
        self.max_series = gauge("max_series", "Series there is room for (limits.max_series)")
        self.warming_series = gauge("warming_series", "Series without a full window yet")
        self.open_alerts = gauge("open_alerts", "Alerts open now")
        self.threshold = gauge("threshold", "Score above which a window is anomalous")
        self.budget = gauge(
            "budget_ratio",
            "Share of normal windows that may be above the threshold: as asked for, and as the "
            "threshold stands (more where held-out windows carry no less); NaN: given by hand",
            "of",
        )
        self.expected_alerts = gauge(
            "expected_normal_alerts_per_day",
            "Alerts to expect of normal data, a day and series; NaN: not known",
        )
        self.cold_series = gauge(
            "cold_series",
            "Series that are not known well yet: cannot_alert (threshold.cold_windows), or "
            "shared_calibration, judged by the model's tail more than by their own",
            "reason",
        )
        self.drift = gauge(
            "model_drift_decades",
            "How rare a usual window of a series is by the calibration (2: one in a hundred), "
            "percentiles over the series",
            "percentile",
        )
        self.drifted_series = gauge("drifted_series", "Series with an open alert model_drift")
        self.restore = gauge("state_restore_seconds", "Time the last restore of state took")
        self.ready = gauge("ready", "1 while joined, restored and with a model")
        self.progress = gauge(
            "loop_last_progress_timestamp_seconds", "When the loop last completed a round"
        )
        self.web_viewers = gauge(
            "web_viewers", "Those who follow events on the page or the API now"
        )
        self.web_dropped = counter(
            "web_dropped_viewers_total", "Viewers hung up on because they stopped reading"
        )
        self.web_refused = counter(
            "web_refused_requests_total",
            "Requests refused: method, body, size, slow, viewers or connections (too many)",
            "reason",
        )
        self.models = ModelMetrics(registry)
        self.model = Info("detector_model", "The model in use", registry=registry)
        self.engine = Info(
            "detector_engine",
            "What scores; why: not the one that was wanted first",
            registry=registry,
        )
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
                self.alerts.labels(alert_kind, severity.name.lower(), state.name.lower())
        for kind in (SILENCE, MODEL_DRIFT, NEW_NORMAL):
            for state in (State.OPENED, State.RESOLVED, State.UPDATED):
                self.alerts.labels(kind, Severity.WARNING.name.lower(), state.name.lower())
        for of in ("asked", "deployed"):
            self.budget.labels(of)
        for reason in ("cannot_alert", "shared_calibration"):
            self.cold_series.labels(reason)
        for percentile in PERCENTILES:
            self.drift.labels(percentile)
        for result in ("committed", "aborted", "unknown"):
            self.transactions.labels(result)
        for result in ("resumed", "warming", "no_room"):
            self.restored.labels(result)
        for reason in WEB_REFUSALS:
            self.web_refused.labels(reason)

    def count_restored(self, found: Restored) -> None:
        """Series that came with a partition."""
        self.restored.labels("resumed").inc(found.resumed)
        self.restored.labels("warming").inc(found.warming)
        self.restored.labels("no_room").inc(found.no_room)

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
            self.muted_alerts.inc(alert.muted)
            if alert.received_ms >= 0:  # else the broker does not say when the tick came
                self.tick_to_alert.observe(max(0.0, committed_s - alert.received_ms / 1000))

    def observe_scores(self, polls: Sequence[Float64]) -> None:
        """Scores by tick, poll by poll; NaN (no window) is left out, and what was not finite: it is
        counted apart, and would be all of the sum."""
        if not polls:
            return
        scores = np.concatenate(polls)
        there = ~np.isnan(scores)
        self.score.observe(scores[there & (scores < LARGEST)])
        end = 0
        for poll in polls:
            begin, end = end, end + len(poll)
            windows = int(np.count_nonzero(there[begin:end]))
            if windows:
                self.batch.observe(windows)

    def observe_pipeline(self, seconds: float) -> None:
        """Of one poll."""
        self.pipeline.observe(seconds)
        self.scoring.observe(seconds)

    def tell_threshold(self, deployed: Deployed, forecast: Forecast | None) -> None:
        """What was asked for, what is deployed and what to expect of it."""
        self.threshold.set(deployed.threshold)
        self.budget.labels("asked").set(_number(deployed.asked))
        self.budget.labels("deployed").set(_number(deployed.rate))
        self.expected_alerts.set(_number(None if forecast is None else forecast.a_day))

    def tell_acquaintance(self, known: Acquaintance) -> None:
        self.cold_series.labels("cannot_alert").set(known.cold)
        self.cold_series.labels("shared_calibration").set(known.borrowed)
        for percentile in PERCENTILES:
            value = np.percentile(known.drift, float(percentile)) if len(known.drift) else 0.0
            self.drift.labels(percentile).set(float(value))

    def lag_of(self, topic: str, partition: int, records: int) -> None:
        self._lag_of.add(partition)
        self.lag.labels(topic, str(partition)).set(records)

    def forget_lag(self, topic: str, partition: int) -> None:
        """Another worker reports it now."""
        if partition in self._lag_of:
            self._lag_of.remove(partition)
            self.lag.remove(topic, str(partition))


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def metric_names() -> frozenset[str]:
    """The base names a scrape shows: detector_ticks_total, detector_scoring_seconds ..."""
    registry = CollectorRegistry()
    Metrics(registry)
    suffix = {"counter": "_total", "info": "_info"}
    return frozenset(f.name + suffix.get(f.type, "") for f in registry.collect())
