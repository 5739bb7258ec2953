"""What the dashboard shows, row by row: is it well, how much, how fast, what it finds."""

from __future__ import annotations

from panels import Line, Panel, Plot, Query, Stat, Table

_UP = {"1": ("up", "green"), "0": ("down", "red")}
_READY = {"1": ("ready", "green"), "0": ("not ready", "red")}
_GOOD_FROM_1 = (("red", None), ("green", 1.0))
_TIMES = (("green", None), ("yellow", 3.0), ("red", 10.0))


def _share(of: str, total: str, over: str) -> str:
    return f"sum(rate({of}{{%I}}[{over}])) / clamp_min(sum(rate({total}{{%I}}[{over}])), 1e-9)"


def _quantiles(histogram: str, *quantiles: str, by: str = "le") -> list[Query]:
    return [
        (
            f"histogram_quantile({q}, sum by ({by}) (rate({histogram}_bucket{{%I}}[%R])))",
            f"p{float(q) * 100:g}",
        )
        for q in quantiles
    ]


def _rate(counter: str, by: str) -> Query:
    return f"sum by ({by}) (rate({counter}{{%I}}[%R]))", f"{{{{{by}}}}}"


def _increase(counter: str, name: str, over: str = "5m") -> Query:
    return f"sum(increase({counter}{{%I}}[{over}]))", name


_ABOVE = ("detector_windows_above_threshold_total", "detector_windows_scored_total")
_OPENED_A_DAY = (
    'sum(increase(detector_alerts_total{state="opened", '
    'kind!~"silence|model_drift|new_normal", %I}[1d]))'
    " / clamp_min(sum(avg_over_time(detector_active_series{%I}[1d])), 1)"
)
_EXPECTED = "max(detector_expected_normal_alerts_per_day{%I})"
_DEPLOYED = 'max(detector_budget_ratio{of="deployed", %I})'

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
        (f"({_share(*_ABOVE, '1d')}) / {_DEPLOYED}", "times"),
        steps=_TIMES,
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
        [_rate("detector_ticks_total", "outcome")],
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
        [_rate("detector_windows_scored_total", "instance")],
        unit="cps",
        width=6,
    ),
    Plot(
        "Windows of a poll",
        "The batch the model scores in one call: it grows with the load.",
        _quantiles("detector_batch_windows", "0.5", "0.99"),
        width=6,
    ),
    Plot(
        "Rejected ticks by reason",
        "Rejected ticks are not scored. All reasons are listed, also those that never happened.",
        [_rate("detector_ticks_rejected_total", "reason")],
        unit="cps",
        stacked=True,
        width=6,
        runbook="DetectorRejectsHigh",
    ),
    Plot(
        "Dead letters",
        "Records that could not be used, kept in the dead-letter topic.",
        [_rate("detector_dead_letters_total", "instance")],
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
        _quantiles("detector_tick_to_alert_seconds", "0.5", "0.99"),
        unit="s",
        width=12,
        runbook="DetectorSlowAlerts",
    ),
    Plot(
        "Commit",
        "Time of a transaction.",
        _quantiles("detector_commit_seconds", "0.5", "0.99"),
        unit="s",
        width=6,
    ),
    Plot(
        "Pipeline",
        "What a poll's windows take from features to scores and alerts.",
        _quantiles("detector_pipeline_seconds", "0.5", "0.99"),
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
        [_rate("detector_processing_seconds_sum", "stage")],
        unit="s",
        stacked=True,
        width=12,
    ),
]

BUDGET: list[Panel] = [
    Plot(
        "Budget against the share above the threshold",
        "Share of all windows above the threshold, over the last hour and day, beside the budget. "
        "On normal data the lines lie at the deployed budget; for long far above it: normal has "
        "changed, or something is wrong. Asked and deployed differ where the held-out windows "
        "carry no smaller budget; neither is there where the threshold was given by hand. A share "
        "of 0 is not drawn.",
        [
            ('max(detector_budget_ratio{of="asked", %I})', "asked"),
            (_DEPLOYED, "deployed"),
            (_share(*_ABOVE, "1h"), "above, 1 h"),
            (_share(*_ABOVE, "1d"), "above, 1 d"),
        ],
        unit="percentunit",
        log=True,
        lines=[Line("asked", "blue", dashed=True), Line("deployed", "red", dashed=True)],
        width=10,
        height=9,
        runbook="DetectorBudgetExceeded",
    ),
    Plot(
        "Alerts a day and series",
        "Alerts on windows that opened in the last day, of one series on average, beside what the "
        "alert rules made of held-out normal windows. A process younger than a day has counted "
        "less than a day; a replay counts several days in one.",
        [(_OPENED_A_DAY, "opened, 1 d"), (_EXPECTED, "expected of normal data")],
        lines=[Line("expected of normal data", "red", dashed=True)],
        width=10,
        height=9,
        runbook="DetectorAlertsAboveExpectation",
    ),
    Stat(
        "Times the alerts expected",
        "Alerts on windows in the last day and series, in those expected of normal data.",
        (f"({_OPENED_A_DAY}) / {_EXPECTED}", "times"),
        steps=_TIMES,
        decimals=1,
        height=9,
        runbook="DetectorAlertsAboveExpectation",
    ),
]

