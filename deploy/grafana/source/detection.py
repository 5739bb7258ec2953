"""What it finds: the budget, scores and thresholds, drift, alerts."""

from __future__ import annotations

from panels import Line, Panel, Plot, Stat
from queries import (
    ABOVE,
    DEPLOYED,
    EXPECTED,
    OPENED_A_DAY,
    TIMES,
    increase,
    quantiles,
    share,
)

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
            (DEPLOYED, "deployed"),
            (share(*ABOVE, "1h"), "above, 1 h"),
            (share(*ABOVE, "1d"), "above, 1 d"),
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
        [(OPENED_A_DAY, "opened, 1 d"), (EXPECTED, "expected of normal data")],
        lines=[Line("expected of normal data", "red", dashed=True)],
        width=10,
        height=9,
        runbook="DetectorAlertsAboveExpectation",
    ),
    Stat(
        "Times the alerts expected",
        "Alerts on windows in the last day and series, in those expected of normal data.",
        (f"({OPENED_A_DAY}) / {EXPECTED}", "times"),
        steps=TIMES,
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
            *quantiles("detector_score", "0.5", "0.99", "0.999"),
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
            increase("detector_new_normals_total", "new normals, 1 d", "1d"),
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
