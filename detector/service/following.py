"""Follows the model link and the configuration, in a thread of its own: what is new is loaded,
checked and made ready here, and only then offered to the loop. What is bad is refused, said and
counted, and the old goes on.
"""

from __future__ import annotations

import contextlib
import logging
import os
import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from detector.config import Config, configured_mutes
from detector.core.mutes import Mute
from detector.core.state import Judge
from detector.errors import DetectorError
from detector.model.directory import Artifact, load_artifact
from detector.model.in_use import held
from detector.service import logs
from detector.service.exchange import Exchange
from detector.service.judges import judge_of
from detector.service.logs import event
from detector.service.preparing import prepare
from detector.service.rereading import changed, merged
from detector.service.shadow import Shadow

#: Series whose state is written at once, and holds up scoring for that long (30 µs each), when a
#: model from the shadow keeps what it has learned. With more it begins from its calibration.
_MOST_WARM = 1_500
#: What a directory looks like: where the link leads, and its files with their times and sizes.
Sight = tuple[str, tuple[tuple[str, int, int, int], ...]]


def sight(path: Path) -> Sight | None:
    """None where nothing is to be seen."""
    try:
        place = os.path.realpath(path)
        with os.scandir(place) as entries:
            found = [(entry.name, entry.stat()) for entry in entries]
    except OSError:
        return None
    return place, tuple(sorted((n, s.st_ino, s.st_mtime_ns, s.st_size) for n, s in found))


class Follower:
    """model: the link or directory; artifact: what was loaded from it; reread: the configuration as
    it is by now, raising DetectorError; tell_mutes: hears of those that it names; most_warm: series
    with which a model from the shadow keeps its levels and tails."""

    def __init__(
        self,
        model: Path,
        artifact: Artifact,
        config: Config,
        reread: Callable[[], Config],
        exchange: Exchange,
        tell_mutes: Callable[[Sequence[Mute]], None],
        *,
        interval_s: float = 1.0,
        most_warm: int = _MOST_WARM,
    ) -> None:
        self._model, self._artifact = model, artifact
        self._config, self._reread = config, reread
        self._tell_mutes = tell_mutes
        self._exchange, self._metrics = exchange, exchange.metrics.models
        self._interval_s, self._most_warm = interval_s, most_warm
        self._asked, self._ended = threading.Event(), threading.Event()
        self._wake = threading.Event()
        self._thread = threading.Thread(target=self._run, name="models", daemon=True)
        self._seen = self._before = sight(model)
        self._locks = contextlib.ExitStack()
        self._shadow: Shadow | None = None
        self._shadow_judge: Judge | None = None  # the rules that it was made by

    def start(self) -> None:
        self._locks.enter_context(held(self._model))
        self._thread.start()

    def ask(self) -> None:
        """Look at everything again, now; safe in a signal handler."""
        self._asked.set()
        self._wake.set()

    def close(self) -> None:
        self._ended.set()
        self._wake.set()
        self._thread.join(10.0)
        self._locks.close()

    def _run(self) -> None:
        self._guarded(self._follow_shadow)
        while not self._ended.is_set():
            self._wake.wait(self._interval_s)
            self._wake.clear()
            if not self._ended.is_set():
                self._guarded(self._look)

    def _guarded(self, step: Callable[[], None]) -> None:
        try:
            step()
        except DetectorError as error:
            self._refuse(str(error))
        except Exception as error:  # noqa: BLE001 - a bad model must not end who follows it
            self._refuse(f"{type(error).__name__}: {error}")

    def _refuse(self, why: str) -> None:
        self._metrics.changes.labels("refused").inc()
        event(
            "refused: the old goes on", level=logging.ERROR, why=why, model=self._artifact.version
        )

    # -- what there is by now

    def _look(self) -> None:
        asked = self._asked.is_set()
        self._asked.clear()
        config = self._config
        if asked:
            config = self._read_again()
        now = sight(self._model)
        # While files come and go nothing is read: what is there next time, too, is.
        settled, self._before = now == self._before, now
        if not asked and (now == self._seen or not settled):
            return
        self._seen = now
        mutes = self._config.mutes
        self._take(load_artifact(self._model), config)
        if config.mutes != mutes:
            self._tell_mutes(configured_mutes(config))
        if asked:
            self._follow_shadow()

    def _read_again(self) -> Config:
        new = self._reread()
        taken, left = changed(self._config, new)
        if left:
            event(
                "not changed without a restart: the old goes on",
                level=logging.WARNING,
                options=", ".join(left),
            )
        if "log.level" in taken:
            logs.configure(level=new.log.level, form=self._config.log.format)
        if taken:
            event("configuration read again", options=", ".join(taken))
        return merged(self._config, new)

    def _take(self, artifact: Artifact, config: Config) -> None:
        same = artifact.version == self._artifact.version
        if same and judge_of(config, artifact) == judge_of(self._config, self._artifact):
            self._config = config
            self._metrics.changes.labels("unchanged").inc()
            return
        candidate = prepare(config, artifact)
        shadow = self._shadow
        if shadow is not None and artifact.features.fields != shadow.track.features.fields:
            self._shadow = None  # it cannot read what the new one reads
        elif shadow is not None and judge_of(config, artifact) == self._shadow_judge:
            self._shadow = None
            if self._exchange.series <= self._most_warm:
                candidate = replace(candidate, track=shadow.track, warm=True)
        before, self._artifact, self._config = self._artifact, artifact, config
        self._exchange.offer(replace(candidate, applied=lambda: self._applied(artifact)))
        event("model ready", model=artifact.version, before=before.version, warm=candidate.warm)

    def _applied(self, artifact: Artifact) -> None:
        """In the loop's thread."""
        self._metrics.changes.labels("applied").inc()
        self._locks.close()
        self._locks.enter_context(held(artifact.path))

    def _follow_shadow(self) -> None:
        """Load the model that is to be in the shadow, if it is another than is."""
        path = self._config.model.shadow
        if path is None:
            if self._shadow is not None:
                self._shadow = None
                self._exchange.offer_shadow(None)
            return
        artifact = load_artifact(Path(path))
        if artifact.version == self._artifact.version:
            event("the model in the shadow is the one in use: not scored twice")
            return
        judge = judge_of(self._config, artifact)
        if self._shadow is not None and self._shadow_judge == judge:
            return
        track = prepare(self._config, artifact).track
        if track.features.fields != self._artifact.features.fields:
            raise DetectorError(
                f"{path}: reads the fields {', '.join(track.features.fields)}, the model in use "
                f"{', '.join(self._artifact.features.fields)}: it cannot be its shadow"
            )
        self._shadow, self._shadow_judge = Shadow(artifact, track, self._metrics), judge
        self._exchange.offer_shadow(self._shadow)
