"""The metrics of models that come and go, and of the one in the shadow."""

from __future__ import annotations

import math

from prometheus_client import CollectorRegistry, Counter, Gauge, Info

#: What became of a model or a configuration that was to be taken over.
OUTCOMES = ("applied", "refused", "unchanged")
#: Of which track of the two.
TRACKS = ("primary", "shadow")


class ModelMetrics:
    def __init__(self, registry: CollectorRegistry) -> None:
        self.changes = Counter(
            "detector_model_changes",
            "Models and configurations that were to be taken over, by what became of them",
            ["outcome"],
            registry=registry,
        )
        self.pause = Gauge(
            "detector_model_exchange_pause_seconds",
            "How long the last change of models held up the loop",
            registry=registry,
        )
        self.changed = Gauge(
            "detector_model_changed_timestamp_seconds",
            "When this process took its model over",
            registry=registry,
        )
        self.shadow = Info("detector_shadow", "The model in the shadow, if any", registry=registry)
        self.windows = Counter(
            "detector_shadow_windows",
            "Windows that both models have scored",
            registry=registry,
        )
        self.above = Counter(
            "detector_shadow_above",
            "Of those, the ones above the threshold of each",
            ["track"],
            registry=registry,
        )
        self.opened = Counter(
            "detector_shadow_alerts",
            "Alerts on windows that each would have opened since the shadow began",
            ["track"],
            registry=registry,
        )
        self.agreement = Gauge(
            "detector_shadow_agreement_ratio",
            "Share of the newest windows that both models, or neither, hold to be above their "
            "threshold; NaN: no shadow, or nothing scored yet",
            registry=registry,
        )
        self.correlation = Gauge(
            "detector_shadow_rank_correlation",
            "Spearman's rank correlation of both scores over the newest windows; NaN: not known",
            registry=registry,
        )
        for outcome in OUTCOMES:
            self.changes.labels(outcome)
        for track in TRACKS:
            self.above.labels(track)
            self.opened.labels(track)
        self.no_shadow()

    def no_shadow(self) -> None:
        self.shadow.info({"version": "", "kind": ""})
        self.agreement.set(math.nan)
        self.correlation.set(math.nan)
