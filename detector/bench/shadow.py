"""What a model in the shadow costs beside the one in use, which is the same: CPU a tick of one
pipeline without and with it, in turn on the same ticks, the comparison of both included."""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from detector.bench.load import SERIES
from detector.bench.machine import LENGTH, Results, matrix_product_gflops, model_to_measure
from detector.build import make_pipeline, make_track
from detector.config import Config
from detector.core.names import Names
from detector.core.pipeline import Pipeline
from detector.core.ticks import TickBatch
from detector.model.directory import Artifact
from detector.service.metrics import Metrics
from detector.service.shadow import Shadow

_BATCH = 2_000


def shadow(config: Config, model: Path | None, ticks: int, rounds: int) -> Results:
    """Both see the same batches of 2 000 ticks of 64 series; medians over rounds of so many ticks.
    scoring: the network and views alone, by window."""
    with tempfile.TemporaryDirectory() as directory:
        artifact = model_to_measure(model, Path(directory))
    alone, beside = _Measured(config, artifact, False), _Measured(config, artifact, True)
    batches, matrix = max(1, ticks // rounds // _BATCH), []
    random, at = np.random.default_rng(0), 0
    scorer = artifact.open_scorer(threads=1, engine=config.engine)
    shape = _BATCH, artifact.length, len(artifact.features.names)
    windows = random.normal(1, 0.01, shape).astype(np.float32)
    found: dict[str, list[float]] = {"alone": [], "beside": [], "scoring": []}
    for round_ in range(rounds + 1):
        matrix.append(matrix_product_gflops())
        cost = dict.fromkeys(found, 0.0)
        for _ in range(batches if round_ else 2 * SERIES * LENGTH // _BATCH + 1):
            values = random.normal(1, 0.01, (_BATCH, len(artifact.features.fields)))
            for which in (alone, beside) if at // _BATCH % 2 else (beside, alone):
                name = "alone" if which is alone else "beside"
                cost[name] += which.feed(at, values)
            began_s = time.process_time()
            for first in range(0, _BATCH, scorer.batch):
                scorer.look(windows[first : first + scorer.batch])
            cost["scoring"] += time.process_time() - began_s
            at += _BATCH
        if round_:  # the first fills windows and caches
            for name, seconds in cost.items():
                found[name].append(seconds / batches / _BATCH * 1e6)
    pairs = list(zip(found["alone"], found["beside"], strict=True))
    return {
        "ticks": rounds * batches * _BATCH,
        "rounds": rounds,
        "cpu_us_per_tick_alone": _median(found["alone"]),
        "cpu_us_per_tick_with_shadow": _median(found["beside"]),
        "shadow_us_per_tick": _median([b - a for a, b in pairs]),
        "scoring_us_per_window": _median(found["scoring"]),
        "shadow_to_model_in_use": _median([(b - a) / a for a, b in pairs]),
        "matrix_product_gflops": round(float(np.median(matrix)), 1),
    }


def _median(values: list[float]) -> float:
    return round(float(np.median(values)), 3)


class _Measured:
    """A pipeline that is given batches; with a model in the shadow or without."""

    def __init__(self, config: Config, artifact: Artifact, with_shadow: bool) -> None:
        window = replace(config.window, length_ticks=artifact.length, stride_ticks=1)
        config = replace(config, features="auto", window=window)
        self._pipeline: Pipeline = make_pipeline(config, artifact)
        self._shadow: Shadow | None = None
        if with_shadow:
            metrics = Metrics(
                CollectorRegistry(), alert_kind=self._pipeline.primary.policy.kind, process=False
            )
            self._shadow = Shadow(artifact, make_track(config, artifact), metrics.models)
            self._shadow.attach(self._pipeline)
        self._names = [f"series-{i:02d}" for i in range(SERIES)]

    def feed(self, at: int, values: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> float:
        """CPU seconds of a batch of ticks numbered from at on."""
        number = np.arange(at, at + len(values))
        batch = TickBatch(
            series=Names(self._names, (number % SERIES).astype(np.int32)),
            time_ns=number // SERIES * 10**9,
            values=values,
            partition=np.zeros(len(values), np.int32),
            offset=number,
            index=np.zeros(len(values), np.int32),
            received_ms=number // SERIES * 1000,
        )
        began_s = time.process_time()
        result = self._pipeline.process(batch)
        if self._shadow is not None:
            self._shadow.note(result, self._pipeline.primary, at / SERIES)
        return time.process_time() - began_s
