"""The moment between two rounds in which a partition's, or everybody's, judge changes.

A candidate is made elsewhere, in a thread (following.py); here it takes the place of the one in
use: what is known of each series goes on as far as it can (core/exchange.py), every series is
written again within the state interval, and until that is done the watermark of each partition
says who judged before, and up to which offset. A partition whose state names another judge is first
brought up to where they changed (succession.py).
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from detector.config import Config, expected_quiet
from detector.core.codec import Codec
from detector.core.exchange import Continuity, exchange, lend_windows
from detector.core.pipeline import BatchResult, Pipeline
from detector.core.records import RecordBlock
from detector.core.rehearsal import Forecast
from detector.core.state import Change
from detector.core.thresholds.deployed import Deployed
from detector.core.track import Track
from detector.model.directory import Artifact
from detector.service.checkpoint import Checkpoints, Restored
from detector.service.commit import Commits
from detector.service.judges import Judges
from detector.service.logs import event
from detector.service.metrics import Metrics
from detector.service.partitions import Partition, Partitions
from detector.service.recovery import Recovered, Recovery
from detector.service.shadow import Shadow


@dataclass(frozen=True, slots=True)
class Candidate:
    """Ready to judge. config: the one it was made by; warm: its track has followed the stream in
    the shadow; applied: called in the loop's thread once it judges."""

    config: Config
    artifact: Artifact
    track: Track
    codec: Codec
    deployed: Deployed
    forecast: Forecast | None
    warm: bool = False
    applied: Callable[[], None] = lambda: None


