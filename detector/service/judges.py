"""Who judges, by name: a model and the options that decide beside it. Those that judged before are
found again when a partition has to be replayed as they judged it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping

import msgspec

from detector.build import make_stream, make_track, tick_format
from detector.config import Config, expected_quiet
from detector.config.maintenance import SilenceConfig
from detector.config.schema import AlertsConfig, ThresholdConfig
from detector.core.codec import Codec
from detector.core.pipeline import Pipeline
from detector.core.state import (
    MUTES_KEY,
    WATERMARK_KEY,
    Change,
    Judge,
    StateCodec,
    Watermark,
    of_partition,
)
from detector.core.track import Track
from detector.errors import DetectorError
from detector.model.directory import Artifact
from detector.service.logs import event
from detector.service.succession import Stage, Succession, split

#: Where alerts go does not decide what is one.
_NOT_DECIDING = ("topic", "source")
#: Models kept in memory beside the one in use.
_MOST_KNOWN = 4

#: A model by its version; None: it is not there any more.
Find = Callable[[str], Artifact | None]


def settings_of(config: Config) -> str:
    """The options that decide, where they are not the defaults, as JSON."""
    found = {}
    for name, section, usual in (
        ("threshold", config.threshold, ThresholdConfig()),
        ("alerts", config.alerts, AlertsConfig()),
        ("silence", config.silence, SilenceConfig()),
    ):
        given, default = msgspec.to_builtins(section), msgspec.to_builtins(usual)
        found[name] = {
            option: value
            for option, value in given.items()
            if value != default[option] and option not in _NOT_DECIDING
        }
    return msgspec.json.encode({k: v for k, v in found.items() if v}, order="sorted").decode()


def judge_of(config: Config, artifact: Artifact) -> Judge:
    return Judge(model=artifact.version, settings=settings_of(config))


class Judges:
    """config: what does not change; find: asked for models that were in use before."""

    def __init__(self, config: Config, artifact: Artifact, find: Find) -> None:
        self._config, self._find = config, find
        self._known = {artifact.version: artifact}
        self.current = judge_of(config, artifact)

    def exchanged(self, config: Config, artifact: Artifact) -> None:
        self._config, self.current = config, judge_of(config, artifact)
        self._known.pop(artifact.version, None)
        self._known[artifact.version] = artifact  # the newest last
        while len(self._known) > _MOST_KNOWN:
            del self._known[next(iter(self._known))]

    def succession(
        self, partition: int, mark: Watermark, table: Mapping[bytes, bytes], where: str
    ) -> Succession | None:
        """What the partition of a state goes through to be judged as by now; None: nothing, or one
        who judged is not to be had. Raises StateError if the state is damaged."""
        last, line = mark.judge(), list(mark.changes)
        if last is None:
            return None  # an earlier program
        if last != self.current:
            line.append(Change(until=mark.committed, by=last))
        if not line:
            return None
        stages = []
        for change in [*line, None]:
            found = self._stage(change)
            if found is None:
                event(
                    "the model that judged a partition is gone: what its series had of it is too",
                    level=logging.WARNING,
                    partition=partition,
                    model=self.current.model if change is None else change.by.model,
                )
                return None
            stages.append(found)
        others = {WATERMARK_KEY, *of_partition(table)}
        series = {key: value for key, value in table.items() if key not in others}
        tables = split(
            series, [s.state.fingerprint for s in stages], [change.until for change in line]
        )
        saved = [
            stage.state.decode(partition, part, where)
            for stage, part in zip(stages, tables, strict=True)
        ]
        pipeline = self._pipeline(stages[0].track)
        if MUTES_KEY in table:
            pipeline.stream.mutes.restore(
                partition,
                table[MUTES_KEY],
                where,
                position=mark.needed_from,
                event_ns=mark.event_ns,
            )
        return Succession(partition, pipeline, stages, saved, mark.event_ns)

    def _stage(self, change: Change | None) -> Stage | None:
        judge = self.current if change is None else change.by
        track = self._track(judge)
        if track is None:
            return None
        return Stage(
            judge,
            track,
            Codec(tick_format(self._config), track.features.fields),
            StateCodec(self._pipeline(track)),
            expected_quiet(with_settings(self._config, judge.settings)),
            None if change is None else change.until,
        )

    def _pipeline(self, track: Track) -> Pipeline:
        config = self._config
        return Pipeline(
            make_stream(config, fields=len(track.features.fields)),
            track,
            topic=config.input.topic,
            late_is_rejected=config.dead_letters.late,
        )

    def _track(self, judge: Judge) -> Track | None:
        artifact = self._known.get(judge.model) or self._find(judge.model)
        if artifact is None or artifact.version != judge.model:
            return None
        try:
            return make_track(with_settings(self._config, judge.settings), artifact)
        except (DetectorError, msgspec.ValidationError, KeyError):
            return None


def with_settings(config: Config, settings: str) -> Config:
    """The configuration under which somebody judged, whatever model it was."""
    given = msgspec.json.decode(settings, type=dict[str, dict[str, object]])
    return msgspec.structs.replace(
        config,
        features="auto",
        window=msgspec.structs.replace(config.window, length_ticks="auto"),
        threshold=msgspec.convert(given.get("threshold", {}), ThresholdConfig),
        alerts=msgspec.convert(given.get("alerts", {}), AlertsConfig),
        silence=msgspec.convert(given.get("silence", {}), SilenceConfig),
    )
