"""From what a model's graph says of a window to one score. A new score is a file here and a line in
SCORES; a model is calibrated for one and names it."""

from __future__ import annotations

from detector.core.scores.evidence import EvidenceScore
from detector.core.scores.mean import MeanScore
from detector.core.scores.score import LARGEST, Acquaintance, Habits, Score, Scored, Why

#: By the name in a model's manifest.
SCORES: dict[str, type[EvidenceScore] | type[MeanScore]] = {
    "evidence": EvidenceScore,
    "mean": MeanScore,
}

__all__ = [
    "LARGEST",
    "SCORES",
    "Acquaintance",
    "EvidenceScore",
    "Habits",
    "MeanScore",
    "Score",
    "Scored",
    "Why",
]
