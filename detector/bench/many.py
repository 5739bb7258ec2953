"""Many series on one worker: what a tick costs beside the network where every tick is of another
series, and where ticks come in runs; the memory of a series, and the time to restore them all."""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from msgspec.structs import replace as replaced

from detector.bench.footprint import resident_bytes
from detector.bench.machine import Results, model_to_measure
from detector.build import make_pipeline
from detector.config import Config
from detector.core import levels, tails
from detector.core.graphs import Engine
from detector.core.levels import Levels
from detector.core.names import Names
from detector.core.pipeline import Pipeline
from detector.core.scorer import Found
from detector.core.scores import EvidenceScore
from detector.core.tails import Tails
from detector.core.ticks import Float32, Int64, TickBatch
from detector.core.track import Track
from detector.errors import UsageError
from detector.model.directory import Artifact

_BATCH = 2000  # ticks, of the rates
_RUN = 32  # ticks of a series, where they come in runs
_WAVE = 2000  # series whose windows are filled together


def series(config: Config, model: Path | None, ticks: int) -> Results:
    """CPU a tick in the pipeline beside the network with 64 and with a million series, memory and
    restore of the million, and what a window takes in the configured engine. Rounds of each kind
    in turn, medians. The rates of one kind of ticks beside another are without and with the
    windows' own time."""
    with tempfile.TemporaryDirectory() as directory:
        artifact = model_to_measure(model, Path(directory))
    if artifact.score != "evidence":
        raise UsageError("bench series needs a model whose score is evidence")
    scoring_us = _scoring_us(config, artifact)
    results: Results = {"scoring_us_per_window": round(scoring_us, 3)}
    for count in (64, 1_000_000):
        of = _of(config, artifact, count, ticks, scoring_us)
        results |= {f"{name}_{count}": round(value, 3) for name, value in of}
    return results


def _scoring_us(config: Config, artifact: Artifact) -> float:
    """CPU of a window among many, on one thread."""
    scorer = artifact.open_scorer(threads=1, engine=config.engine)
    shape = _BATCH, artifact.length, len(artifact.features.names)
    windows = np.random.default_rng(0).normal(1, 0.01, shape).astype(np.float32)
    seconds = []
    for _ in range(7):
        started = time.process_time()
        for first in range(0, _BATCH, scorer.batch):
            scorer.look(windows[first : first + scorer.batch])
        seconds.append(time.process_time() - started)
    return float(np.median(seconds)) / _BATCH * 1e6


