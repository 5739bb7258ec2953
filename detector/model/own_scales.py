"""A centre and a scale of each feature in each series of the training data, and their file in the
model directory: own_scales.npz."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterable, Sequence

import numpy as np

from detector.core.own_scales import OwnScales
from detector.core.runs import spread_evenly
from detector.core.ticks import Float32, Float64
from detector.model.scaling import center_and_scale

FILE = "own_scales.npz"
#: A series with fewer ticks is seen as it is: its quantiles would say little.
FEWEST_TICKS = 200
#: Beyond so many scales the default scaling (model.squash) counts a value logarithmically.
UNLIKE = 4.0
#: The most ticks of a series that its quantiles are taken from.
_MOST_TICKS = 100_000
#: A series is stretched so many times at most, and as many times less: what hardly moves at all
#: (the last digits of a computation) is not blown up to what moves.
_MOST_STRETCHED = 1000.0


def fit_own_scales(
    series: Iterable[tuple[str, Sequence[Float32]]], *, if_unlike: bool = False
) -> OwnScales | None:
    """series: names, each once, and rows (m, features) of each, in parts. The common centre and
    scale of a feature are the medians over the series. A feature that stands still in a series is
    moved to the common centre, and not stretched. None where fewer than two series have
    FEWEST_TICKS; if_unlike: also where no feature's scales are UNLIKE times as large in one series
    as in another, nor its centres so many common scales apart."""
    names: list[str] = []
    centers: list[Float64] = []
    scales: list[Float64] = []
    for name, parts in series:
        rows = np.concatenate(parts)
        rows = rows[~np.isnan(rows).any(axis=1)]
        if len(rows) < FEWEST_TICKS:
            continue
        some = rows[spread_evenly(len(rows), _MOST_TICKS)].astype(np.float64)
        center, scale, constant = center_and_scale(some)
        names.append(name)
        centers.append(center)
        scales.append(np.where(constant, np.nan, scale))
    if len(names) < 2:
        return None
    center, scale = np.array(centers), np.array(scales)
    moves = ~np.isnan(scale)
    common = np.array([np.median(own) if len(own) else 1.0 for own in _moving(scale)])
    factor = np.where(moves, common / np.where(moves, scale, 1.0), 1.0)
    apart = np.ptp(center, axis=0) / common
    if if_unlike and max(np.max(factor.max(0) / factor.min(0)), apart.max()) < UNLIKE:
        return None
    factor = np.clip(factor, 1 / _MOST_STRETCHED, _MOST_STRETCHED)
    whole = (center, factor, np.median(center, axis=0))
    return OwnScales(names, *(one.astype(np.float32) for one in whole))


def _moving(scale: Float64) -> list[Float64]:
    """Of each feature the scales in the series where it moves."""
    return [column[~np.isnan(column)] for column in scale.T]


def to_bytes(scales: OwnScales) -> bytes:
    file = io.BytesIO()
    names = json.dumps(scales.names, ensure_ascii=False).encode()
    np.savez_compressed(
        file,
        names=np.frombuffer(names, np.uint8),
        center=scales.center[:-1],
        factor=scales.factor[:-1],
        common=scales.common[0],
    )
    return file.getvalue()


def from_bytes(content: bytes, *, features: int) -> OwnScales:
    """Raises ValueError, KeyError and OSError where it is damaged."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            names = json.loads(file["names"].tobytes())
            several = [file[key].astype(np.float32) for key in ("center", "factor", "common")]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{FILE}: {error}") from None
    if several[2].shape != (features,) or not all(isinstance(name, str) for name in names):
        raise ValueError(f"{FILE}: not names, and {features} features of each")
    return OwnScales(names, *several)
