"""Who judges, and who tells people: the model and the one in its shadow, the page, the bridge."""

from __future__ import annotations

from panels import Line, Panel, Plot, Stat, Table
from queries import increase

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
    Plot(
        "Changes of model and configuration",
        "In an hour. refused: what was to be taken over cannot be used, and the old one goes on.",
        [
            (
                "sum by (outcome) (increase(detector_model_changes_total{%I}[1h]))",
                "{{outcome}}",
            )
        ],
        width=6,
        runbook="DetectorModelRefused",
    ),
    Stat(
        "Model in use for",
        "Since the worker that changed last took its model over.",
        ("time() - max(detector_model_changed_timestamp_seconds{%I})", "age"),
        unit="s",
        width=6,
        height=8,
    ),
    Plot(
        "Does the shadow agree?",
        "Share of the newest windows that both models, or neither, hold to be above their "
        "threshold, and Spearman's rank correlation of their scores. Empty without model.shadow.",
        [
            ("min(detector_shadow_agreement_ratio{%I})", "agreement"),
            ("min(detector_shadow_rank_correlation{%I})", "rank correlation"),
        ],
        width=12,
        runbook="DetectorShadowDisagrees",
    ),
    Plot(
        "Alerts a day: in use and in the shadow",
        "Alerts on windows that each would have opened in the last day.",
        [
            (
                "sum by (track) (increase(detector_shadow_alerts_total{%I}[1d]))",
                "{{track}}",
            )
        ],
        width=12,
        runbook="DetectorShadowDisagrees",
    ),
]

TOLD: list[Panel] = [
    Plot(
        "Bridge: targets that answer",
        "1: the last attempt was answered; 0: it failed and is made again.",
        [("min by (target) (detector_bridge_target_up)", "{{target}}")],
        runbook="DetectorBridgeTargetDown",
    ),
    Plot(
        "Bridge: events that wait",
        "Events of the alert topic that a target has not taken yet.",
        [("sum by (target) (detector_bridge_lag_records)", "{{target}}")],
        runbook="DetectorBridgeTargetDown",
    ),
    Plot(
        "Bridge: delivered, refused, left out",
        "In five minutes. refused: a target said that it never takes it.",
        [
            ("sum(increase(detector_bridge_delivered_total[5m]))", "delivered"),
            ("sum(increase(detector_bridge_refused_total[5m]))", "refused"),
            ("sum by (reason) (increase(detector_bridge_left_out_total[5m]))", "{{reason}}"),
        ],
        lines=[Line("refused", "red")],
        runbook="DetectorBridgeRefused",
    ),
    Plot(
        "Bridge: detection to delivery, p99",
        "From the detection of a change to its delivery, by target.",
        [
            (
                "histogram_quantile(0.99, sum by (target, le) "
                "(rate(detector_bridge_delay_seconds_bucket[%R])))",
                "{{target}}",
            )
        ],
        unit="s",
    ),
    Plot(
        "Mutes",
        "Mutes in force on a worker, and alert events in five minutes that carried muted: true. "
        "Commands that cannot be used are left out, and logged.",
        [
            ("max(detector_mutes_in_force{%I})", "in force"),
            increase("detector_muted_alerts_total", "muted events"),
            increase("detector_commands_refused_total", "refused commands"),
        ],
    ),
    Plot(
        "The page",
        "Those who follow events now; those hung up on because they stopped reading; refusals.",
        [
            ("sum(detector_web_viewers{%I})", "viewers"),
            increase("detector_web_dropped_viewers_total", "hung up on"),
            increase("detector_web_refused_requests_total", "refused"),
        ],
    ),
]
