"""What the dashboard shows, row by row: is it well, how much, how fast, what it finds."""

from __future__ import annotations

from detection import ALERTS, BUDGET, SCORES
from panels import Panel, Plot, Stat
from queries import ABOVE, DEPLOYED, TIMES, increase, quantiles, rate, share
from told import MODEL, TOLD

_UP = {"1": ("up", "green"), "0": ("down", "red")}
_READY = {"1": ("ready", "green"), "0": ("not ready", "red")}
_GOOD_FROM_1 = (("red", None), ("green", 1.0))


OVERVIEW: list[Panel] = [
    Stat(
        "Up",
        "Prometheus can scrape the daemon.",
        ('min(up{job="detector", %I})', "up"),
        steps=_GOOD_FROM_1,
        words=_UP,
        width=3,
        runbook="DetectorDown",
    ),
    Stat(
        "Ready",
        "It has joined its group, restored its state and loaded its model.",
        ("min(detector_ready{%I})", "ready"),
        steps=_GOOD_FROM_1,
        words=_READY,
        width=3,
        runbook="DetectorNotReady",
    ),
    Stat(
        "Open alerts",
        "Alerts that are open now.",
        ("sum(detector_open_alerts{%I})", "open"),
        steps=(("green", None), ("yellow", 1.0), ("red", 50.0)),
        width=3,
        runbook="DetectorAlertStorm",
    ),
    Stat(
        "Lag",
        "Records in the topic that are not yet read.",
        ("sum(detector_consumer_lag_records{%I})", "records"),
        steps=(("green", None), ("yellow", 1000.0), ("red", 100_000.0)),
        width=3,
        runbook="DetectorLagGrowing",
    ),
    Stat(
        "Newest tick's age",
        "Now less the newest event time accepted: what the producers add to the delay, and the "
        "lag.",
        ("time() - max(detector_last_tick_timestamp_seconds{%I})", "age"),
        unit="s",
        steps=(("green", None), ("yellow", 30.0), ("red", 300.0)),
        width=3,
        runbook="DetectorNoTicks",
    ),
    Stat(
        "Last round of the loop",
        "Time since the slowest worker's loop completed a round.",
        ("max(time() - detector_loop_last_progress_timestamp_seconds{%I})", "age"),
        unit="s",
        steps=(("green", None), ("yellow", 15.0), ("red", 60.0)),
        width=3,
        runbook="DetectorLoopStuck",
    ),
    Stat(
        "Times the budget",
        "Share of the windows of the last day above the threshold, in deployed budgets: 1 is kept.",
        (f"({share(*ABOVE, '1d')}) / {DEPLOYED}", "times"),
        steps=TIMES,
        decimals=1,
        width=3,
        runbook="DetectorBudgetExceeded",
    ),
    Stat(
        "Shortest uptime",
        "Of the worker that was started last.",
        ("time() - max(process_start_time_seconds{%I})", "uptime"),
        unit="s",
        width=3,
    ),
]

THROUGHPUT: list[Panel] = [
    Plot(
        "Ticks by outcome",
        "What became of the ticks; the sum is every tick read.",
        [rate("detector_ticks_total", "outcome")],
        unit="cps",
        stacked=True,
        width=12,
    ),
    Plot(
        "Lag by partition",
        "Records not yet read. A line that only climbs: too little capacity, or a stuck partition.",
        [
            (
                "sum by (topic, partition) (detector_consumer_lag_records{%I})",
                "{{topic}}/{{partition}}",
            )
        ],
        width=12,
        runbook="DetectorLagGrowing",
    ),
    Plot(
        "Windows scored",
        "Windows scored a second, by worker.",
        [rate("detector_windows_scored_total", "instance")],
        unit="cps",
        width=6,
    ),
    Plot(
        "Windows of a poll",
        "The batch the model scores in one call: it grows with the load.",
        quantiles("detector_batch_windows", "0.5", "0.99"),
        width=6,
    ),
    Plot(
        "Rejected ticks by reason",
        "Rejected ticks are not scored. All reasons are listed, also those that never happened.",
        [rate("detector_ticks_rejected_total", "reason")],
        unit="cps",
        stacked=True,
        width=6,
        runbook="DetectorRejectsHigh",
    ),
    Plot(
        "Dead letters",
        "Records that could not be used, kept in the dead-letter topic.",
        [rate("detector_dead_letters_total", "instance")],
        unit="cps",
        width=6,
        runbook="DetectorRejectsHigh",
    ),
]

