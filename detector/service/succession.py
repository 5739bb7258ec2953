"""A partition whose saved state was judged by another model (or by other rules) than the process
judges by now: it is brought up to where they changed by those who judged, and goes on from there.

It has a pipeline of its own for so long, which takes each change at the offset at which it was
taken; then all that is known of its series moves over. So a replay makes the same of every tick as
the first time, whoever judges by now.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detector.core.codec import Codec
from detector.core.exchange import exchange
from detector.core.mutes import Mutes
from detector.core.pipeline import Pipeline, PipelineState
from detector.core.quiet import Expected
from detector.core.records import RecordBlock
from detector.core.state import Change, Judge, SavedPartition, StateCodec, origin
from detector.core.ticks import Int64
from detector.core.track import Track


@dataclass(frozen=True, slots=True)
class Stage:
    """Ticks below until are judged by one track; None: by that which all others have, too.
    expected: when silence is."""

    judge: Judge
    track: Track
    codec: Codec
    state: StateCodec
    expected: Sequence[Expected]
    until: int | None


def split(
    table: Mapping[bytes, bytes], fingerprints: Sequence[bytes], until: Sequence[int]
) -> list[dict[bytes, bytes]]:
    """The records of series by the stage that they are restored at; until: of all but the last.
    Those of nobody among them are the first stage's."""
    found: list[dict[bytes, bytes]] = [{} for _ in fingerprints]
    spans = list(zip([None, *until], [*until, None], strict=True))
    for key, value in table.items():
        writer, as_of = origin(value)
        # The first that may have written it: to take the changes at its place again is harmless.
        at = next(
            (
                at
                for at, (one, (begin, end)) in enumerate(zip(fingerprints, spans, strict=True))
                if one == writer
                and (begin is None or begin <= as_of)
                and (end is None or as_of <= end)
            ),
            0,
        )
        found[at][key] = value
    return found


class Succession:
    """Of one partition. pipeline: of its own, with the track of the first stage and no series."""

    def __init__(
        self,
        partition: int,
        pipeline: Pipeline,
        stages: Sequence[Stage],
        saved: Sequence[SavedPartition],
        event_ns: int | None,
    ) -> None:
        self._partition, self._pipeline = partition, pipeline
        self._stages, self._saved = list(stages), list(saved)
        self._as_of: dict[str, int] = {}
        self._enter(0)
        if event_ns is not None:
            pipeline.set_event_ns(partition, event_ns)

    @property
    def changes(self) -> list[Change]:
        """All that lead to what is judged by now."""
        return [
            Change(until=stage.until, by=stage.judge)
            for stage in self._stages
            if stage.until is not None
        ]

    @property
    def mutes(self) -> Mutes:
        """As they are at the last tick that it was given."""
        return self._pipeline.stream.mutes

    def advance(self, position: int) -> bool:
        """Every tick below position has been given. Whether the last change is behind it."""
        while (until := self._stages[self._at].until) is not None and position >= until:
            exchange(self._pipeline, self._stages[self._at + 1].track)
            self._enter(self._at + 1)
        return until is None

    def replay(self, block: RecordBlock) -> tuple[int, RecordBlock]:
        """Process what lies before the last change: how many ticks; and the rest."""
        ticks, rest = 0, block
        while len(rest) and not self.advance(rest.first_offset):
            stage = self._stages[self._at]
            assert stage.until is not None
            old, rest = rest.split(stage.until)
            batch, _ = stage.codec.decode(old)
            ticks += len(self._pipeline.process(batch).outcome)
        return ticks, rest

    def result(self) -> tuple[SavedPartition, int | None]:
        """All that is known of its series, once advance said that the last change is behind; and
        the clock."""
        stage, stream = self._stages[-1], self._pipeline.stream
        state = self._pipeline.snapshot(stream.series.of_partition(self._partition))
        from_ = max(c.until for c in self.changes)
        names = [name for _, name in state.series]
        as_of = np.array([max(self._as_of.get(name, 0), from_) for name in names], np.int64)
        records = stage.state.encode(state, as_of)
        heads = {n: stage.state.head_of(r) for n, r in zip(names, records, strict=True)}
        nothing = PipelineState((), {})
        found = SavedPartition(state, as_of, nothing, np.empty(0, np.int64), False, heads)
        return found, self._pipeline.event_ns(self._partition)

    def _enter(self, at: int) -> None:
        """Ticks of series whose state holds more were of no consequence so far: they leave, and
        come with that state."""
        self._at = at
        self._pipeline.stream.silence.expect(self._stages[at].expected)
        saved = self._saved[at]
        for state, as_of in ((saved.same, saved.same_as_of), (saved.foreign, saved.foreign_as_of)):
            self._take(state, as_of)

    def _take(self, state: PipelineState, as_of: Int64) -> None:
        pipeline, partition = self._pipeline, self._partition
        event_ns = pipeline.event_ns(partition)
        pipeline.drop(state.series)
        pipeline.restore(state, as_of)
        if event_ns is not None:
            pipeline.set_event_ns(partition, event_ns)
        self._as_of |= {
            name: int(at) for (_, name), at in zip(state.series, as_of.tolist(), strict=True)
        }