def _of(
    config: Config, artifact: Artifact, count: int, ticks: int, scoring_us: float
) -> list[tuple[str, float]]:
    feeder = _Feeder(_pipeline(config, artifact, count), len(artifact.features.fields), count)
    feeder.feed(np.zeros(1, np.int64), np.zeros(1, np.int64))
    base = resident_bytes()
    filled_s = 0.0
    for first in range(0, count, _WAVE):
        slots = np.arange(first, min(first + _WAVE, count))
        when = np.tile(np.arange(artifact.length) + 1, len(slots))
        filled_s += feeder.feed(np.repeat(slots, artifact.length), when)
    found = [
        ("fill_us_per_tick", filled_s / count / artifact.length * 1e6),
        ("bytes_per_series", (resident_bytes() - base) / count),
    ]
    random, rounds = np.random.default_rng(1), max(5, ticks // _BATCH // 3)
    seconds: dict[str, list[float]] = {"runs": [], "in_turn": [], "at_random": []}
    for i in range(rounds):
        some = random.choice(count, -(-_BATCH // _RUN), replace=False)
        after = feeder.newest + 1
        in_runs = np.tile(np.arange(_RUN), len(some))[:_BATCH] + after
        seconds["runs"].append(feeder.feed(np.repeat(some, _RUN)[:_BATCH], in_runs))
        for kind in ("in_turn", "at_random"):
            own = (np.arange(_BATCH) + i * _BATCH) % count
            if kind == "at_random" and count >= _BATCH:
                own = random.choice(count, _BATCH, replace=False)
            at = np.arange(_BATCH) // count + feeder.newest + 1
            seconds[kind].append(feeder.feed(own, at))
    cost = {kind: float(np.median(s)) / _BATCH * 1e6 for kind, s in seconds.items()}
    found += [(f"us_per_tick_{kind}", one) for kind, one in cost.items()]
    for kind in ("in_turn", "at_random"):
        found += [
            (f"rate_{kind}_to_runs", cost["runs"] / cost[kind]),
            (
                f"rate_{kind}_to_runs_scored",
                (cost["runs"] + scoring_us) / (cost[kind] + scoring_us),
            ),
        ]
    found += [("restore_s", _restore_s(feeder.pipeline, _pipeline(config, artifact, count)))]
    return found


def _restore_s(pipeline: Pipeline, other: Pipeline) -> float:
    """From one pipeline to another, ten thousand series at a time."""
    slots = pipeline.stream.series.used()
    seconds = 0.0
    for first in range(0, len(slots), 10_000):
        saved = pipeline.snapshot(slots[first : first + 10_000])
        started = time.process_time()
        other.restore(saved, np.zeros(len(saved.series), np.int64))
        seconds += time.process_time() - started
    return seconds


class _Feeder:
    """Feeds ticks of numbered series."""

    def __init__(self, pipeline: Pipeline, fields: int, count: int) -> None:
        self.pipeline, self._fields = pipeline, fields
        self._names = [f"series-{i:08d}" for i in range(count)]
        self._random, self._offset, self.newest = np.random.default_rng(0), 0, 0

    def feed(self, which: Int64, when_s: Int64) -> float:
        """Ticks of these series at these times; the CPU that they took, seconds."""
        n = len(which)
        used, code = np.unique(which, return_inverse=True)
        batch = TickBatch(
            series=Names([self._names[i] for i in used.tolist()], code.astype(np.int32)),
            time_ns=when_s * 10**9,
            values=self._random.normal(1, 0.01, (n, self._fields)),
            partition=np.zeros(n, np.int32),
            offset=np.arange(self._offset, self._offset + n),
            index=np.zeros(n, np.int32),
            received_ms=when_s * 1000,
        )
        self._offset, self.newest = self._offset + n, max(self.newest, int(when_s.max()))
        started = time.process_time()
        self.pipeline.process(batch)
        return time.process_time() - started


class _Nothing:
    """A model that costs nothing: what is left is the pipeline's own."""

    batch, engine = 256, Engine("none")

    def __init__(self, features: int, views: int) -> None:
        self._features, self._views = features, views

    def look(self, windows: Float32) -> Found:
        shape = len(windows), self._features
        views = np.zeros((len(windows), self._views), np.float32)
        views += windows[:, -1, :1] - 1
        return Found(np.zeros(shape, np.float32), views)

    def errors(self, windows: Float32) -> Float32:
        return self.look(windows).errors

    def reconstruct(self, windows: Float32) -> Float32:
        return windows

    def shares(self, windows: Float32, view: str) -> Float32:
        return np.abs(windows[:, -1])

    def nearest(self, windows: Float32, view: str) -> Float32 | None:
        return None


def _pipeline(config: Config, artifact: Artifact, count: int) -> Pipeline:
    limits = replaced(config.limits, max_series=count)
    window = replaced(config.window, length_ticks=artifact.length)
    config = replaced(config, features="auto", limits=limits, window=window)
    pipeline, calibrated = make_pipeline(config, artifact), artifact.calibrated()
    features, length = len(artifact.features.names), artifact.length
    score = EvidenceScore(
        _Nothing(features, len(calibrated.views)),
        calibrated,
        features=features,
        levels=Levels(calibrated.levels, calibrated.spreads, levels.pace(length=length, stride=1)),
        tails=Tails(tails.pace(length=length, stride=1)),
        adaptive=config.threshold.adaptive,
        cold_windows=config.threshold.cold_windows,
    )
    policy = replace(pipeline.primary.policy, stride=1)
    track = Track(policy, artifact.features, score)
    return Pipeline(pipeline.stream, track, topic=pipeline.topic)