SCORES: list[Panel] = [
    Plot(
        "Score quantiles against the threshold",
        "Scores of all windows: evidence, 1 is one normal window in ten. All lines moving up "
        "together points to the input or to a model that no longer fits.",
        [
            *_quantiles("detector_score", "0.5", "0.99", "0.999"),
            ("max(detector_threshold{%I})", "threshold"),
        ],
        log=True,
        lines=[Line("threshold", "red", dashed=True)],
        width=12,
    ),
    Plot(
        "How far usual windows have drifted",
        "Evidence of a usual window of a series by the calibration of the model, quantiles over "
        "the series, of the worker where it is highest: 0 is the world of the training, 2 a "
        "window that was one in a hundred there.",
        [("max by (percentile) (detector_model_drift_decades{%I})", "p{{percentile}}")],
        limits=(("transparent", None), ("red", 2.5)),
        width=12,
        runbook="DetectorSeriesDrifted",
    ),
    Plot(
        "Series",
        "Series with state, those among them that have no full window yet, and how near the "
        "fullest worker is to limits.max_series.",
        [
            ("sum(detector_active_series{%I})", "active"),
            ("sum(detector_warming_series{%I})", "warming"),
            (
                "max(sum by (instance) (detector_active_series{%I})"
                " / sum by (instance) (detector_max_series{%I}))",
                "of the limit",
            ),
        ],
        lines=[Line("of the limit", unit="percentunit")],
        runbook="DetectorSeriesLimitNear",
    ),
    Plot(
        "Series that are not known well",
        "cannot_alert: younger than threshold.cold_windows. shared_calibration: can alert, judged "
        "by the tail of the model more than by their own, for their first 1 024 windows.",
        [("sum by (reason) (detector_cold_series{%I})", "{{reason}}")],
    ),
    Plot(
        "Drifted series, new normals",
        "Series with an open alert of kind model_drift, and incidents of the last day that lasted "
        "so long that they are learned from.",
        [
            ("sum(detector_drifted_series{%I})", "drifted"),
            _increase("detector_new_normals_total", "new normals, 1 d", "1d"),
        ],
        runbook="DetectorNewNormals",
    ),
]

ALERTS: list[Panel] = [
    Plot(
        "Alert events",
        "Events in each five minutes, by state and severity.",
        [
            (
                "sum by (state, severity) (increase(detector_alerts_total{%I}[5m]))",
                "{{state}} {{severity}}",
            )
        ],
        width=8,
        runbook="DetectorAlertStorm",
    ),
    Plot(
        "Alerts opened by kind",
        "In five minutes. model_drift: a series left the world of the training; new_normal: an "
        "incident that lasts is learned from; silence: a series is not heard; the others are "
        "windows that the model did not expect.",
        [
            (
                'sum by (kind) (increase(detector_alerts_total{state="opened", %I}[5m]))',
                "{{kind}}",
            )
        ],
        width=8,
    ),
    Plot(
        "Open alerts by worker",
        "Alerts open over time.",
        [("sum by (instance) (detector_open_alerts{%I})", "{{instance}}")],
        width=4,
    ),
    Stat(
        "Alerts opened",
        "In the time range shown.",
        ('sum(increase(detector_alerts_total{state="opened", %I}[$__range]))', "opened"),
        decimals=0,
        width=4,
        height=8,
    ),
]

MODEL: list[Panel] = [
    Table(
        "Model and build",
        "What runs where.",
        [
            "sum by (instance, version, kind) (detector_model_info{%I})",
            "sum by (instance, build) "
            '(label_replace(detector_build_info{%I}, "build", "$1", "version", "(.*)"))',
        ],
        names={"version": "model", "kind": "model kind", "build": "detector"},
        width=12,
        height=8,
    ),
]

STATE: list[Panel] = [
    Plot(
        "Transactions",
        "Commits and aborts a second.",
        [_rate("detector_transactions_total", "outcome")],
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
            _increase("detector_replayed_ticks_total", "replayed"),
            _increase("detector_lost_records_total", "lost"),
            _increase("detector_gaps_total", "gaps"),
            _increase("detector_forgotten_series_total", "forgotten"),
            _increase("detector_windows_not_finite_total", "not finite"),
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
    ("Model", MODEL),
    ("State and process", STATE),
]
