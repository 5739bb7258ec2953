"""Data files to vectors, through a model's encoder: one for each window, or one for each
uninterrupted sequence."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from detector.build import columns, make_pipeline
from detector.config import Config
from detector.core.encoding import Encoder
from detector.data.chunks import read_chunks, to_batch
from detector.data.encodings import Encodings
from detector.data.sources import Source
from detector.errors import DataError
from detector.model.directory import Artifact, require_fit
from detector.offline.recordings import read_runs

Read = Callable[[int], None]  # called with the number of ticks just read


def encode_files(
    config: Config,
    artifact: Artifact,
    files: Sequence[Source],
    *,
    sequences: bool,
    read: Read,
) -> Encodings:
    """Every window of the files (config's stride), or every uninterrupted sequence of a series.
    Raises ArtifactError if the model has no encoder or does not fit, DataError if there is
    nothing to encode."""
    require_fit(artifact, config.features, config.window.length_ticks)
    encoder = artifact.open_encoder(threads=config.limits.threads)
    gather = _sequences if sequences else _windows
    parts = list(gather(config, artifact, encoder, files, read))
    if not sum(len(part.vectors) for part in parts):
        what = "no tick" if sequences else f"no full window of {artifact.length} ticks"
        raise DataError(f"the data holds {what} to encode (files, --since, --until, --limit)")
    labelled = all(part.label is not None for part in parts)
    return Encodings(
        vectors=np.concatenate([p.vectors for p in parts]),
        series=tuple(name for p in parts for name in p.series),
        time_ns=np.concatenate([p.time_ns for p in parts]),
        ticks=np.concatenate([p.ticks for p in parts]),
        label=np.concatenate([p.label for p in parts if p.label is not None]) if labelled else None,
        score=None
        if sequences
        else np.concatenate([p.score for p in parts if p.score is not None]),
        anomalous=None
        if sequences
        else np.concatenate([p.anomalous for p in parts if p.anomalous is not None]),
    )


def _windows(
    config: Config,
    artifact: Artifact,
    encoder: Encoder,
    files: Sequence[Source],
    read: Read,
) -> Iterator[Encodings]:
    pipeline = make_pipeline(config, artifact)
    threshold = pipeline.primary.policy.threshold
    for file in files:
        pipeline.forget_all()  # each is a recording of its own
        for chunk in read_chunks(file, columns(config), artifact.features.fields):
            result = pipeline.process(to_batch(chunk))
            read(len(chunk))
            for part in result.windows:
                in_time = np.argsort(part.row)
                rows = part.row[in_time]
                step = 4096  # windows are cut a few at a time: memory stays bounded
                vectors = [
                    encoder.encode_windows(part.windows.cut(in_time[start : start + step]))
                    for start in range(0, len(rows), step)
                ]
                yield Encodings(
                    vectors=np.concatenate(vectors),
                    series=tuple(chunk.series[row] for row in rows.tolist()),
                    time_ns=chunk.time_ns[rows],
                    ticks=np.full(len(rows), artifact.length),
                    label=None if chunk.label is None else chunk.label[rows],
                    score=result.score[rows],
                    anomalous=result.score[rows] > threshold,
                )


def _sequences(
    config: Config,
    artifact: Artifact,
    encoder: Encoder,
    files: Sequence[Source],
    read: Read,
) -> Iterator[Encodings]:
    runs = [run for file in files for run in read_runs(artifact, config, file, read)]
    runs = [run for run in runs if len(run.rows)]
    if not runs:
        return
    labels = [np.fmax.reduce(run.label) for run in runs if run.label is not None]
    yield Encodings(
        vectors=encoder.encode_sequences([run.rows for run in runs]),
        series=tuple(run.series for run in runs),
        time_ns=np.array([run.time_ns[-1] for run in runs], np.int64),
        ticks=np.array([len(run.rows) for run in runs], np.int64),
        label=np.array(labels) if len(labels) == len(runs) else None,
        score=None,
        anomalous=None,
    )
