"""Views fitted to normal windows, and evidence calibrated on windows they were not fitted to.

The history is cut into folds of time. For each fold the views are fitted to the others, windows
that share a tick with the fold left out, and look at the fold: so a memory never finds the window
itself, and every hour of the history says what is normal. The network is trained once: what its
errors are on new windows only the held-out part says. In the end the views are fitted to
everything.
"""

from __future__ import annotations

import io
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detector.core.levels import Levels, pace
from detector.core.rehearsal import Rehearsal
from detector.core.runs import History, spread_evenly
from detector.core.scaling import Scaling
from detector.core.scorer import GraphScorer
from detector.core.scores.evidence import Calibrated, distance
from detector.core.survival import Survival
from detector.core.thresholds.calibration import Tail
from detector.core.ticks import Bool, Float32, Float64, Int64
from detector.engines import open_graph
from detector.errors import DataError
from detector.model import rehearsal_file
from detector.model.calibration import fit_tail, in_evidence
from detector.model.export import scorer_graph
from detector.model.family import Architecture
from detector.model.views import fit_views
from detector.model.views.errors import LastError, WindowError
from detector.model.views.view import Normal, View
from detector.model.weights import NetworkWeights

_FOLDS = 4
#: Windows views are fitted to, and the numbers they may hold in all.
_FITTED = 4096
_MOST_NUMBERS = 100_000_000
#: Windows each view is calibrated on.
_CALIBRATED = 20_000
#: Of the tail of the distances: a history that hardly moved says little about how far a normal one
#: would.
_LEAST_SCALE = 0.15
#: What the errors of the network are calibrated on is at least so much held-out data, else all.
_FEWEST_HELD_OUT = 20
#: Windows that the alert rules are tried on: they go with the model.
_REHEARSED = 50_000


@dataclass(frozen=True, slots=True)
class Network:
    """A trained network and what its errors are divided by, (targets, features)."""

    architecture: Architecture
    weights: NetworkWeights
    scaling: Scaling
    error_scale: Float64

    def graph(self, views: Sequence[View] = ()) -> bytes:
        return scorer_graph(self.architecture, self.weights, self.scaling, self.error_scale, views)


@dataclass(frozen=True, slots=True)
class Evidence:
    """graph: with all views; scores: (n,) evidence of held-out windows, ascending; tail: of these
    scores; rehearsal: the first of each series in order."""

    graph: bytes
    calibrated: Calibrated
    scores: Float32
    tail: Tail
    rehearsal: Rehearsal

    def files(self) -> dict[str, bytes]:
        """Its part of a model directory."""
        scores = io.BytesIO()
        np.save(scores, self.scores, allow_pickle=False)
        return {
            "scorer.onnx": self.graph,
            "evidence.json": json.dumps(self.calibrated.to_json()).encode(),
            "calibration.npy": scores.getvalue(),
            "rehearsal.npz": rehearsal_file.to_bytes(self.rehearsal),
        }

    def section(self) -> dict[str, Any]:
        """Its part of the manifest's calibration."""
        return {
            "windows": len(self.scores),
            "score": "evidence",
            "views": list(self.calibrated.views),
            "tail": self.tail.to_json(),
            "score_mean": float(self.scores.mean()),
            "score_max": float(self.scores[-1]),
        }


def calibrate(
    network: Network, history: History, series: tuple[str, ...], *, most: int
) -> Evidence:
    """series: their names; most: held-out windows that calibrate the score. Raises DataError where
    the network knows no bounds."""
    folds = np.minimum((history.time * _FOLDS).astype(np.int64), _FOLDS - 1)
    fitted = history.part(spread_evenly(len(history.windows), _most_fitted(history)))
    normal = _normal(network, fitted)
    scored = spread_evenly(len(history.windows), _CALIBRATED)
    held = _in_a_row(np.flatnonzero(history.held_out), history, most)
    asked = np.union1d(scored, held)
    names, numbers = _looked_at(network, history.part(asked), folds[asked], fitted, normal)
    if not np.isfinite(numbers).all():
        raise DataError(
            "the error of a normal window is not finite; lower training.learning_rate or use "
            "model.activation: tanh"
        )
    of_scored = np.isin(asked, scored)
    new_to_network = of_scored & history.held_out[asked]
    if new_to_network.sum() < _FEWEST_HELD_OUT:
        new_to_network = of_scored
    survivals = []
    for i, name in enumerate(names):
        of_network = name in (WindowError.NAME, LastError.NAME)
        which = new_to_network if of_network else of_scored
        survivals.append(Survival.of(numbers[which, i].astype(np.float64)))
    nothing = Survival(np.zeros(1), np.zeros(1), 0.0, 0.0, 1.0)
    zeros = np.zeros(len(names))
    draft = Calibrated(names, tuple(survivals), zeros, zeros, nothing)
    seen = np.log1p(draft.evidence(numbers))
    levels = seen[of_scored].mean(axis=0)
    spreads = np.abs(seen[of_scored] - levels).mean(axis=0)
    of_held = np.isin(asked, held)
    part = history.part(asked[of_held])
    above = Levels(levels, spreads, pace(length=part.windows.length, stride=1))
    distances = distance(above.excess(part.series, seen[of_held])[0])
    tail = fit_tail(distances.astype(np.float32), part.windows.start, length=part.windows.length)
    tail = replace(tail, scale=max(tail.scale, _LEAST_SCALE))
    calibrated = Calibrated(names, draft.survivals, levels, spreads, Survival.of(distances, tail))
    scores = calibrated.total.evidence(distances)
    return Evidence(
        network.graph(fit_views(normal)),
        calibrated,
        np.sort(scores).astype(np.float32),
        in_evidence(tail),
        _rehearsal(series, part, scores),
    )