class Exchange:
    """judges: None where nobody is ever exchanged."""

    def __init__(
        self,
        pipeline: Pipeline,
        partitions: Partitions,
        checkpoints: Checkpoints,
        recovery: Recovery,
        commits: Commits,
        metrics: Metrics,
        judges: Judges | None = None,
    ) -> None:
        self._pipeline, self._partitions = pipeline, partitions
        self._checkpoints, self._recovery = checkpoints, recovery
        self._commits, self.metrics, self._judges = commits, metrics, judges
        self._offered: Candidate | None = None
        self._unsettled = False
        self._shadow: Shadow | None = None
        self._shadow_offered: tuple[Shadow | None] | None = None
        self._lock = threading.Lock()  # of what is offered
        #: Told of a partition whose series came later than its state.
        self.came: Callable[[int], None] = lambda _: None
        if judges is not None:
            checkpoints.judge = judges.current
            recovery.succession = judges.succession

    # -- who judges from now on

    def offer(self, candidate: Candidate) -> None:
        """From any thread: it is taken between two rounds; one that waits still is not any more."""
        with self._lock:
            self._offered = candidate

    def offer_shadow(self, shadow: Shadow | None) -> None:
        """From any thread: from the next round on this one is in the shadow, or none."""
        with self._lock:
            self._shadow_offered = (shadow,)

    @property
    def waiting(self) -> bool:
        return self._offered is not None

    @property
    def series(self) -> int:
        """From any thread: how many there are."""
        return self._pipeline.active_series()

    def compare(self, result: BatchResult, now_s: float) -> None:
        """What the one in use and the one in the shadow said of new ticks."""
        if self._shadow is not None:
            self._shadow.note(result, self._pipeline.primary, now_s)

    def follow_shadow(self) -> None:
        """Between two rounds. One that came after a candidate is for that one."""
        with self._lock:
            offered = self._shadow_offered
            if offered is None or self._offered is not None:
                return
            self._shadow_offered = None
        (shadow,) = offered
        fields = self._pipeline.primary.features.fields
        if shadow is not None and shadow.track.features.fields != fields:
            event(
                "not put in the shadow: it reads other fields than the model in use",
                level=logging.ERROR,
                model=shadow.artifact.version,
            )
            shadow = None
        self._put_in_the_shadow(shadow)

    def _put_in_the_shadow(self, shadow: Shadow | None) -> None:
        self._shadow = shadow
        if shadow is not None:
            shadow.attach(self._pipeline)
            event("in the shadow", model=shadow.artifact.version)
        elif self._pipeline.beside:
            self._pipeline.beside.clear()
            self.metrics.models.no_shadow()
            event("nothing is in the shadow any more")

    def snapshot(self) -> dict[str, Any]:
        """From any thread: who judges since when, and how the one in the shadow gets on."""
        shadow = self._shadow
        judge = None if self._judges is None else self._judges.current
        return {
            "model": self._pipeline.primary.policy.model_version,
            "settings": None if judge is None else judge.settings,
            "judged_from": {p.number: p.judged_from for p in self._partitions},
            "shadow": None if shadow is None else asdict(shadow.standing),
        }

    def step(self) -> Codec | None:
        """Between two rounds: take what was offered, unless ticks that another has judged come
        again, or the last change is not wholly written. Returns how ticks are read from now on;
        None: as before."""
        with self._lock:
            offered = self._offered
            if offered is None or self._busy():
                return None
            self._offered = None
        if offered.warm and (self._shadow is None or self._shadow.track is not offered.track):
            event(
                "refused: it is not in the shadow any more; promote it again",
                level=logging.ERROR,
                model=offered.artifact.version,
            )
            self.metrics.models.changes.labels("refused").inc()
            return None
        return self._take(offered)

    def settle(self) -> None:
        """At once after step: what a model from the shadow remembers is written as a whole, for
        nobody could make it again from what was. Raises TransactionError."""
        if self._unsettled:
            self._unsettled = False
            self._commits.commit(flush=self._partitions.started)

    def _busy(self) -> bool:
        return bool(self._partitions.replaying) or any(p.changes for p in self._partitions)

    def _take(self, new: Candidate) -> Codec:
        assert self._judges is not None
        began_s, before = time.perf_counter(), self._judges.current
        where = {number: self._partitions[number].position for number in self._partitions.started}
        found = self._put(new)
        for number, until in where.items():
            partition = self._partitions[number]
            partition.changes = [Change(until=until, by=before)]
            partition.judged_from = partition.pending = until  # stated even if no tick comes
            self._checkpoints.note_all(number)
        self._commits.begin()
        self._unsettled = new.warm
        seconds = time.perf_counter() - began_s
        self.metrics.models.pause.set(seconds)
        self.metrics.models.changed.set_to_current_time()
        event(
            "model changed",
            model=new.artifact.version,
            before=before.model,
            offsets=where,
            goes_on=found.words() if not new.warm else "warm from the shadow",
            pause_ms=round(seconds * 1000, 1),
        )
        new.applied()
        return new.codec

    def _put(self, new: Candidate) -> Continuity:
        assert self._judges is not None
        self._judges.exchanged(new.config, new.artifact)
        if new.warm:
            self._put_in_the_shadow(None)
        found = exchange(self._pipeline, new.track, warm=new.warm)
        self._pipeline.stream.silence.expect(expected_quiet(new.config))
        shadow = self._shadow
        if shadow is not None and not (
            shadow.track.features.fields == new.track.features.fields
            and shadow.artifact.version != new.artifact.version
        ):
            self._put_in_the_shadow(None)
        metrics = self.metrics
        metrics.model.info(
            {"version": new.artifact.version, "kind": new.artifact.manifest["model"]["kind"]}
        )
        metrics.engine.info({"name": new.track.engine.name, "why": new.track.engine.why})
        metrics.tell_threshold(new.deployed, new.forecast)
        self._checkpoints.exchanged()
        self._checkpoints.judge = self._judges.current
        self._recovery.exchanged(self._checkpoints.codec)
        return found

    # -- partitions that others have judged

    def restore(self, partition: Partition, found: Recovered) -> Restored:
        """Put what is saved of a partition where it belongs."""
        if found.saved is None:
            return Restored(0, 0, 0)
        partition.judged_from = found.judged_from
        if found.succession is None:
            restored = self._checkpoints.restore(partition, found.saved)
            self._lend(partition)
            return restored
        partition.succession = found.succession
        partition.changes = found.succession.changes
        partition.judged_from = partition.changes[-1].until
        return self._follow(partition, found.position) or Restored(0, 0, 0)

    def replay(self, partition: Partition, block: RecordBlock) -> tuple[int, RecordBlock]:
        """Ticks that others have judged: how many, and the rest of the block."""
        succession = partition.succession
        if succession is None:
            return 0, block
        ticks, rest = succession.replay(block)
        if len(rest):
            self.follow(partition, rest.first_offset)
        return ticks, rest

    def follow(self, partition: Partition, position: int) -> None:
        """Nothing before position comes any more."""
        restored = self._follow(partition, position)
        if restored is not None:
            self.metrics.count_restored(restored)
            self.came(partition.number)

    def _follow(self, partition: Partition, position: int) -> Restored | None:
        """What was taken over; None: nothing yet."""
        succession = partition.succession
        if succession is None or not succession.advance(position):
            return None
        partition.succession = None
        saved, event_ns = succession.result()
        self._pipeline.stream.mutes.take(partition.number, succession.mutes)
        restored = self._checkpoints.restore(partition, saved)
        if event_ns is not None:
            self._pipeline.set_event_ns(partition.number, event_ns)
        self._checkpoints.note_all(partition.number)
        if not len(saved):  # nothing that would have to be judged as before
            partition.changes = []
        self._lend(partition)
        event(
            "judged by another so far",
            partition=partition.number,
            offsets={c.by.model: c.until for c in partition.changes},
            series=restored.resumed,
        )
        return restored

    def _lend(self, partition: Partition) -> None:
        lend_windows(self._pipeline, self._pipeline.stream.series.of_partition(partition.number))
