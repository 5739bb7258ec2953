"""Whether an explanation names the guilty features, where labels say which they are.

Hit rate at P % (Su et al., KDD 2019, "Robust Anomaly Detection for Multivariate Time Series ..."):
of the g features that a label names, the share that is among the P % * g features with the largest
contributions. An event is explained by its strangest window.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from detector.config import Config
from detector.core.contributions import contributions
from detector.core.ticks import Float64
from detector.core.windows import Scales, WindowStore
from detector.data.sources import Source
from detector.errors import DataError
from detector.evaluate.recording import read_recordings
from detector.model.directory import Artifact

_LINE = re.compile(r"(\d+)-(\d+):(\d+(?:,\d+)*)$")
PERCENT = (100, 150)


@dataclass(frozen=True, slots=True)
class Guilty:
    """Ticks begin to end, both counted from 0, and the features to blame, counted from 0."""

    begin: int
    end: int
    features: frozenset[int]


def read_guilty(path: Path) -> list[Guilty]:
    """Lines `begin-end:1,5,9`, ticks counted from 0 and features from 1, as the Server Machine
    Dataset has them. Raises DataError."""
    try:
        lines = path.read_text(encoding="utf-8").split()
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise DataError(f"{path}: is no UTF-8 text") from None
    found = []
    for line in lines:
        match = _LINE.match(line)
        if match is None:
            raise DataError(f"{path}: {line!r} is not begin-end:feature,feature")
        begin, end = int(match[1]), int(match[2])
        features = frozenset(int(number) - 1 for number in match[3].split(","))
        if begin > end or min(features) < 0:
            raise DataError(f"{path}: {line!r}: ends before it begins, or counts features from 0")
        found.append(Guilty(begin, end, features))
    if not found:
        raise DataError(f"{path}: names no event")
    return found


def hit_rate(shares: Float64, guilty: frozenset[int], percent: int) -> float:
    """shares: (features,)"""
    first = np.argsort(-shares, kind="stable")[: len(guilty) * percent // 100]
    return len(guilty.intersection(first.tolist())) / len(guilty)


def hit_rates(
    config: Config, artifact: Artifact, file: Source, guilty: Sequence[Guilty]
) -> dict[str, dict[int, float]]:
    """Mean hit rates over the events, by percent: of the detector's explanation, and of the
    network's error alone. Raises DataError where the file is not one series, or an event has no
    scored window."""
    found = read_recordings(config, artifact.features, file)
    width = len(artifact.features.names)
    if len(found) != 1:
        raise DataError(f"{file.name}: guilty features are told of one series alone")
    if max(max(one.features) for one in guilty) >= width:
        raise DataError(f"{file.name}: labels name more features than its {width}")
    ((name, recording),) = found.items()
    score, own = artifact.open_score(threads=1), artifact.scales
    strangest: dict[int, _Explained] = {}
    for place, rows in recording.runs:
        store = WindowStore(length=artifact.length, features=width, stride=1, needs_previous=False)
        first = np.arange(len(rows)) == 0
        scales = None if own is None else Scales(own, np.full(len(rows), own.row(name)))
        windows = store.push(np.zeros(len(rows), np.int64), first, rows, scales)
        slot = np.zeros(len(windows), np.int64)
        scored, at = score.of(slot, windows), place[windows.tick]
        for number, one in enumerate(guilty):
            inside = np.flatnonzero((at >= one.begin) & (at <= one.end))
            if len(inside) == 0:
                continue
            best = inside[[int(scored.score[inside].argmax())]]
            value = float(scored.score[best[0]])
            if number not in strangest or value > strangest[number].score:
                (why,) = score.explain(scored, best, windows.cut(best))
                plain = contributions(scored.errors[best])[0]
                strangest[number] = _Explained(value, why.shares, plain)
    if len(strangest) < len(guilty):
        raise DataError(f"{file.name}: {len(guilty) - len(strangest)} events have no scored window")
    pairs = [(strangest[number], one.features) for number, one in enumerate(guilty)]
    return {
        "detector": {
            p: float(np.mean([hit_rate(why.shares, features, p) for why, features in pairs]))
            for p in PERCENT
        },
        "network error": {
            p: float(np.mean([hit_rate(why.errors, features, p) for why, features in pairs]))
            for p in PERCENT
        },
    }


@dataclass(frozen=True, slots=True)
class _Explained:
    """A window: its score, and the shares of the features in it and in the network's error."""

    score: float
    shares: Float64
    errors: Float64
