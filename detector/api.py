"""The library: the pipeline of the daemon in a process, a notebook or a stream framework of yours.

    d = detector.load("var/model")
    r = d.update(series, time, values)      # arrays or a table, one tick or a million
    r.score, r.outcome, r.alerts            # as the daemon would say
    state = d.save()                        # bytes
    d = detector.resume("var/model", state) # goes on where it stood
    m = detector.train(table)               # as `detector train`

Nothing here reads the environment, a clock (but for `encode`) or a broker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from msgspec.structs import replace
from numpy.typing import NDArray

from detector.build import columns, make_pipeline
from detector.config import Config, parse_config, read_tree
from detector.core.alerts import Alert
from detector.core.cloudevents import encode_alert
from detector.core.moments import TimestampUnit
from detector.core.pipeline import BatchResult, Pipeline, PipelineState
from detector.core.saved import Saved, decode_saved, encode_saved
from detector.core.state import StateCodec
from detector.core.ticks import Bool, Float64, Outcome, TickBatch
from detector.data.chunks import Chunk
from detector.data.given import of_arrays, of_table
from detector.data.sources import DataTable, Source, parse_data_argument
from detector.data.tables import columns_of
from detector.errors import ConfigError, DataError, StateError
from detector.model.directory import Artifact, artifact_of, load_artifact, save_artifact

if TYPE_CHECKING:
    from detector.offline.train import TrainingReport

#: A configuration: the file, a mapping like it, or nothing at all.
Configuration = Config | Mapping[str, Any] | str | Path | None


@dataclass(frozen=True, slots=True)
class Result:
    """What became of n ticks, in the order they were given.

    score: (n,) float64, of the window each tick closes; NaN where it closes none
    outcome: (n,) uint8, an `Outcome` each: SCORED, WARMING, STRIDED, LATE, DUPLICATE, REJECTED
    alerts: in order, whole: what the daemon would publish
    rejected: row of each tick that cannot be used -> why
    threshold: a score above it is anomalous
    """

    score: Float64
    outcome: NDArray[np.uint8]
    alerts: list[Alert]
    rejected: dict[int, str]
    threshold: float

    def __len__(self) -> int:
        return len(self.score)

    @property
    def anomalous(self) -> Bool:
        """(n,) whether the window each tick closes is above the threshold."""
        result: Bool = self.score > self.threshold
        return result

    def counts(self) -> dict[str, int]:
        """How many ticks had each outcome; adds up to n."""
        number = np.bincount(self.outcome, minlength=len(Outcome))
        return {outcome.name.lower(): int(number[outcome]) for outcome in Outcome}


@dataclass(frozen=True, slots=True)
class Restored:
    """Series that were restored: with their windows; without, as another model had saved them;
    and those there was no room for (limits.max_series)."""

    resumed: int
    warming: int
    no_room: int


class Detector:
    """A model over any number of series. One instance, one thread. Made by `load` and `resume`.

    An `update` that ends in its middle (by Ctrl-C, say, or for want of memory) leaves it of no use,
    and it says so with a StateError: go on with `resume` and what was saved last.
    """

    def __init__(self, artifact: Artifact, config: Config) -> None:
        self._artifact, self._config = artifact, config
        self._pipeline: Pipeline = make_pipeline(config, artifact)
        self._next = 0  # the position of the next tick
        self._whole = True  # until something ends an update in its middle

    def __repr__(self) -> str:
        known = len(self._pipeline.stream.series.of_partition(0))
        return (
            f"<Detector: model {self.model_version}, windows of {self.length} ticks of "
            f"{', '.join(self.fields)}, threshold {self.threshold:.4g}, {known} series>"
        )

    @property
    def fields(self) -> tuple[str, ...]:
        """The raw values of a tick, in the order of the columns of `values`."""
        return self._artifact.features.fields

    @property
    def length(self) -> int:
        """Ticks of a window."""
        return self._artifact.length

    @property
    def threshold(self) -> float:
        """A score above it is anomalous."""
        return self._pipeline.primary.policy.threshold

    @property
    def model_version(self) -> str:
        """As alerts name it."""
        return self._artifact.version

    @property
    def series(self) -> list[str]:
        """The names of those that are known, in order."""
        table = self._pipeline.stream.series
        return sorted(table.name(slot) for slot in table.of_partition(0).tolist())

    def update(
        self,
        series: Any,
        time: Any = None,
        values: Any = None,
        *,
        unit: TimestampUnit | None = None,
        position: int | None = None,
    ) -> Result:
        """Process the next ticks: in order of arrival, late ones where they arrive.

        series: a name for all, or (n,) names. time: (n,) numbers in `unit` (default: seconds, or
        the configuration's), datetime64, datetimes or ISO 8601; UTC where no zone is given.
        values: (n, fields) numbers in the order of `fields`, (n,) where there is one field, or a
        mapping or DataFrame of columns by the name of the field. One tick may be given without
        brackets, its values as a mapping or a row of a DataFrame. Or all in one: a table (a mapping
        of columns or of one tick, a pandas DataFrame, whatever speaks Arrow) whose columns are
        called as configured, by default series, timestamp and the fields; without a column of
        series all are one, called "series".

        position: of the first tick in its source; the ids of alerts are made of it, so that ticks
        processed again under the same positions give the same ids. Default: they are counted.

        Raises DataError where shapes differ, a column is missing, a time is none or a name names no
        series; then nothing was processed. A value that is no number rejects its tick, and only
        that.
        """
        self._require_whole()
        if time is None and values is None:
            chunks = of_table(series, columns(self._config), self.fields, unit)
        else:
            unit = unit or self._config.input.timestamp_unit
            chunks = of_arrays(series, time, values, self.fields, unit)
        if position is not None:
            self._next = position
        self._whole = False
        parts = [self._process(chunk) for chunk in chunks]
        self._whole = True
        return self._joined(parts)

    def save(self, series: Iterable[str] | str | None = None) -> bytes:
        """The state of these series, by default of all: windows, open alerts, counters, clocks. A
        name that is not known is left out."""
        self._require_whole()
        table = self._pipeline.stream.series
        wanted = self.series if series is None else _several(series)
        slots = np.array([table.find(0, name) for name in wanted], np.int64)
        state = self._pipeline.snapshot(slots[slots >= 0])
        saved = Saved(self._next, self._pipeline.event_ns(0), state)
        return encode_saved(StateCodec(self._pipeline), saved, model=self.model_version)

    def restore(self, state: bytes) -> Restored:
        """Take over what `save` gave, here or elsewhere, beside what is there; a series that is
        known already stands as saved afterwards. What another model saved keeps its open alerts
        and warms up. Raises StateError where the bytes are damaged or of a newer program."""
        self._require_whole()
        found = decode_saved(StateCodec(self._pipeline), state)
        resumed, no_room = self._restore(found.same)
        warming, no_room_either = self._restore(found.foreign)
        self._next = max(self._next, found.position)
        now_ns, then_ns = self._pipeline.event_ns(0), found.event_ns
        if then_ns is not None and (now_ns is None or then_ns > now_ns):
            self._pipeline.set_event_ns(0, then_ns)
        return Restored(resumed, warming, no_room + no_room_either)

    def forget(self, series: Iterable[str] | str) -> None:
        """These series leave, as if they had never been, and without an alert."""
        self._require_whole()
        self._pipeline.drop((0, name) for name in _several(series))

    def encode(self, alert: Alert) -> bytes:
        """An alert as the daemon publishes it: a CloudEvent in JSON, detected now."""
        return encode_alert(alert, source=self._config.alerts.source, detected_ns=time.time_ns())

    def _restore(self, state: PipelineState) -> tuple[int, int]:
        """How many there was room for, and how many not."""
        self._pipeline.drop(state.series)
        slots = self._pipeline.restore(state, np.zeros(len(state.series), np.int64))
        room = int((slots >= 0).sum())
        return room, len(slots) - room

    def _require_whole(self) -> None:
        if not self._whole:
            raise StateError(
                "an update of this detector ended in its middle; go on with resume and what was "
                "saved last"
            )

    # -- ticks

    def _process(self, chunk: Chunk) -> tuple[BatchResult, int]:
        """And the position of its first tick."""
        n, first = len(chunk), self._next
        self._next += n
        batch = TickBatch(
            series=chunk.series,
            time_ns=chunk.time_ns,
            values=chunk.values,
            partition=np.zeros(n, np.int32),
            offset=first + np.arange(n),
            index=np.zeros(n, np.int32),
            received_ms=np.full(n, -1),
        )
        return self._pipeline.process(batch), first

    def _joined(self, parts: Sequence[tuple[BatchResult, int]]) -> Result:
        rejected, begin = dict[int, str](), 0
        for part, first in parts:
            rejected |= {begin + one.offset - first: one.reason for one in part.rejects}
            begin += len(part.outcome)
        return Result(
            score=np.concatenate([np.empty(0), *(part.score for part, _ in parts)]),
            outcome=np.concatenate([np.empty(0, np.uint8), *(part.outcome for part, _ in parts)]),
            alerts=[alert for part, _ in parts for alert in part.alerts],
            rejected={row: why for row, why in rejected.items() if why != "late"},
            threshold=self.threshold,
        )


class Model:
    """A trained model, in memory until it is saved. Made by `train`."""

    def __init__(
        self, manifest: Mapping[str, Any], files: Mapping[str, bytes], report: TrainingReport
    ) -> None:
        self._manifest, self._files = manifest, files
        #: What training came to.
        self.report = report

    def save(self, path: str | Path) -> str:
        """Write the model directory; one that is there already is replaced in one step. Returns
        the version. Raises ArtifactError."""
        return save_artifact(Path(path), self._manifest, self._files)

    def _artifact(self) -> Artifact:
        return artifact_of(Path("model"), self._manifest, self._files)


def load(model: str | Path | Model, *, config: Configuration = None) -> Detector:
    """A detector that has seen nothing yet. model: a model directory, or what `train` gave; config:
    for thresholds, alerts and limits; the window and the features are the model's. Series are
    forgotten only where `limits.forget_after_s` is given: the daemon can reject a tick of the far
    future by the time its record came, and here one would take all others with it. Raises
    ArtifactError, ConfigError."""
    artifact = model._artifact() if isinstance(model, Model) else load_artifact(Path(model))
    return Detector(artifact, _configuration(config, artifact))


def resume(model: str | Path | Model, state: bytes, *, config: Configuration = None) -> Detector:
    """A detector that goes on where `save` left one, bit for bit. Raises StateError too."""
    found = load(model, config=config)
    found.restore(state)
    return found


def train(
    tables: Any,
    *,
    config: Configuration = None,
    progress: Callable[[int, float, float], None] | None = None,
) -> Model:
    """Train as `detector train` does. tables: one table of ticks (see `Detector.update`) or a list
    of tables and files, each a recording of its own; progress: called after each epoch with its
    number, loss and held-out loss. Raises DataError where the ticks do not suffice."""
    from detector.offline.train import fit_model

    several = tables if isinstance(tables, list | tuple) else [tables]
    if not several:
        raise DataError("no table to train on")
    fitted = fit_model(
        _configuration(config, None),
        [_source(table) for table in several],
        progress=progress or (lambda *_: None),
        read=lambda _: None,
    )
    return Model(fitted.manifest, fitted.files, fitted.report)


def _configuration(config: Configuration, artifact: Artifact | None) -> Config:
    """With the window of the model, and series that stay, where nothing else is asked for."""
    if isinstance(config, Config):
        return config
    if config is not None and not isinstance(config, str | Path | Mapping):
        raise ConfigError(f"a configuration is a file or a mapping, not {type(config).__name__}")
    tree = read_tree(Path(config)) if isinstance(config, str | Path) else dict(config or {})
    found = parse_config(tree)
    window, limits = tree.get("window") or {}, tree.get("limits") or {}
    if "forget_after_s" not in limits:
        found = replace(found, limits=replace(found.limits, forget_after_s=None))
    if artifact is None or "length_ticks" in window or "length" in window:
        return found
    return replace(found, window=replace(found.window, length_ticks=artifact.length))


def _source(table: Any) -> Source:
    if isinstance(table, str | Path):
        return parse_data_argument(str(table))
    return DataTable(columns_of(table))


def _several(series: Iterable[str] | str) -> list[str]:
    return [series] if isinstance(series, str) else list(series)