def _rehearsal(names: tuple[str, ...], held: History, scores: Float64) -> Rehearsal:
    first = _in_a_row(np.arange(len(scores)), held, _REHEARSED)
    return Rehearsal(names, held.series[first], held.end_ns[first], scores[first])


def _most_fitted(history: History) -> int:
    width = history.windows.length * history.windows.rows.shape[1]
    return int(max(256, min(_FITTED, _MOST_NUMBERS // width)))


def _in_a_row(held: Int64, history: History, most: int) -> Int64:
    """At most about `most` of the held-out windows: whole stretches, for levels follow the windows
    one by one. Where there are too many, the first ones of each series."""
    if len(held) <= most:
        return held
    series = history.series[held]
    begins = np.flatnonzero(np.concatenate([[True], series[1:] != series[:-1]]))
    sizes = np.diff(np.append(begins, len(held)))
    rank = np.arange(len(held)) - np.repeat(begins, sizes)
    each = np.repeat(np.ceil(sizes * (most / len(held))), sizes)
    chosen: Int64 = held[rank < each]
    return chosen


def _normal(network: Network, part: History) -> Normal:
    """The windows of a part, scaled, with the network's errors on their last ticks."""
    windows = part.windows.cut(slice(None))
    return Normal(network.scaling.apply(windows), _last_errors(network, windows))


def _last_errors(network: Network, windows: Float32) -> Float32 | None:
    if network.architecture.last_ticks is None:
        return None
    graph = open_graph(network.graph(), threads=os.cpu_count() or 1)
    parts = [
        graph.run(["last_errors"], {"windows": windows[start : start + graph.batch]})[0]
        for start in range(0, len(windows), graph.batch)
    ]
    return np.concatenate(parts)


def _looked_at(
    network: Network, asked: History, fold: Int64, fitted: History, normal: Normal
) -> tuple[tuple[str, ...], Float32]:
    """What the views say of the asked windows, each fitted without the fold it is in. Names, and
    (w, views)."""
    result: Float32 | None = None
    names: tuple[str, ...] = ()
    for one in range(_FOLDS):
        inside = np.flatnonzero(fold == one)
        if len(inside) == 0:
            continue
        begins, ends = one / _FOLDS, (one + 1) / _FOLDS
        others = np.flatnonzero((fitted.time < begins) | (fitted.time >= ends))
        others = others[_apart(fitted.part(others), asked.part(inside))]
        if len(others) < 2:  # hardly any history: better itself than nothing
            others = np.arange(len(fitted.windows))
        views = fit_views(normal.part(others))
        names = tuple(view.NAME for view in views)
        graph = open_graph(network.graph(views), threads=os.cpu_count() or 1)
        scorer = GraphScorer(graph, network.scaling)
        windows = asked.part(inside).windows
        if result is None:
            result = np.empty((len(asked.windows), len(views)), np.float32)
        for start in range(0, len(windows), scorer.batch):
            part = slice(start, start + scorer.batch)
            result[inside[part]] = scorer.look(windows.cut(part)).views
    assert result is not None
    return names, result


def _apart(others: History, fold: History) -> Bool:
    """Which of the others share no tick with any window of the fold."""
    length = fold.windows.length
    starts = np.sort(fold.windows.start)
    at = np.searchsorted(starts, others.windows.start)
    before = starts[np.maximum(at - 1, 0)]
    after = starts[np.minimum(at, len(starts) - 1)]
    mine = others.windows.start
    near = (np.abs(mine - before) < length) | (np.abs(mine - after) < length)
    apart: Bool = ~near
    return apart
