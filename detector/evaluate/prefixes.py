"""One row of a manifest: train on the beginning of its series, judge the whole of it."""

from __future__ import annotations

import dataclasses
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from msgspec.structs import replace

from detector.build import columns
from detector.config import Config
from detector.data.chunks import read_chunks
from detector.data.sources import DataFile
from detector.errors import DataError, DetectorError
from detector.evaluate.drift import Drift
from detector.evaluate.evaluating import (
    Outcome,
    evaluate_source,
    skipped,
)
from detector.evaluate.manifest import Row
from detector.evaluate.recording import require_labels
from detector.evaluate.results import Judged, Skipped
from detector.model import alone
from detector.model.directory import load_artifact
from detector.offline.train import train_model


def evaluate_row(config: Config, row: Row, *, drifts: Sequence[Drift] = ()) -> Outcome:
    """drifts: to be injected after the prefix. Never raises for what is wrong with the data: it is
    a reason to skip the series."""
    if row.wrong:
        return Skipped(row.name, row.wrong)
    alone.declare()
    try:
        return _evaluate(replace(config, features="auto"), row, drifts)
    except DetectorError as error:
        return Skipped(row.name, skipped(str(row.path), error).reason)


def _evaluate(config: Config, row: Row, drifts: Sequence[Drift]) -> Outcome:
    started_s = time.perf_counter()
    file = DataFile(row.path, row.name)
    _require_what_the_manifest_says(config, row, file)
    prefix = dataclasses.replace(file, limit=row.prefix)
    with tempfile.TemporaryDirectory(prefix="detector-evaluate-") as directory:
        path = Path(directory) / "model"
        train_model(config, [prefix], path, progress=lambda *_: None, read=lambda _: None)
        artifact = load_artifact(path)
        found = evaluate_source(
            config,
            artifact,
            file,
            None,
            prefix=row.prefix,
            width=row.vus_width,
            drifts=drifts,
        )
    if len(found) != 1:
        raise DataError(f"holds {len(found)} series: a row of a manifest is one")
    one = found[0]
    if isinstance(one, Skipped):
        return Skipped(row.name, one.reason)
    result = dataclasses.replace(
        one.result,
        name=row.name,
        dataset=row.dataset or None,
        published=row.published,
        seconds=round(time.perf_counter() - started_s, 2),
    )
    return Judged(result, one.sketch)


def _require_what_the_manifest_says(config: Config, row: Row, file: DataFile) -> None:
    """Raises DataError, before the series costs a training."""
    require_labels(config, file)
    chunks = read_chunks(file, columns(config), ())
    labels = np.concatenate([chunk.label > 0 for chunk in chunks if chunk.label is not None])
    if row.ticks not in (None, len(labels)):
        raise DataError(
            f"holds {len(labels)} ticks, {row.ticks} by the manifest: labels and ticks do not align"
        )
    count = int(labels.sum())
    if row.anomalous not in (None, count):
        raise DataError(
            f"{count} ticks are labelled, {row.anomalous} by the manifest: labels and ticks do not "
            "align"
        )
    if not count:
        raise DataError("no tick is labelled as anomalous: there is nothing to be found")
    if count == len(labels):
        raise DataError(
            "every tick is labelled as anomalous: there is nothing normal to tell them from"
        )
    if not 0 < row.prefix < len(labels):
        raise DataError(f"a prefix of {row.prefix} ticks leaves nothing of {len(labels)} to judge")
