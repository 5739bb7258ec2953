"""Pipelines for tests, from one flat set of rules."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.alerts import RECONSTRUCTION
from detector.core.classifying import FaultClassifier
from detector.core.episodes import AlertPolicy
from detector.core.features import FeatureSet
from detector.core.graphs import Engine
from detector.core.pipeline import Pipeline
from detector.core.scorer import Scorer
from detector.core.scores import EvidenceScore, MeanScore
from detector.core.stream import Stream, StreamPolicy
from detector.core.ticks import Float64, TickBatch
from detector.core.track import Track, TrackPolicy


class PlainScorer:
    """What a scorer of a test's own tells of itself."""

    batch, engine = 256, Engine("none")


@dataclass(frozen=True, slots=True)
class Rules:
    """What a stream and its primary track are told."""

    topic: str
    length: int
    stride: int
    max_gap_s: float | None
    max_series: int
    threshold: float
    alerts: AlertPolicy
    model_version: str
    max_future_s: float | None = None
    silence_s: float | None = None
    forget_after_s: float | None = None
    late_is_rejected: bool = False
    kind: str = RECONSTRUCTION
    drift: float | None = None

    def stream(self, features: FeatureSet) -> Stream:
        return Stream(
            StreamPolicy(
                fields=len(features.fields),
                max_series=self.max_series,
                max_gap_s=self.max_gap_s,
                max_future_s=self.max_future_s,
                silence_s=self.silence_s,
                forget_after_s=self.forget_after_s,
            )
        )

    def track(
        self,
        features: FeatureSet,
        scorer: Scorer | EvidenceScore,
        classifier: FaultClassifier | None = None,
    ) -> Track:
        """Of the mean of a scorer's errors, or of evidence."""
        policy = TrackPolicy(
            self.model_version,
            self.length,
            self.stride,
            self.threshold,
            self.alerts,
            self.kind,
            self.drift,
        )
        if isinstance(scorer, EvidenceScore):
            return Track(policy, features, scorer, classifier)
        score = MeanScore(scorer, features=len(features.names))
        return Track(policy, features, score, classifier)


def pipeline_of(
    rules: Rules,
    features: FeatureSet,
    scorer: Scorer | EvidenceScore,
    classifier: FaultClassifier | None = None,
    *,
    beside: Sequence[Track] = (),
) -> Pipeline:
    return Pipeline(
        rules.stream(features),
        rules.track(features, scorer, classifier),
        topic=rules.topic,
        late_is_rejected=rules.late_is_rejected,
        beside=beside,
    )


def one_a_second(values: Float64, *, first: int = 0, series: int = 1) -> TickBatch:
    """Ticks of several series in turn, one a second."""
    n = len(values)
    at = np.arange(first, first + n)
    return TickBatch(
        series=[f"s{i % series}" for i in at],
        time_ns=at * 10**9,
        values=values,
        partition=np.zeros(n, np.int32),
        offset=at,
        index=np.zeros(n, np.int32),
        received_ms=at * 1000,
    )