LATENCY: list[Panel] = [
    Plot(
        "Tick to alert",
        "From the broker's timestamp of the tick to the committed alert. Empty while nothing "
        "alerts.",
        quantiles("detector_tick_to_alert_seconds", "0.5", "0.99"),
        unit="s",
        width=12,
        runbook="DetectorSlowAlerts",
    ),
    Plot(
        "Commit",
        "Time of a transaction.",
        quantiles("detector_commit_seconds", "0.5", "0.99"),
        unit="s",
        width=6,
    ),
    Plot(
        "Pipeline",
        "What a poll's windows take from features to scores and alerts.",
        quantiles("detector_pipeline_seconds", "0.5", "0.99"),
        unit="s",
        width=6,
    ),
    Plot(
        "Stages, p99",
        "Time in each stage of the loop. poll includes waiting for ticks, so it is long when "
        "there are few; wait is for a transaction, where nothing more waits to be read or the "
        "loop has got far ahead of it.",
        [
            (
                "histogram_quantile(0.99, sum by (stage, le) "
                "(rate(detector_processing_seconds_bucket{%I}[%R])))",
                "{{stage}}",
            )
        ],
        unit="s",
        width=12,
    ),
    Plot(
        "Where the time goes",
        "Seconds a second spent in each stage, all workers: 1 for each is one busy core.",
        [rate("detector_processing_seconds_sum", "stage")],
        unit="s",
        stacked=True,
        width=12,
    ),
]

STATE: list[Panel] = [
    Plot(
        "Transactions",
        "Commits and aborts a second.",
        [rate("detector_transactions_total", "outcome")],
        unit="ops",
        runbook="DetectorTransactionsAborting",
    ),
    Plot(
        "Rebalances",
        "Changes of the assigned partitions in five minutes.",
        [("sum by (instance) (increase(detector_rebalances_total{%I}[5m]))", "{{instance}}")],
        runbook="DetectorRebalancing",
    ),
    Stat(
        "Restore",
        "Time the last restore of state took, on the slowest worker.",
        ("max(detector_state_restore_seconds{%I})", "restore"),
        unit="s",
        width=4,
        height=8,
    ),
    Stat(
        "Aborted transactions",
        "Share of the transactions that were aborted. Each is done again; none is lost.",
        (
            'sum(rate(detector_transactions_total{outcome="aborted", %I}[%R]))'
            " / clamp_min(sum(rate(detector_transactions_total{%I}[%R])), 1e-9)",
            "aborted",
        ),
        unit="percentunit",
        steps=(("green", None), ("yellow", 0.001), ("red", 0.05)),
        width=4,
        height=8,
        runbook="DetectorTransactionsAborting",
    ),
    Plot(
        "State written",
        "Bytes of series state and watermarks a second.",
        [("sum(rate(detector_state_bytes_total{%I}[5m]))", "bytes")],
        unit="Bps",
    ),
    Plot(
        "Series written and restored",
        "Series whose state was written; restored after a start or a rebalance, by whether they "
        "resumed or warm up again.",
        [
            ("sum(rate(detector_state_records_total{%I}[5m]))", "written /s"),
            (
                "sum by (outcome) (increase(detector_restored_series_total{%I}[5m]))",
                "restored, {{outcome}}",
            ),
        ],
    ),
    Plot(
        "Replayed, lost, gaps, forgotten",
        "Ticks processed again, silently, to restore state; records that retention deleted "
        "unread; gaps that began a new window; series that were not heard for "
        "limits.forget_after_s; windows whose error was no number.",
        [
            increase("detector_replayed_ticks_total", "replayed"),
            increase("detector_lost_records_total", "lost"),
            increase("detector_gaps_total", "gaps"),
            increase("detector_forgotten_series_total", "forgotten"),
            increase("detector_windows_not_finite_total", "not finite"),
        ],
        runbook="DetectorTicksLost",
    ),
    Plot(
        "Memory",
        "Resident memory of the process. It should be flat once all series are known.",
        [("process_resident_memory_bytes{%I}", "{{instance}}")],
        unit="bytes",
    ),
    Plot(
        "CPU",
        "Cores in use.",
        [("rate(process_cpu_seconds_total{%I}[%R])", "{{instance}}")],
    ),
    Plot(
        "File descriptors",
        "Open files and sockets. A line that only climbs is a leak.",
        [("process_open_fds{%I}", "{{instance}} open")],
    ),
]

ROWS: list[tuple[str, list[Panel]]] = [
    ("Overview", OVERVIEW),
    ("Throughput and lag", THROUGHPUT),
    ("Latency", LATENCY),
    ("Budget", BUDGET),
    ("Scores, thresholds, drift", SCORES),
    ("Alerts", ALERTS),
    ("Model and shadow", MODEL),
    ("Mutes, bridge, page", TOLD),
    ("State and process", STATE),
]
